# SPDX-License-Identifier: GPL-3.0-or-later
"""Something to watch: as healthy as the files in /run/target say."""

import http.server
import os
import time


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if os.path.exists("/run/target/slow"):
            time.sleep(3)
        status = 503 if os.path.exists("/run/target/ill") else 200
        if self.headers["Host"] != "shop.example":
            status = 421
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


os.makedirs("/run/target", exist_ok=True)
http.server.ThreadingHTTPServer(("127.0.0.1", 8099), Handler).serve_forever()
