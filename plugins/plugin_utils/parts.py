# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a run, what they do and how long: what the callback progress tells."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Callable

# What every part begins with, and what is no part of its own.
OPENERS = ("preflight", "certificates")
SHORT = 10.0
_WIDEST = 60


def source_of(path: str) -> str:
    """The name of the playbook that a play stands in, of 'folder/name.yml:3'."""
    return os.path.basename(re.sub(r":\d+$", "", path)).rpartition(".")[0] or path


def spoken(seconds: float) -> str:
    whole = int(seconds + 0.5)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


@dataclass
class Part:
    name: str
    began: float
    seconds: float = 0
    tasks: int = 0
    changed: int = 0
    failed: int = 0


@dataclass
class _Task:
    name: str
    began: float
    told: float
    hosts: set[str] = field(default_factory=set)


class Parts:
    """Counts what it is told; a second thread may ask for what is waiting."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._order: list[str] = []
        self._place = -1
        self.parts: list[Part] = []
        self._task: _Task | None = None
        self._slow: list[tuple[float, str, str]] = []

    def plan(self, plays: Sequence[str]) -> None:
        """The playbook of each play of the run, in their order."""
        order: list[str] = []
        for name in plays:
            if name not in OPENERS and order[-1:] != [name]:
                order.append(name)
        self._order = order or list(dict.fromkeys(plays))

    @property
    def _many(self) -> bool:
        return len(self._order) > 1

    def play(self, source: str, name: str) -> list[str]:
        """A play begins. An opener belongs to the part that it opens."""
        with self._lock:
            now = self._clock()
            self._end_task(now)
            if source in OPENERS and self._order != [source]:
                following = self._order[self._place + 1 : self._place + 2]
                # Beside the very first part only what is not known yet can be opened.
                if self.parts and source != OPENERS[0] or not following:
                    return []
                source = following[0]
            if self.parts and self.parts[-1].name == source:
                return []
            told = self._end_part(now)
            self._place = next(
                (n for n, one in enumerate(self._order) if n > self._place and one == source),
                self._place,
            )
            self.parts.append(Part(source, now))
            if self._many:
                whole = spoken(now - self._began)
                number = f"{self._place + 1} of {len(self._order)}"
                told.append(f"==> {number}: {source} (after {whole})")
            return told

    def _end_part(self, now: float) -> list[str]:
        if not self.parts:
            return []
        part = self.parts[-1]
        part.seconds = now - part.began
        if not self._many:
            return []
        failed = f", {part.failed} failed" if part.failed else ""
        return [
            f"<== {part.name}: {spoken(part.seconds)}, {part.tasks} tasks,"
            f" {part.changed} changed{failed}"
        ]

    def task(self, name: str) -> None:
        with self._lock:
            now = self._clock()
            self._end_task(now)
            self._task = _Task(name, now, now)
            if self.parts:
                self.parts[-1].tasks += 1

    def _end_task(self, now: float) -> None:
        if self._task is not None:
            part = self.parts[-1].name if self.parts else ""
            self._slow.append((now - self._task.began, self._task.name, part))
            self._slow = sorted(self._slow, reverse=True)[:50]
            self._task = None

    def host_began(self, host: str) -> None:
        with self._lock:
            if self._task is not None:
                self._task.hosts.add(host)

    def host_ended(self, host: str, changed: bool, failed: bool) -> None:
        with self._lock:
            if self._task is not None:
                self._task.hosts.discard(host)
            if self.parts:
                self.parts[-1].changed += changed
                self.parts[-1].failed += failed

    def waiting(self, interval: float) -> list[str]:
        """A line if the task runs for that long since it began or was told of last."""
        with self._lock:
            now = self._clock()
            task = self._task
            if task is None or not task.hosts or now - task.told < interval:
                return []
            task.told = now
            names = sorted(task.hosts)
            who = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            return [f"... {task.name}: {spoken(now - task.began)}, still on {who}"]

    def table(self, slowest: int) -> list[str]:
        """The end: each part's time, tasks and changes, and what took the longest."""
        with self._lock:
            now = self._clock()
            self._end_task(now)
            told = self._end_part(now)
            whole = now - self._began
            if not self.parts or (not self._many and whole < SHORT):
                return told
            rows = [("part", "time", "tasks", "changed", "failed")]
            rows += [
                (one.name, spoken(one.seconds), str(one.tasks), str(one.changed), str(one.failed))
                for one in self.parts
            ]
            sums = [
                str(sum(one.tasks for one in self.parts)),
                str(sum(one.changed for one in self.parts)),
                str(sum(one.failed for one in self.parts)),
            ]
            rows.append(("all", spoken(whole), sums[0], sums[1], sums[2]))
            widths = [max(len(row[n]) for row in rows) for n in range(5)]
            told.append("")
            for row in rows:
                cells = [row[0].ljust(widths[0])]
                cells += [row[n].rjust(widths[n]) for n in range(1, 5)]
                told.append("  ".join(cells))
            slow = [one for one in self._slow if one[0] >= 1][:slowest]
            if slow:
                told += ["", "slowest tasks"]
                told += [f"{spoken(seconds):>11}  {name[:_WIDEST]} ({part})"
                         for seconds, name, part in slow]  # fmt: skip
            return told
