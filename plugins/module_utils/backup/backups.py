# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Full and differential backups, and whether all is as it should be."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from . import dump, evidence, metrics
from .common import (
    BackupError,
    Settings,
    from_epoch,
    megabytes,
    note,
    now,
    require_space,
    told_time,
    write_json,
)
from .driver import psycopg2
from .pgbackrest import PLACE, Backup, PgBackRest, Repository, gaps


def prepare(settings: Settings) -> bool:
    """Make the stanza where it is missing; True if it was. Another cluster's is left alone."""
    pg = PgBackRest(settings)
    own = int(dump.live(settings).one("SELECT system_identifier FROM pg_control_system()"))
    missing = False
    for number in settings.repositories:
        repository = pg.info(number)
        if repository.current_system_id is None:
            missing = True
        elif repository.current_system_id != own:
            raise BackupError(
                f"{PLACE[number]} holds, under the name {settings.stanza}, the backups of another"
                f" cluster (system identifier {repository.current_system_id}; this one is {own})."
                f" If this host is to take the lost one's place, restore it: restore.yml with"
                f" restore_whole_cluster={settings.version}/{settings.cluster}. If it is a new"
                " cluster, give it its own backup_stanza or backup_s3_path."
            )
    if missing:
        pg.create()
    return missing


_UNAPPLIED = (
    "SELECT name, (SELECT string_agg(DISTINCT o.sourcefile, ', ') FROM pg_file_settings o"
    " WHERE o.name = f.name AND o.applied) FROM pg_file_settings f JOIN pg_settings s USING (name)"
    " WHERE f.sourcefile = %s AND f.setting <> s.setting AND NOT s.pending_restart"
    # What archive_command shows as long as archive_mode is off.
    " AND s.setting <> '(disabled)' ORDER BY 1"
)


def apply(settings: Settings, path: str) -> dict[str, Any]:
    """Have PostgreSQL read a file whose settings it doesn't have; what needs a restart."""
    server = dump.live(settings)
    stale = bool(server.ask(_UNAPPLIED, path))
    if stale:
        errors = server.ask(
            "SELECT format('%s, line %s: %s %s', sourcefile, sourceline, name, error)"
            " FROM pg_file_settings WHERE error IS NOT NULL"
            " AND error <> 'setting could not be applied'"
        )
        if errors:
            raise BackupError(
                "PostgreSQL refuses its settings, so nothing was reloaded: "
                + "; ".join(str(row[0]) for row in errors)
            )
        moment = server.one("SELECT clock_timestamp()")
        server.ask("SELECT pg_reload_conf()")
        for _attempt in range(100):
            if server.one("SELECT pg_conf_load_time() > %s", moment):
                break
            time.sleep(0.1)
        else:
            raise BackupError("PostgreSQL took no reload within 10 seconds.")
        left = server.ask(_UNAPPLIED, path)
        if left:
            told = "; ".join(f"{name} is set by {where}" for name, where in left)
            raise BackupError(
                f"Another file overrides {path}: {told}. Take it out there (for"
                " postgresql.auto.conf: ALTER SYSTEM RESET ...), then run this again."
            )
    pending = [
        str(name)
        for (name,) in server.ask(
            "SELECT name FROM pg_settings WHERE pending_restart"
            " AND name IN ('archive_mode', 'wal_level') ORDER BY 1"
        )
    ]
    return {"changed": stale, "pending": pending}


def make(settings: Settings, kind: str, repositories: list[int] | None = None) -> list[Backup]:
    """A backup in each repository, then the evidence that drills compare with."""
    pg = PgBackRest(settings)
    made: list[Backup] = []
    failed: list[str] = []
    for number in repositories or settings.repositories:
        try:
            with metrics.job(settings, kind, f"repo{number}") as figures:
                backup = _one(settings, pg, kind, number)
                figures["bytes"] = backup.stored
            made.append(backup)
        except BackupError as error:
            failed.append(str(error))
    if made and settings.evidence_seconds > 0:
        _evidence(settings, pg, made)
    if failed:
        raise BackupError(" ".join(failed))
    return made


