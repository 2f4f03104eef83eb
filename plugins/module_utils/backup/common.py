# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings, time, files and commands."""

from __future__ import annotations

# It runs on the host without Ansible, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

SETTINGS_FILE = "/etc/golive/backup/settings.json"
STAMP = "%Y%m%dT%H%M%SZ"
MB = 1 << 20


class BackupError(Exception):
    """What failed, where, and what an operator can do about it."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the role wrote for this host; no secret is in it."""

    databases: list[str]
    folder: str
    port: int
    version: str
    cluster: str
    data_directory: str
    socket_directory: str
    stanza: str
    repositories: list[int]
    repository_path: str
    state: str
    scratch: str
    metrics_folder: str
    retention_days: int
    maximum_age_hours: float
    full_maximum_age_hours: float
    drill_maximum_age_hours: float
    wal_maximum_age_seconds: float
    processes: int
    drill_repository: int
    drill_amcheck: bool
    rto_target_seconds: float
    rpo_target_seconds: float
    evidence_seconds: float

    @property
    def jobs(self) -> int:
        return self.processes or max(1, min(8, (os.cpu_count() or 2) // 2))

    @property
    def binaries(self) -> str:
        return f"/usr/lib/postgresql/{self.version}/bin"

    @property
    def unit(self) -> str:
        return f"postgresql@{self.version}-{self.cluster}.service"


def load_settings(path: str = SETTINGS_FILE) -> Settings:
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        return Settings(**told)
    except FileNotFoundError:
        raise BackupError(
            f"{path} is not there: run the role backup on this host first (phase8_production.yml)."
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise BackupError(f"{path} can't be read: {error}. Run the role backup again.") from None


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def stamp(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.timezone.utc).strftime(STAMP)


def parse_stamp(text: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, STAMP).replace(tzinfo=datetime.timezone.utc)


def from_epoch(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def told_time(moment: datetime.datetime) -> str:
    """For people and for PostgreSQL: with its zone, so that no setting can shift it."""
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f+00")


_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(:\d\d)?(\.\d{1,6})?\s*(Z|UTC|[+-]\d\d(?::?\d\d)?)?",
    re.IGNORECASE,
)


def parse_time(text: str) -> datetime.datetime:
    """A time that an operator wrote; without a zone it is UTC."""
    match = _TIME.fullmatch(text.strip())
    if not match:
        raise BackupError(
            f"The time {text!r} is not understood. Write it as 2026-01-31 14:05:00+00,"
            " with its zone."
        )
    day, minute, second, fraction, zone = match.groups()
    zone = "+0000" if not zone or zone.upper() in ("Z", "UTC") else zone.replace(":", "")
    zone = zone if len(zone) == 5 else zone + "00"
    fraction = (fraction or ".0").ljust(7, "0")
    try:
        moment = datetime.datetime.strptime(
            f"{day} {minute}{second or ':00'}{fraction}{zone}", "%Y-%m-%d %H:%M:%S.%f%z"
        )
    except ValueError as error:
        raise BackupError(f"There is no such time as {text!r}: {error}.") from None
    return moment.astimezone(datetime.timezone.utc)


def megabytes(size: float) -> str:
    return f"{size / MB:.0f} MB"


def write_json(path: str, document: Any) -> None:
    """A reader sees the old document or the new one, also after a power cut."""
    partial = f"{path}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_json(path: str) -> Any:
    """The document, or None where there is none or it can't be understood."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None


def environment() -> dict[str, str]:
    """Nothing of the caller's that could point a program to another server."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": "/var/lib/postgresql",
        "TZ": "UTC",
    }


def run(*argv: str, timeout: float | None = None, text: str | None = None) -> str:
    """What a command prints; its failure is an error with its last words."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL if text is None else None,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout,
            env=environment(),
            cwd="/",
        )
    except FileNotFoundError:
        raise BackupError(f"{argv[0]} is not installed on this host.") from None
    except subprocess.TimeoutExpired:
        raise BackupError(f"{argv[0]} had not answered after {timeout:.0f} s.") from None
    if done.returncode != 0:
        said = (done.stderr.strip() + "\n" + done.stdout.strip()).strip()
        raise BackupError(f"{argv[0]} ended with {done.returncode}: {said[-2000:]}")
    return done.stdout


def note(text: str) -> None:
    """Progress, for the journal and for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def free_bytes(path: str) -> int:
    """Free space where a folder is or would be."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free


def require_space(path: str, needed: float, what: str) -> None:
    free = free_bytes(path)
    if free < needed:
        raise BackupError(
            f"{path} has {megabytes(free)} free and {what} takes about {megabytes(needed)}. "
            "Nothing was written. Free or add space there, or set another folder."
        )


def folder_size(path: str) -> int:
    total = 0
    for base, _folders, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(base, name)).st_size
    return total


@contextlib.contextmanager
def job_lock(settings: Settings) -> Iterator[None]:
    """All backup jobs of a host one after the other; the kernel lets go of a killed one's."""
    path = os.path.join(settings.state, "jobs.lock")
    with open(path, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("Another backup job is at work; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
