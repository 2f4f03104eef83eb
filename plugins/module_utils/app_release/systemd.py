# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd's units, through systemctl."""

from __future__ import annotations

# This part runs without Ansible too, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import subprocess
from dataclasses import dataclass

from .errors import ReleaseError


@dataclass(frozen=True)
class State:
    """What systemd says of a unit."""

    active: str
    sub: str
    result: str
    pid: int
    restarts: int
    loaded: bool
    reload_needed: bool

    @property
    def runs(self) -> bool:
        return self.active in ("active", "activating", "reloading", "deactivating")


def state_from(text: str) -> State:
    told = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    return State(
        active=told.get("ActiveState", "inactive"),
        sub=told.get("SubState", "dead"),
        result=told.get("Result", ""),
        pid=int(told.get("MainPID") or 0),
        restarts=int(told.get("NRestarts") or 0),
        loaded=told.get("LoadState") == "loaded",
        reload_needed=told.get("NeedDaemonReload") == "yes",
    )


def systemctl(*arguments: str, may_fail: bool = False) -> str:
    done = subprocess.run(
        ["systemctl", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode and not may_fail:
        said = (done.stderr or done.stdout).strip()
        raise ReleaseError(f"systemctl {' '.join(arguments)} failed: {said}")
    return done.stdout


def state(unit: str) -> State:
    names = "ActiveState,SubState,Result,MainPID,NRestarts,LoadState,NeedDaemonReload"
    return state_from(systemctl("show", "-p", names, unit, may_fail=True))


def shown(unit: str, name: str) -> str:
    return systemctl("show", "-p", name, "--value", unit, may_fail=True).strip()


def journal(units: list[str], since: float, lines: int = 30) -> str:
    """The last lines of these units since a moment, in seconds since 1970."""
    # With a moment, --lines gives the first ones in systemd 252.
    done = subprocess.run(
        [
            *("journalctl", "--no-pager", "-o", "cat", f"--since=@{int(since)}"),
            *(f"--unit={unit}" for unit in units),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return "".join(done.stdout.splitlines(keepends=True)[-lines:])