def _one(settings: Settings, pg: PgBackRest, kind: str, number: int) -> Backup:
    before = pg.info(number)
    if number == 1:
        # Compressed it is smaller; the size of the last one of its kind and a quarter will do.
        size = dump.live(settings).one("SELECT sum(pg_database_size(oid)) FROM pg_database")
        last = [one.stored for one in before.backups if one.kind == kind]
        needed = last[-1] * 1.25 if last else float(size)
        require_space(settings.repository_path, needed, f"a backup ({kind})")
    note(f"Backup ({kind}) into {PLACE[number]}")
    pg.backup(number, kind)
    newest = pg.info(number).newest
    if newest is None or (before.newest and newest.label == before.newest.label):
        raise BackupError(f"pgbackrest backup ended well and {PLACE[number]} has no new backup.")
    if newest.damaged:
        raise BackupError(
            f"The backup {newest.label} in {PLACE[number]} has pages with wrong checksums: the"
            " database's own files are damaged. Keep the older backups, and see"
            " /var/log/pgbackrest for which files."
        )
    return newest


def _evidence(settings: Settings, pg: PgBackRest, made: list[Backup]) -> None:
    """Its absence doesn't make the backup bad, so it is told and doesn't fail the job."""
    try:
        with metrics.job(settings, "evidence", "cluster"):
            taken = evidence.capture(settings, dump.live(settings))
            evidence.keep(settings, taken)
            packed = evidence.packed(taken)
            for backup in made:
                pg.annotate(backup, "golive", evidence.summary(taken))
                if packed:
                    pg.annotate(backup, "golive-tables", packed)
    except (BackupError, psycopg2.Error) as error:
        note(f"No evidence was recorded: {error}")


def _late(repository: Repository, settings: Settings) -> str:
    place = PLACE[repository.number]
    full = [one for one in repository.backups if one.kind == "full" and not one.damaged]
    if not full:
        return f"{place} has no full backup"
    newest = repository.newest
    if newest and newest.age_hours > settings.maximum_age_hours:
        return (
            f"{place}: the newest backup ({newest.label}) is {newest.age_hours:.1f} hours old,"
            f" {settings.maximum_age_hours:g} are allowed"
        )
    if full[-1].age_hours > settings.full_maximum_age_hours:
        return (
            f"{place}: the newest full backup ({full[-1].label}) is"
            f" {full[-1].age_hours:.1f} hours old"
        )
    return ""


def failed_since(repository: Repository, settings: Settings) -> str:
    """The error of a backup that was tried after the newest good one."""
    newest = repository.newest.stopped.timestamp() if repository.newest else 0.0
    for kind in ("full", "diff"):
        told = metrics.state(settings, kind, f"repo{repository.number}")
        if told.get("success") == 0 and told.get("last_run", 0) > newest:
            return f"{PLACE[repository.number]}: the last {kind} backup failed: {told['error']}"
    return ""


def needed(repository: Repository, settings: Settings) -> str:
    """The kind of backup that a repository lacks, if any."""
    full = [one for one in repository.backups if one.kind == "full" and not one.damaged]
    if not full or full[-1].age_hours > settings.full_maximum_age_hours:
        return "full"
    newest = repository.newest
    if newest is None or newest.damaged or newest.age_hours > settings.maximum_age_hours:
        return "diff"
    return "diff" if failed_since(repository, settings) else ""


def archiving(settings: Settings) -> tuple[list[str], dict[str, Any]]:
    """What PostgreSQL itself says of its archiving."""
    server = dump.live(settings)
    mode, command, archived, archived_at, failed, failed_at, pending, oldest = server.ask(
        "SELECT current_setting('archive_mode'), current_setting('archive_command'),"
        " last_archived_wal, extract(epoch FROM last_archived_time)::float8,"
        " last_failed_wal, extract(epoch FROM last_failed_time)::float8,"
        " (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),"
        " (SELECT extract(epoch FROM now() - min(modification))::float8"
        "  FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')"
        " FROM pg_stat_archiver"
    )[0]
    problems = []
    if mode != "on" or "pgbackrest" not in command:
        problems.append(
            f"WAL is not archived: archive_mode is {mode}, archive_command is {command!r}"
            " (run phase8_production.yml)"
        )
    if failed_at and failed_at > (archived_at or 0):
        problems.append(
            f"archiving fails: {failed} was refused at {told_time(from_epoch(failed_at))[:19]}+00,"
            f" {pending} segments wait (see"
            f" /var/log/pgbackrest/{settings.stanza}-archive-push-async.log)"
        )
    if oldest is not None and oldest > settings.wal_maximum_age_seconds:
        problems.append(
            f"{pending} WAL segments wait for the archive, the oldest for {oldest:.0f} s"
            f" ({settings.wal_maximum_age_seconds:g} are allowed)"
        )
    if archived_at:
        metrics.keep(
            settings, "wal", "archive", last_success=archived_at,
            last_run=max(archived_at, failed_at or 0.0), success=int(not problems),
        )  # fmt: skip
    return problems, {
        "golive_backup_wal_pending": pending,
        "golive_backup_wal_oldest_pending_seconds": oldest or 0,
    }


