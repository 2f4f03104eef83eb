# SPDX-License-Identifier: GPL-3.0-or-later
"""Sites on this host are asked by their names."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.nginx_probe import Site, ask_all

seen: list[tuple[str, str]] = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        seen.append((self.headers["Host"], self.path))
        # A site that needs a while: its third request is answered well.
        late = self.path == "/late" and seen.count((self.headers["Host"], "/late")) < 3
        self.send_response(500 if late else int(self.headers["Host"].split(".")[0][1:]))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    seen.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_each_site_is_asked_by_its_name(port: int) -> None:
    sites = [Site(str(status), port, f"s{status}.example", "/x") for status in (204, 404, 502)]
    answers = ask_all(sites, retries=0)
    assert [(one.name, one.status, one.problem) for one in answers] == [
        ("204", 204, ""),
        ("404", 404, ""),
        ("502", 502, ""),
    ]
    assert seen == [(site.host, "/x") for site in sites]


def test_what_is_no_answer_is_told(port: int) -> None:
    sites = [Site("a", port, "s400.example", "/"), Site("b", 1, "s200.example", "/")]
    bad, away = ask_all(sites, retries=1, delay=0)
    assert bad.status == 400 and "s400.example" in bad.problem
    assert away.status == 0 and "refused" in away.problem
    assert len(seen) == 2


def test_a_site_that_is_late_is_asked_again_alone(port: int) -> None:
    sites = [Site("late", port, "s200.example", "/late"), Site("b", port, "s200.example", "/b")]
    assert [one.problem for one in ask_all(sites, retries=5, delay=0)] == ["", ""]
    assert [path for _unused, path in seen].count("/late") == 3
    assert [path for _unused, path in seen].count("/b") == 1
