# SPDX-License-Identifier: GPL-3.0-or-later
"""A person's way through the example application, by plain HTTP and cookies."""

from __future__ import annotations

import http.cookiejar
import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

LOGIN = ("demo@example.com", "demo-password-2025")


class Visitor:
    """One browser's worth of cookies against one address."""

    def __init__(self, address: str) -> None:
        self.base = f"http://{address}"
        # An environment's proxy must not stand between a test and its own containers.
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )

    def get(self, path: str, **headers: str) -> tuple[int, str, Any]:
        """Status, body and headers; an error status is an answer too."""
        request = urllib.request.Request(self.base + path, headers=headers)
        return self._open(request)

    def post(self, path: str, fields: dict[str, str]) -> tuple[int, str, Any]:
        data = urllib.parse.urlencode(fields).encode()
        return self._open(urllib.request.Request(self.base + path, data=data))

    def json(self, path: str) -> Any:
        status, body, _ = self.get(path)
        assert status == 200, f"{path}: status {status}: {body[:500]}"
        return json.loads(body)

    def log_in(self) -> str:
        """Log in as the demo's user; the page that comes after it."""
        _, page, _ = self.get("/auth/login")
        token = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert token, f"the login page has no form token: {page[:500]}"
        email, password = LOGIN
        status, page, _ = self.post(
            "/auth/login", {"email": email, "password": password, "csrf_token": token[1]}
        )
        assert status == 200, f"status {status} after the login: {page[:500]}"
        return page

    def _open(self, request: urllib.request.Request) -> tuple[int, str, Any]:
        try:
            with self.opener.open(request, timeout=20) as answer:
                return answer.status, answer.read().decode(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace"), error.headers


class Visits(threading.Thread):
    """Asks for one path again and again; `statuses` are the answers', or the errors' texts."""

    def __init__(self, visitor: Visitor, path: str = "/health") -> None:
        super().__init__(daemon=True)
        self.visitor = visitor
        self.path = path
        self.statuses: list[object] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.statuses.append(self.visitor.get(self.path)[0])
            except OSError as error:
                self.statuses.append(repr(error))
            time.sleep(0.05)

    def __enter__(self) -> Visits:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.join()
