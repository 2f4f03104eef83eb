# SPDX-License-Identifier: GPL-3.0-or-later
"""A real browser for tests: Chromium without a window, spoken to over its own pipe.

    with Browser() as browser:
        browser.open("http://127.0.0.1:8080/auth/login")
        browser.run("document.title")
        assert browser.complaints == []

``complaints`` has what a user would find in the console: errors, warnings, and what the page's
Content-Security-Policy kept from loading or running.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any


def find_chromium() -> str | None:
    """The browser's program, if this machine has one."""
    return shutil.which("chromium") or shutil.which("google-chrome")


class Browser:
    """One page in a profile of its own."""

    def __init__(self, arguments: Sequence[str] = (), timeout: float = 60) -> None:
        program = find_chromium()
        if program is None:
            raise FileNotFoundError("no chromium on this machine: apt-get install chromium")
        self.complaints: list[str] = []
        self.sockets: list[str] = []
        self._timeout = timeout
        self._number = 0
        self._loaded = 0
        self._profile = tempfile.TemporaryDirectory(
            prefix="golive-browser-", ignore_cleanup_errors=True
        )
        to_read, self._to = os.pipe()
        self._from, from_write = os.pipe()

        def fds() -> None:
            # Chromium reads its commands from 3 and answers on 4.
            high = os.dup(from_write)
            os.dup2(to_read, 3)
            os.dup2(high, 4)
            os.set_inheritable(3, True)
            os.set_inheritable(4, True)

        self._process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", f"--user-data-dir={self._profile.name}", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=fds,
        )  # fmt: skip
        os.close(to_read)
        os.close(from_write)
        self._rest = b""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = ""
        told = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = told["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + self._timeout
        while b"\0" not in self._rest:
            if time.monotonic() > end:
                raise TimeoutError("the browser is silent")
            block = os.read(self._from, 1 << 16)
            if not block:
                raise ConnectionError("the browser has ended")
            self._rest += block
        message, _, self._rest = self._rest.partition(b"\0")
        told: dict[str, Any] = json.loads(message)
        self._note(told.get("method", ""), told.get("params", {}))
        return told

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded += 1
        elif method == "Network.webSocketFrameReceived":
            self.sockets.append(params["response"]["payloadData"])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
            entry = params["entry"]
            self.complaints.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(f"exception: {params['exceptionDetails'].get('text')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("warning", "error"):
            self.complaints.append(f"console: {[one.get('value') for one in params['args']]}")

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        asked = {"id": self._number, "method": method, "params": params}
        if getattr(self, "_session", ""):
            asked["sessionId"] = self._session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._number:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']}")
                return dict(told["result"])

    def open(self, url: str) -> None:
        """Go to a page, and wait until it has loaded."""
        before = self._loaded
        told = self._ask("Page.navigate", url=url)
        if told.get("errorText"):
            raise ConnectionError(f"{url}: {told['errorText']}")
        self.loaded(before)

    def loaded(self, before: int) -> None:
        """Wait for the page after the given number of loads."""
        while self._loaded <= before:
            self._next()

    def run(self, script: str) -> Any:
        """What a script in the page gives."""
        told = self._ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in told:
            raise RuntimeError(told["exceptionDetails"]["exception"].get("description"))
        return told["result"].get("value")

    def submit(self, script: str) -> None:
        """Run a script that leads to another page, and wait for that."""
        before = self._loaded
        self.run(script)
        self.loaded(before)

    def wait(self, script: str) -> Any:
        """Wait until a script in the page gives something."""
        end = time.monotonic() + self._timeout
        while time.monotonic() < end:
            told = self.run(script)
            if told:
                return told
            time.sleep(0.1)
        raise TimeoutError(f"never true: {script}")
