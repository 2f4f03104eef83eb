# SPDX-License-Identifier: GPL-3.0-or-later
"""A web application to stand behind nginx: tells what it was asked. Listens on a port or path."""

import base64
import hashlib
import http.server
import json
import os
import socketserver
import sys
import time

WHERE = sys.argv[1]
WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {"Content-Type": "application/json", "X-Request-ID": "the application's"}
        if self.headers.get("Upgrade") == "websocket":
            return self.upgrade()
        told = {"where": WHERE, "path": self.path, "headers": dict(self.headers)}
        if self.path.startswith("/own-headers"):
            headers["X-Frame-Options"] = "DENY"
            headers["Content-Security-Policy"] = "default-src 'none'"
            headers["Referrer-Policy"] = "no-referrer"
            headers["X-Content-Type-Options"] = "nosniff"
        if self.path.startswith("/big"):
            told["rows"] = ["the same again"] * 2000
        if self.path.startswith(("/cached/private", "/cached-by-force")):
            headers["Cache-Control"] = "private"
        if self.path.startswith("/cached/short"):
            headers["Cache-Control"] = "max-age=1"
        if self.path.startswith("/slow"):
            time.sleep(4)
        body = json.dumps(told).encode()
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET

    def upgrade(self):
        key = self.headers["Sec-WebSocket-Key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.wfile.write(self.connection.recv(100))
        self.close_connection = True

    def address_string(self):
        return "nginx"

    def log_message(self, *arguments):
        pass


class UnixServer(http.server.ThreadingHTTPServer):
    address_family = socketserver.UnixStreamServer.address_family

    def server_bind(self):
        if os.path.exists(WHERE):
            os.unlink(WHERE)
        socketserver.TCPServer.server_bind(self)
        os.chmod(WHERE, 0o666)
        self.server_name = self.server_port = WHERE


if WHERE.startswith("/"):
    server = UnixServer(WHERE, Handler)
else:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(WHERE)), Handler)
server.serve_forever()
