# SPDX-License-Identifier: GPL-3.0-or-later
"""The least that an application can do."""


def app(environ, start_response):
    body = b"Hello, world!\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
