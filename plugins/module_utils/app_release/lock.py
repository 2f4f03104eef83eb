# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time on a host: the lock with its holder, its age and the ways to break it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .errors import ReleaseError
from .layout import guarded, read_text, utc, write_atomically
from .run_identity import is_gone

UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Lock:
    """`id` is one for each run of Ansible; `place` is the control node whose process holds it."""

    id: str
    by: str = ""
    purpose: str = ""
    since: float = 0
    refreshed: float = 0
    place: str = ""
    pid: int = 0
    started: int = 0

    def told(self, now: float) -> dict[str, Any]:
        facts: dict[str, Any] = asdict(self)
        facts.update(
            since=utc(self.since),
            refreshed=utc(self.refreshed),
            age=int(now - self.since),
            silent=int(now - self.refreshed),
        )
        return facts


@dataclass(frozen=True)
class Outcome:
    acquired: bool
    changed: bool
    held: Lock | None = None
    warnings: list[str] = field(default_factory=list)


def read(path: str) -> Lock | None:
    text = read_text(path)
    if text is None:
        return None
    try:
        told = json.loads(text)
        return Lock(**{name: told[name] for name in Lock.__dataclass_fields__ if name in told})
    except (ValueError, TypeError):
        changed = os.stat(path).st_mtime
        return Lock(UNREADABLE, "somebody", "unknown", changed, changed)


def _write(path: str, lock: Lock) -> None:
    write_atomically(path, json.dumps(asdict(lock), indent=1) + "\n")


def _age(seconds: float) -> str:
    whole = max(int(seconds), 0)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


def refusal(held: Lock, now: float, option: str) -> str:
    return (
        f"Another run is at work here: {held.by}, {held.purpose}, since {utc(held.since)} "
        f"({_age(now - held.since)}), last heard of {_age(now - held.refreshed)} ago. Wait for it. "
        f"If it is dead, break its lock: {option}={held.id}"
    )


def acquire(
    path: str,
    wanted: Lock,
    timeout: float,
    break_id: str = "",
    running: Collection[str] = (),
    now: float | None = None,
    check: bool = False,
) -> Outcome:
    """Take the lock, if nobody has it, or it is this run's, stale, broken by name, or of a process
    that is not among those that run on its control node."""
    now = time.time() if now is None else now
    if check and not os.path.isdir(os.path.dirname(path)):
        return Outcome(True, True)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with guarded(os.path.dirname(path)):
        held = read(path)
        warnings = []
        if held is not None and held.id == wanted.id:
            if not check:
                _write(path, replace(held, refreshed=now, purpose=wanted.purpose or held.purpose))
            return Outcome(True, False, held)
        if held is not None:
            told = f"the lock of {held.by} ({held.purpose}, since {utc(held.since)})"
            if break_id and break_id == held.id:
                warnings.append(f"Broke {told}, as asked.")
            elif is_gone(vars(held), wanted.place, running):
                warnings.append(f"Took over {told}: its process {held.pid} is gone.")
            elif now - held.refreshed > timeout:
                warnings.append(
                    f"Took over {told}: not heard of for {_age(now - held.refreshed)}, more than "
                    f"{_age(timeout)}."
                )
            else:
                return Outcome(False, False, held)
        if not check:
            _write(path, replace(wanted, since=now, refreshed=now))
        return Outcome(True, True, wanted, warnings)


def release(path: str, lock_id: str, check: bool = False) -> bool:
    """Let go of it, if it is this run's; another's stays."""
    if not os.path.isdir(os.path.dirname(path)):
        return False
    with guarded(os.path.dirname(path)):
        held = read(path)
        if held is None or held.id != lock_id:
            return False
        if not check:
            os.unlink(path)
        return True


def refresh(path: str, lock_id: str) -> None:
    """Tell that this run lives; refuse to go on if another has the lock."""
    if not os.path.isdir(os.path.dirname(path)):
        return
    with guarded(os.path.dirname(path)):
        held = read(path)
        if held is None:
            return
        if held.id != lock_id:
            raise ReleaseError(
                f"The lock {path} belongs to another run: {held.by}, {held.purpose}, since "
                f"{utc(held.since)}. Nothing was changed. Wait for it and start again."
            )
        _write(path, replace(held, refreshed=time.time()))


@contextlib.contextmanager
def kept(path: str, lock_id: str, every: float = 30) -> Iterator[None]:
    """The lock is refreshed while the work goes on, however long one step takes."""
    if not lock_id:
        yield
        return
    refresh(path, lock_id)
    over = threading.Event()

    def run() -> None:
        while not over.wait(every):
            with contextlib.suppress(ReleaseError, OSError):
                refresh(path, lock_id)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
