# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to the application, over a unix socket or an address."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Health:
    path: str
    status: tuple[int, ...]
    host: str
    timeout: float


class _Link(http.client.HTTPConnection):
    def __init__(self, address: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._address = address

    def connect(self) -> None:
        self.sock = connect(self._address, self.timeout or 5)


def connect(address: str, timeout: float) -> socket.socket:
    if address.startswith("/"):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(timeout)
        try:
            link.connect(address)
        except OSError:
            link.close()
            raise
        return link
    host, _unused, port = address.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    return socket.create_connection((host, int(port)), timeout)


def ask(address: str, health: Health, timeout: float = 5) -> str:
    """Empty if the answer is a good one, else what came instead."""
    link = _Link(address, timeout)
    try:
        link.request("GET", health.path, headers={"Host": health.host, "Connection": "close"})
        answer = link.getresponse()
        answer.read(65536)
    except (OSError, http.client.HTTPException) as error:
        return f"{health.path}: {error or type(error).__name__}"
    finally:
        link.close()
    if answer.status in health.status:
        return ""
    wanted = ", ".join(map(str, health.status))
    return f"{health.path} was answered with status {answer.status}, not {wanted}"