def check(settings: Settings) -> dict[str, Any]:
    """Everything that is late, missing or failing, each in one sentence."""
    pg = PgBackRest(settings)
    problems: list[str] = []
    warnings: list[str] = []
    told = []
    figures: dict[str, Any] = {"golive_backup_wal_gap": {}}
    try:
        found, figures_wal = archiving(settings)
        problems += found
        figures.update(figures_wal)
    except psycopg2.Error as error:
        problems.append(f"PostgreSQL doesn't answer on port {settings.port}: {str(error).strip()}")
    for number in settings.repositories:
        entry: dict[str, Any] = {"repository": PLACE[number], "problem": ""}
        told.append(entry)
        try:
            repository = pg.info(number)
            entry["problem"] = _late(repository, settings) or failed_since(repository, settings)
            newest = repository.newest
            if newest:
                entry.update(
                    newest=newest.label, age_hours=round(newest.age_hours, 2),
                    backups=len(repository.backups), bytes=newest.stored,
                    evidence=(newest.point or {}).get("name", ""),
                )  # fmt: skip
                missing = gaps(pg.archived(number, newest.wal_start), newest.wal_start)
                figures["golive_backup_wal_gap"][f"repo{number}"] = len(missing)
                if missing and not entry["problem"]:
                    entry["problem"] = (
                        f"{PLACE[number]} lacks WAL since its newest backup:"
                        f" {', '.join(missing[:5])}."
                        " No time after that can be restored from it until the next backup:"
                        " systemctl start golive-backup-diff"
                    )
        except BackupError as error:
            entry["problem"] = str(error)
        if entry["problem"]:
            problems.append(entry["problem"])
    for database in settings.databases:
        state = dump.status(settings, database)
        if state["problem"]:
            # The nightly dump is restored by the next play, or by golive-backup dump-drill.
            told_to = warnings if state["problem"] == dump.UNPROVED else problems
            told_to.append(f"{database}: {state['problem']}")
    for one in metrics.states(settings):
        if one.get("success") == 0 and one["kind"] in ("dump", "files", "drill"):
            problems.append(
                f"the last {one['kind']} ({one['name']}) failed: {one.get('error', '')}"
            )
        if one.get("success") == 0 and one["kind"] == "evidence":
            warnings.append(f"no evidence with the last backup: {one.get('error', '')}")
    if settings.drill_maximum_age_hours > 0:
        good = [
            one.get("last_success") or 0
            for one in metrics.states(settings)
            if one["kind"] == "drill"
        ]
        age = (time.time() - max(good, default=0)) / 3600
        if age > settings.drill_maximum_age_hours:
            problems.append(
                "no restore was ever rehearsed" if not any(good)
                else f"the last good restore drill was {age:.0f} hours ago"
            )  # fmt: skip
    if settings.repositories == [1]:
        warnings.append(
            "the only repository is on this host and is lost with it: set backup_s3_endpoint"
        )
    figures["golive_backup_check_problems"] = len(problems)
    figures["golive_backup_check_timestamp_seconds"] = now().timestamp()
    with contextlib.suppress(OSError):
        write_json(
            os.path.join(settings.state, "check.json"),
            {"problems": problems, "warnings": warnings, "metrics": figures},
        )
    return {"problems": problems, "warnings": warnings, "repositories": told}


def status(settings: Settings) -> dict[str, Any]:
    told = check(settings) if settings.databases else {"problems": [], "warnings": []}
    told["databases"] = [dump.status(settings, one) for one in settings.databases]
    drills = [one for one in metrics.states(settings) if one["kind"] == "drill"]
    told["drills"] = drills
    for one in told.get("repositories", []):
        if one.get("bytes") is not None:
            one["size"] = megabytes(one["bytes"])
    return told
