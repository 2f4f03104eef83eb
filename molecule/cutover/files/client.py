# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a log entry after the other through the proxy, and notes each that was acknowledged."""

import contextlib
import http.client
import json
import sys
import time

number = 0
with open(sys.argv[1], "a", buffering=1) as acknowledged:
    while True:
        message = f"client-{number}"
        number += 1
        connection = http.client.HTTPConnection("127.0.0.1", timeout=30)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request(
                "POST",
                "/api/logs",
                json.dumps({"level": "info", "message": message}),
                {"Content-Type": "application/json", "X-API-Key": "demo-api-key-0001"},
            )
            answer = connection.getresponse()
            answer.read()
            acknowledged.write(f"{answer.status} {message}\n")
        connection.close()
        time.sleep(0.1)
