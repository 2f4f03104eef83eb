# SPDX-License-Identifier: GPL-3.0-or-later
"""The example in a real browser, through nginx: nothing that the policy forbids, and live."""

from __future__ import annotations

import pytest
from browser import Browser, find_chromium

pytestmark = [
    pytest.mark.units("nginx.service", "live-dashboard.service"),
    pytest.mark.skipif(find_chromium() is None, reason="no chromium here"),
]


@pytest.fixture
def address(host):
    return "http://" + host.check_output("hostname -I").split()[0]


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
