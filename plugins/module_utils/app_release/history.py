# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who, what, when, how long and with what outcome; one line of JSON each."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

from .layout import guarded, read_text, utc, write_atomically

KEPT = 500
_SPARE = 100


@dataclass(frozen=True)
class Event:
    what: str
    by: str
    outcome: str
    when: str
    seconds: float = 0
    before: str | None = None
    after: str | None = None
    reason: str = ""


def event(what: str, by: str, outcome: str, started: float, ended: float, **more: Any) -> Event:
    return Event(what, by, outcome, utc(started), round(ended - started, 1), **more)


def append(path: str, entry: Event) -> None:
    line = json.dumps(asdict(entry), ensure_ascii=False) + "\n"
    with guarded(os.path.dirname(path)):
        text = read_text(path) or ""
        lines = text.splitlines(keepends=True)
        if len(lines) >= KEPT + _SPARE:
            write_atomically(path, "".join(lines[-KEPT + 1 :]) + line)
            return
        # A line that a full disk or a power cut left without its end must not swallow this one.
        begin = "\n" if text and not text.endswith("\n") else ""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, (begin + line).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read(path: str, last: int = 20) -> list[dict[str, Any]]:
    """The last events, the newest first; lines that are no JSON are left out."""
    found = []
    for line in reversed((read_text(path) or "").splitlines()):
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict):
            found.append(told)
        if len(found) == last:
            break
    return found
