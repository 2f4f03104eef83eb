# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pgBackRest: what its repositories hold, and its commands."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
from collections.abc import Iterable
from typing import Any

from .common import BackupError, Settings, from_epoch, now, run, told_time

PLACE = {1: "the local repository", 2: "the S3 repository"}
_SEGMENT = re.compile(r"(?:^|/)([0-9A-F]{24})-[0-9a-f]{40}")
POINT_KEY = "golive"
TABLES_KEY = "golive-tables"


@dataclasses.dataclass(frozen=True)
class Backup:
    """A backup that pgBackRest has finished; one that was cut short has no label."""

    repository: int
    label: str
    kind: str
    started: datetime.datetime
    stopped: datetime.datetime
    wal_start: str
    wal_stop: str
    size: int
    stored: int
    damaged: bool
    annotations: dict[str, str]
    database_id: int = 1

    @property
    def age_hours(self) -> float:
        return (now() - self.stopped).total_seconds() / 3600

    @property
    def point(self) -> dict[str, Any] | None:
        """The restore point at which its tables were summed up."""
        return json.loads(self.annotations[POINT_KEY]) if POINT_KEY in self.annotations else None


@dataclasses.dataclass(frozen=True)
class Repository:
    """One repository of the stanza."""

    number: int
    status: str
    system_ids: dict[int, int]
    backups: list[Backup]
    wal_ids: dict[str, tuple[str, str]]

    @property
    def newest(self) -> Backup | None:
        return self.backups[-1] if self.backups else None

    @property
    def current_system_id(self) -> int | None:
        return self.system_ids[max(self.system_ids)] if self.system_ids else None


