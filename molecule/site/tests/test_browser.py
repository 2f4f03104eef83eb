# SPDX-License-Identifier: GPL-3.0-or-later
"""The example in a real browser, through nginx: nothing that the policy forbids, and live."""

from __future__ import annotations

import contextlib
import os
import socketserver
import subprocess
import threading

import pytest
from browser import Browser, find_chromium

pytestmark = [
    pytest.mark.units("nginx.service", "live-dashboard.service"),
    pytest.mark.skipif(find_chromium() is None, reason="no chromium here"),
]


@pytest.fixture
def address(host):
    return "http://" + host.check_output("hostname -I").split()[0]


# What listens on the host's loopback only, as a tunnel by ssh would bring it.
RELAY = """
import os, socket, sys, threading
link = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def back():
    while block := link.recv(1 << 16):
        os.write(1, block)
    os._exit(0)
threading.Thread(target=back).start()
while block := os.read(0, 1 << 16):
    link.sendall(block)
link.shutdown(socket.SHUT_WR)
"""


@contextlib.contextmanager
def tunnel(host, port):
    docker = os.environ.get("ANSIBLE_DOCKER_COMMAND", "docker")
    name = host.check_output("hostname")

    class Relay(socketserver.BaseRequestHandler):
        def handle(self):
            with self.request.makefile("rwb", buffering=0) as link:
                subprocess.run(
                    [docker, "exec", "-i", name, "python3", "-c", RELAY, str(port)],
                    stdin=link, stdout=link, stderr=subprocess.DEVNULL, check=False,
                )  # fmt: skip

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def browser():
    with Browser() as browser:
        yield browser


def test_pages_load_all_that_they_need(browser, address):
    for path in ("/auth/login", "/auth/register", "/auth/verify"):
        browser.open(address + path)
        assert browser.run("document.styleSheets.length") == 1
    assert browser.complaints == []


def test_the_dashboard_is_live(browser, address):
    browser.open(address + "/auth/login")
    browser.submit(
        "document.querySelector('[name=email]').value = 'demo@example.com';"
        "document.querySelector('[name=password]').value = 'demo-password-2025';"
        "document.querySelector('main form').submit()"
    )
    state = "document.getElementById('connection').textContent"
    assert browser.wait(f"{state} != 'Connecting' && {state}") == "Live"
    assert browser.sockets
    assert browser.complaints == []


def test_the_policy_holds_in_the_browser(browser, address):
    browser.open(address + "/auth/login")
    browser.run(
        "window.ran = 0; const one = document.createElement('script');"
        "one.textContent = 'window.ran = 1'; document.body.append(one)"
    )
    assert browser.run("window.ran") == 0
    assert any("Content Security Policy" in said for said in browser.complaints)


def test_the_status_page_shows_the_host_and_draws_its_charts(host, browser):
    with tunnel(host, 9090) as address:
        browser.open(f"{address}/consoles/golive.html")
        assert "targets are read" in browser.run("document.getElementById('state').innerText")
        assert host.check_output("hostname") in browser.run(
            "document.getElementById('hosts').innerText"
        )
        assert browser.wait("document.querySelectorAll('#charts polyline').length") >= 1
        assert browser.complaints == []
