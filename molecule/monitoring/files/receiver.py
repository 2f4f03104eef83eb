# SPDX-License-Identifier: GPL-3.0-or-later
"""Catches what alerts send: posts on 8097 and mail on 2525, a line of JSON each."""

import http.server
import json
import os

from aiosmtpd.controller import Controller

FOLDER = "/run/receiver"


def keep(name, told):
    with open(f"{FOLDER}/{name}.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")


class Posts(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        keep(
            "posts",
            {"path": self.path, "token": self.headers["Authorization"], "body": json.loads(body)},
        )
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


class Mail:
    async def handle_DATA(self, server, session, envelope):
        keep("mail", {"to": envelope.rcpt_tos, "text": envelope.content.decode()})
        return "250 kept"


os.makedirs(FOLDER, exist_ok=True)
Controller(Mail(), hostname="127.0.0.1", port=2525).start()
http.server.ThreadingHTTPServer(("127.0.0.1", 8097), Posts).serve_forever()