def cause(message: str) -> str:
    """pgBackRest's words without what nobody can read, and what to do about them."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    told = re.sub(r"[^\x20-\x7e]+", "?", lines[0] if lines else "")
    said = re.search(r"<Code>(\w+)</Code>(?:<Message>([^<]*))?", message)
    if said:
        told += f" {said[1]}: {said[2] or ''}"
    if re.search(r"CryptoError|FormatError|decrypt|cipher", message):
        told += (
            " If it was encrypted with another passphrase than this host's, set"
            " backup_cipher_pass to"
            " the one that you kept elsewhere."
        )
    elif re.search(r"\b403\b|InvalidAccessKeyId|SignatureDoesNotMatch", message):
        told += " Look at backup_s3_key, backup_s3_secret and what they may do in the bucket."
    elif re.search(
        r"HostConnectError|certificate|unable to (get address|connect)|timeout", message
    ):
        told += " Look at backup_s3_endpoint, backup_s3_ca_file and the way there."
    return told


def parse_info(text: str, number: int) -> Repository:
    """`pgbackrest --repo=NUMBER --output=json info`, oldest backup first."""
    try:
        # What couldn't be decrypted stands in messages as it is, control characters included.
        stanza = json.loads(text, strict=False)[0]
    except (ValueError, IndexError):
        raise BackupError(f"pgbackrest info of repository {number} printed no JSON.") from None
    status = next(
        (one["status"] for one in stanza.get("repo", []) if one.get("key") == number),
        stanza.get("status", {}),
    )
    if status.get("code") == 99:
        raise BackupError(f"{PLACE[number]} can't be read: {cause(str(status.get('message')))}")
    current = max((one["id"] for one in stanza.get("db", [])), default=1)
    backups = []
    for one in stanza.get("backup", []):
        if one["database"].get("repo-key", number) != number:
            continue
        backups.append(
            Backup(
                repository=number,
                label=one["label"],
                kind=one["type"],
                started=from_epoch(one["timestamp"]["start"]),
                stopped=from_epoch(one["timestamp"]["stop"]),
                wal_start=one["archive"]["start"] or "",
                wal_stop=one["archive"]["stop"] or "",
                size=one["info"]["size"],
                stored=one["info"]["repository"].get("delta", 0),
                damaged=bool(one.get("error")),
                annotations=one.get("annotation") or {},
                database_id=one["database"]["id"],
            )
        )
    return Repository(
        number=number,
        status="" if status.get("code", 0) in (0, 2) else str(status.get("message", "")),
        system_ids={one["id"]: one["system-id"] for one in stanza.get("db", [])},
        backups=sorted(
            (one for one in backups if one.database_id == current), key=lambda one: one.stopped
        ),
        wal_ids={
            one["id"]: (one["min"], one["max"])
            for one in stanza.get("archive", [])
            if one.get("max") and one["database"]["id"] == current
        },
    )


def segments(listing: Iterable[str]) -> list[str]:
    """The names of the WAL segments in a listing of the archive."""
    return sorted({found[1] for name in listing if (found := _SEGMENT.search(name))})


def gaps(found: Iterable[str], start: str, segment_size: int = 1 << 24) -> list[str]:
    """What misses between `start` and the newest segment of each timeline, as texts."""
    per_file = (1 << 32) // segment_size
    numbers: dict[str, list[int]] = {}
    for name in found:
        number = int(name[8:16], 16) * per_file + int(name[16:], 16)
        numbers.setdefault(name[:8], []).append(number)
    first = int(start[8:16], 16) * per_file + int(start[16:], 16)
    told = []

    def name_of(timeline: str, number: int) -> str:
        return f"{timeline}{number // per_file:08X}{number % per_file:08X}"

    for timeline in sorted(numbers):
        there = sorted(number for number in numbers[timeline] if number >= first)
        if timeline == start[:8] and (not there or there[0] > first):
            there = [first - 1, *there]
        for before, after in zip(there, there[1:]):
            if after > before + 1:
                last = name_of(timeline, after - 1)
                missing = name_of(timeline, before + 1)
                told.append(missing if missing == last else f"{missing} to {last}")
        if len(there) == 1 and there[0] == first - 1:
            told.append(start)
    return told


def choose(
    backups: list[Backup], until: datetime.datetime | None, wanted: str = ""
) -> Backup | None:
    """The newest whole backup that ended before the moment to come back to."""
    fits = [
        one
        for one in backups
        if not one.damaged
        and (not wanted or one.label == wanted)
        and (until is None or one.stopped < until)
    ]
    return fits[-1] if fits else None


class PgBackRest:
    """Commands of one stanza."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def _argv(self, repository: int | None, *options: str) -> list[str]:
        argv = ["pgbackrest", f"--stanza={self._settings.stanza}"]
        return argv + ([f"--repo={repository}"] if repository else []) + list(options)

    def info(self, repository: int, timeout: float = 120) -> Repository:
        try:
            text = run(*self._argv(repository, "--output=json", "info"), timeout=timeout)
        except BackupError as error:
            raise BackupError(f"{PLACE[repository]} can't be read: {cause(str(error))}") from None
        return parse_info(text, repository)

    def create(self) -> None:
        run(*self._argv(None, "stanza-create"), timeout=600)

    def upgrade(self) -> None:
        run(*self._argv(None, "stanza-upgrade"), timeout=600)

    def check(self) -> None:
        run(*self._argv(None, "check"), timeout=600)

    def backup(self, repository: int, kind: str) -> None:
        run(
            *self._argv(
                repository, f"--type={kind}", f"--process-max={self._settings.jobs}", "backup"
            )
        )

    def annotate(self, backup: Backup, key: str, value: str) -> None:
        run(
            *self._argv(
                backup.repository,
                f"--set={backup.label}",
                f"--annotation={key}={value}",
                "annotate",
            ),
            timeout=600,
        )

    def verify(self, repository: int) -> str:
        """Reads every file of a repository; anything but 'ok' is an error."""
        told = run(
            *self._argv(
                repository,
                "--output=text",
                "--verbose",
                f"--process-max={self._settings.jobs}",
                "verify",
            )
        )
        if "status: ok" not in told:
            bad = [
                line.strip() for line in told.splitlines() if "invalid" in line or "miss" in line
            ]
            bad = [line for line in bad if not line.startswith("missing: 0, checksum invalid: 0")]
            raise BackupError(
                f"pgbackrest verify found damage in {PLACE[repository]}: {'; '.join(bad)[:1500]}."
                " Make a full backup now (systemctl start golive-backup-full), and"
                " look at the disk."
            )
        return told

    def archived(self, repository: int, start: str) -> dict[str, float]:
        """WAL segments from `start` on, as the repository lists them, with when they came there."""
        found: dict[str, float] = {}
        base = f"archive/{self._settings.stanza}"
        for wal_id in self.info(repository).wal_ids:
            listed = self._list(repository, f"{base}/{wal_id}")
            for folder in sorted(listed):
                if re.fullmatch("[0-9A-F]{16}", folder) and folder[8:] >= start[8:16]:
                    for name, told in self._list(repository, f"{base}/{wal_id}/{folder}").items():
                        for segment in segments([name]):
                            found[segment] = float(told["time"])
        return found

    def fetch(self, repository: int, segment: str, data: str, path: str) -> None:
        """One WAL segment, for the restored cluster in `data`."""
        run(
            *self._argv(
                repository,
                f"--pg1-path={data}",
                f"--lock-path={data}.lock",
                "--no-archive-async",
                "archive-get",
                segment,
                path,
            ),
            timeout=600,
        )

    def _list(self, repository: int, path: str) -> dict[str, Any]:
        argv = ["pgbackrest", f"--stanza={self._settings.stanza}", f"--repo={repository}"]
        told = run(*argv, "--output=json", "repo-ls", path, timeout=300)
        return dict(json.loads(told))

    def restore(self, backup: Backup, data: str, tablespaces: str = "") -> None:
        """Into a folder of its own. Recovery is told its target when the server is started."""
        options = [
            f"--set={backup.label}",
            f"--pg1-path={data}",
            f"--process-max={self._settings.jobs}",
            f"--lock-path={data}.lock",
            "--type=default",
        ]
        if tablespaces:
            options.append(f"--tablespace-map-all={tablespaces}")
        run(*self._argv(backup.repository, *options, "restore"))

    def restore_command(self, repository: int, data: str) -> str:
        """Its own spool and lock, so that the live cluster's archiving isn't in its way."""
        argv = self._argv(
            repository,
            f"--pg1-path={data}",
            f"--lock-path={data}.lock",
            f"--spool-path={data}.spool",
            "--process-max=2",
            "--log-level-console=error",
            "--log-level-stderr=error",
            "archive-get",
        )
        return " ".join(argv) + ' %f "%p"'


def points(repositories: Iterable[Repository]) -> list[dict[str, Any]]:
    """The named restore points that are known, the oldest first."""
    found = {}
    for repository in repositories:
        for backup in repository.backups:
            if backup.point:
                found[backup.point["name"]] = backup.point
            for key, value in backup.annotations.items():
                if key.startswith("golive-point-"):
                    told = json.loads(value)
                    found[told["name"]] = told
    return sorted(found.values(), key=lambda one: str(one["time"]))


def listed(repositories: Iterable[Repository]) -> str:
    """What there is to restore, for a message."""
    lines = []
    for one in repositories:
        if not one.backups:
            lines.append(f"{PLACE[one.number]} has no backup")
            continue
        oldest, newest = one.backups[0], one.backups[-1]
        lines.append(
            f"{PLACE[one.number]} has {len(one.backups)} backups; a time between"
            f" {told_time(oldest.stopped)[:19]}+00 and now can be restored, newest backup"
            f" {newest.label} of {told_time(newest.stopped)[:19]}+00"
        )
    return "; ".join(lines)
