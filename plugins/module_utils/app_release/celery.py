# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Celery's workers and its beat, from the live release; they follow a switch."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass

from . import commands, systemd
from .errors import ReleaseError
from .layout import Layout, point, read_text, write_atomically

# A unit has another one each time that it starts.
_RUN = "InvocationID"
_ANSWER = re.compile(r"^->\s*(\S+?):\s*OK", re.M)


@dataclass(frozen=True)
class Celery:
    layout: Layout
    user: str
    app: str
    workers: int
    beat: bool
    timeout: float = 60

    def wanted(self) -> list[str]:
        if not self.app:
            return []
        units = [self._worker(number) for number in range(1, self.workers + 1)]
        return units + ([f"{self.layout.name}-beat.service"] if self.beat else [])

    def _worker(self, number: int | str) -> str:
        return f"{self.layout.name}-worker@{number}.service"

    def _links(self) -> list[str]:
        folder = f"{self.layout.units}/multi-user.target.wants"
        own = re.compile(rf"{re.escape(self.layout.name)}-(worker@\d+|beat)\.service")
        if not os.path.isdir(folder):
            return []
        return [name for name in sorted(os.listdir(folder)) if own.fullmatch(name)]

    @property
    def _notes(self) -> str:
        return f"{self.layout.etc}/celery.json"

    def _state(self) -> str:
        """What the processes are started from, in short."""
        slot = self.layout.live_slot() or ""
        texts = [self.layout.live_release(), read_text(f"{self.layout.slot_etc(slot)}/environment")]
        for name in ("worker@", "beat"):
            texts.append(read_text(f"{self.layout.units}/{self.layout.name}-{name}.service"))
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()

    def _noted(self) -> dict[str, str]:
        try:
            told = json.loads(read_text(self._notes) or "{}")
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}

    def stale(self) -> list[str]:
        noted, state = self._noted(), self._state()
        return [
            unit
            for unit in self.wanted()
            if noted.get(unit) != state or systemd.state(unit).active != "active"
        ]

    def unwanted(self) -> list[str]:
        return [unit for unit in self._links() if unit not in self.wanted()]

    def needs(self) -> bool:
        if self.layout.live_slot() is None:
            return False
        return bool(self.stale() or self.unwanted())

    def follow(self) -> dict[str, str] | None:
        """Workers finish their tasks and start from the live release; nobody waits for that.

        The units that are restarted, each with the identity of the run that ends; None if there was
        nothing to do.
        """
        if self.layout.live_slot() is None:
            return None
        stale, unwanted = self.stale(), self.unwanted()
        if not stale and not unwanted:
            return None
        before = {unit: systemd.shown(unit, _RUN) for unit in stale}
        folder = f"{self.layout.units}/multi-user.target.wants"
        for unit in unwanted:
            os.unlink(f"{folder}/{unit}")
        os.makedirs(folder, exist_ok=True)
        for unit in self.wanted():
            template = re.sub(r"@\d+\.", "@.", unit)
            point(f"{folder}/{unit}", f"{self.layout.units}/{template}")
        systemd.systemctl("daemon-reload")
        if unwanted:
            systemd.systemctl("stop", "--no-block", *unwanted)
        if stale:
            systemd.systemctl("reset-failed", *stale, may_fail=True)
            systemd.systemctl("restart", "--no-block", *stale)
        state = self._state()
        notes = dict.fromkeys(self.wanted(), state)
        write_atomically(self._notes, json.dumps(notes, indent=1) + "\n")
        return before

    def answering(self) -> tuple[set[str], str]:
        slot = self.layout.live_slot() or ""
        done = commands.run(
            self.layout,
            "celery-ping",
            self.user,
            self.layout.release_path(self.layout.live_release() or ""),
            f"{self.layout.slot_etc(slot)}/environment",
            f"celery --app {self.app} inspect ping --timeout 3",
            timeout=60,
        )
        return set(_ANSWER.findall(done.output)), done.told

    def prove(self, host: str, before: dict[str, str]) -> tuple[list[str], list[str]]:
        """The workers of this host that answer, and those that still finish a task of before.

        `before` is what `follow` gave: the last answer of a worker that stops is no proof of the
        one that comes after it. As long as none has answered, those that stop are waited for.
        """
        if not self.app or not self.workers:
            return [], []
        names = {f"{self.layout.name}-{number}@{host}": number for number in self._numbers()}
        # What they said before this switch is another release's.
        since = time.time() - 5
        until = time.monotonic() + self.timeout
        while True:
            # Looked at before they are asked.
            new = {name for name, number in names.items() if self._runs_anew(number, before)}
            answered, told = self.answering()
            proved = new & answered
            stopping = {
                name
                for name in set(names) - proved
                if systemd.state(self._worker(names[name])).active == "deactivating"
            }
            missing = set(names) - proved - stopping
            late = time.monotonic() > until
            if not missing and (proved or late):
                return sorted(proved), sorted(stopping)
            if late:
                units = [self._worker(names[name]) for name in sorted(missing)]
                raise ReleaseError(
                    f"The Celery workers {', '.join(units)} do not answer `celery inspect ping` "
                    f"within {self.timeout:g} s.\n{told[-1000:]}",
                    systemd.journal(units, since),
                )
            time.sleep(1)

    def _runs_anew(self, number: int, before: dict[str, str]) -> bool:
        unit = self._worker(number)
        if systemd.state(unit).active != "active":
            return False
        return unit not in before or systemd.shown(unit, _RUN) != before[unit]

    def _numbers(self) -> range:
        return range(1, self.workers + 1)
