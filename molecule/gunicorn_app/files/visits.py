# SPDX-License-Identifier: GPL-3.0-or-later
"""Visits a unix socket until a file is there, with writes and slow requests; tells what failed."""

import http.client
import json
import os
import socket
import sys
import threading
import time

where, end = sys.argv[1:]
if os.path.exists(end):
    os.unlink(end)
failed = []
counts = []


class Link(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(where)


def visit(method, path):
    count = 0
    while not os.path.exists(end):
        link = Link("localhost")
        try:
            link.request(method, path, body=b"x" * 10 if method == "POST" else None)
            answer = link.getresponse()
            answer.read()
            if answer.status != 200:
                failed.append(f"{path}: {answer.status}")
        except (OSError, http.client.HTTPException) as error:
            failed.append(f"{path}: {error!r}")
        link.close()
        count += 1
        time.sleep(0.1)
    counts.append(count)


kinds = [("POST", "/write"), ("GET", "/"), ("GET", "/slow")]
threads = [threading.Thread(target=visit, args=kind) for kind in kinds]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({"requests": sum(counts), "failed": len(failed), "first": failed[:5]}))
