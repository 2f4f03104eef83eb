# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second release beside the live one, on a socket of its own, for a part of the visitors."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

from . import history, systemd
from .errors import ReleaseError
from .layout import CANARY, Layout, point
from .switch import Result, Settings, Switch, remove_socket, socket_is_older


@dataclass(frozen=True)
class Canary:
    layout: Layout
    settings: Settings
    listen: str
    by: str

    @property
    def _switch(self) -> Switch:
        return Switch(self.layout, replace(self.settings, listen=self.listen))

    @property
    def _socket(self) -> str:
        return f"{self.layout.name}-canary.socket"

    def _links(self) -> dict[str, str]:
        return {
            "multi-user.target.wants": self.layout.unit(CANARY),
            "sockets.target.wants": self._socket,
        }

    def is_present(self, release_id: str) -> bool:
        return (
            self._switch.is_current(CANARY, release_id)
            and systemd.state(self.layout.unit(CANARY)).active == "active"
            and not socket_is_older(self.layout, self._socket)
        )

    def present(self, release_id: str) -> Result:
        begun, clock = time.time(), time.monotonic()
        before = self.layout.slot_release(CANARY)
        if not self.layout.is_built(release_id):
            raise ReleaseError(f"Release {release_id} is not complete. Build it first.")
        systemd.systemctl("daemon-reload")
        if self.is_present(release_id):
            return Result(False, release_id, before, CANARY)
        switch = self._switch
        # What comes meanwhile waits at the canary's socket.
        if systemd.state(self.layout.unit(CANARY)).runs:
            switch.retire(CANARY)
        if socket_is_older(self.layout, self._socket):
            systemd.systemctl("restart", self._socket)
        switch.prepare(CANARY, release_id)
        try:
            switch.start(CANARY)
            switch.admit(CANARY)
        except BaseException as error:
            told = ReleaseError(
                f"Release {release_id} of {self.layout.name} did not become the canary: {error}\n"
                "No canary runs now; the live release is as it was.",
                switch.last_words(CANARY),
            )
            self._end(switch)
            self._remember("failed", begun, before, release_id, str(error).splitlines()[0])
            if isinstance(error, ReleaseError):
                raise told from error
            raise
        for folder, unit in self._links().items():
            os.makedirs(f"{self.layout.units}/{folder}", exist_ok=True)
            point(f"{self.layout.units}/{folder}/{unit}", f"{self.layout.units}/{unit}")
        systemd.systemctl("daemon-reload")
        self._remember("done", begun, before, release_id, "")
        return Result(True, release_id, before, CANARY, round(time.monotonic() - clock, 1))

    def absent(self) -> Result:
        begun = time.time()
        before = self.layout.slot_release(CANARY)
        there = [self.layout.unit(CANARY), self._socket]
        files = [f"{self.layout.units}/{unit}" for unit in there]
        if before is None and not any(map(os.path.exists, files)):
            return Result(False, "", None, None)
        self._end(self._switch)
        for path in files:
            if os.path.exists(path):
                os.unlink(path)
        systemd.systemctl("daemon-reload")
        self._remember("ended", begun, before, None, "")
        return Result(True, "", before, None, round(time.time() - begun, 1))

    def _end(self, switch: Switch) -> None:
        systemd.systemctl("stop", self._socket, may_fail=True)
        switch.retire(CANARY)
        remove_socket(self.listen)
        switch.forget(CANARY)
        for folder, unit in self._links().items():
            link = f"{self.layout.units}/{folder}/{unit}"
            if os.path.islink(link):
                os.unlink(link)

    def _remember(
        self, outcome: str, begun: float, before: str | None, after: str | None, reason: str
    ) -> None:
        now = time.time()
        entry = history.event(
            "canary", self.by, outcome, begun, now, before=before, after=after, reason=reason
        )
        history.append(self.layout.history, entry)
