# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last commit before a moment, as a position in WAL.

Recovery to a time stops only at a commit. What a command does before its own commit is replayed
until then, and DROP DATABASE removes its files before it: on a quiet server a restore to the
second before it would lack the database. A position stops at once.
"""

from __future__ import annotations

# It runs on the host without Ansible, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import dataclasses
import datetime
import os
import re
import shutil
import subprocess

from .common import BackupError, environment
from .pgbackrest import Backup, PgBackRest

_COMMIT = re.compile(
    r"lsn: ([0-9A-F]+/[0-9A-F]+), .* desc: (?:COMMIT|ABORT)\S* .*?"
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC"
)


@dataclasses.dataclass(frozen=True)
class Stop:
    """Where to stop; no position means at the end of the backup. `complete`: WAL goes further."""

    lsn: str
    timeline: int
    complete: bool


def commits(text: str) -> list[tuple[str, datetime.datetime]]:
    """Position and time of each commit that `pg_waldump` tells."""
    return [
        (
            lsn,
            datetime.datetime.strptime(moment, "%Y-%m-%d %H:%M:%S.%f").replace(
                tzinfo=datetime.timezone.utc
            ),
        )
        for lsn, moment in _COMMIT.findall(text)
    ]


def last_segment(archived: dict[str, float], moment: float) -> tuple[str, bool]:
    """The segment in which the moment is, and whether it was there after the moment.

    A repository's clock may be some seconds off, which a segment more makes good.
    """
    after = [name for name, there in archived.items() if there >= moment]
    if not after:
        return max(archived, key=lambda name: (archived[name], name)), False
    first = min(after, key=lambda name: (archived[name], name))
    following = sorted(name for name in archived if name[:8] == first[:8] and name > first)
    return (following[0] if following else first), True


def find(
    pg: PgBackRest, backup: Backup, data: str, binaries: str, moment: datetime.datetime
) -> Stop:
    """The stop for a moment, from WAL that the repository has."""
    archived = pg.archived(backup.repository, backup.wal_stop)
    archived = {name: there for name, there in archived.items() if name[8:] >= backup.wal_stop[8:]}
    if not archived:
        raise BackupError("The repository has no WAL of its newest backup.")
    last, complete = last_segment(archived, moment.timestamp())
    names = sorted(name for name in archived if name[:8] == last[:8] and name <= last)
    folder = f"{data}.wal"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    try:
        width, fetched = 2, 0
        while True:
            wanted = names[-width:]
            for name in wanted[: len(wanted) - fetched]:
                pg.fetch(backup.repository, name, data, os.path.join(folder, name))
            fetched = len(wanted)
            found = commits(_dump(binaries, folder, wanted))
            before = [lsn for lsn, when in found if when <= moment]
            if before:
                complete = complete or len(before) < len(found)
                return Stop(before[-1], int(last[:8], 16), complete)
            if len(wanted) == len(names):
                if last[:8] != backup.wal_stop[:8]:
                    raise BackupError(
                        "No commit is known between the cluster's last restore"
                        f" (timeline {last[:8]})"
                        " and the target. Choose a later time, or one before that restore."
                    )
                return Stop("", int(last[:8], 16), complete)
            width *= 4
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _dump(binaries: str, folder: str, names: list[str]) -> str:
    # It ends with an error where WAL ends, which it does in the last of the segments.
    done = subprocess.run(
        [
            f"{binaries}/pg_waldump", "--rmgr=Transaction",
            os.path.join(folder, names[0]), os.path.join(folder, names[-1]),
        ],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
        env=environment(),
    )  # fmt: skip
    return done.stdout
