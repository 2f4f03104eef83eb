# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drill: the newest backup is restored beside the live cluster, compared and timed."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import Any

from . import dump, evidence, metrics
from .cluster import Scratch, remove, replayed, target_options
from .common import (
    BackupError,
    Settings,
    note,
    now,
    read_json,
    require_space,
    run,
    stamp,
    told_time,
    write_json,
)
from .driver import psycopg2
from .pgbackrest import PLACE, Backup, PgBackRest, Repository

KEPT = 60


def pick(settings: Settings, wanted: int) -> int:
    """The repository to rehearse: the one asked for, or the one whose last drill is the oldest."""
    wanted = wanted or settings.drill_repository
    if wanted:
        if wanted not in settings.repositories:
            raise BackupError(
                f"There is no repository {wanted} on this host; it has {settings.repositories}."
            )
        return wanted
    return min(
        settings.repositories,
        key=lambda one: metrics.state(settings, "drill", f"repo{one}").get("last_run") or 0,
    )


def segment_start(name: str, size: int = 1 << 24) -> int:
    """The position at which a WAL segment begins."""
    return (int(name[8:16], 16) << 32) + int(name[16:24], 16) * size


def position(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def newest_segment(repository: Repository) -> str:
    return max((one[1] for one in repository.wal_ids.values()), key=lambda one: one[8:])


def loss_window(lost: float, *known: float | None) -> float:
    """Seconds before `lost` from which commits may be missing.

    Everything up to the newest commit that came back is there; so is everything up to the end of
    the last archived segment, on a server that had nothing to write since, and up to the end of
    the backup itself.
    """
    return max(0.0, lost - max(one for one in known if one is not None))


def _archived_until(settings: Settings) -> float | None:
    """When the last archived segment was written to for the last time; None if that isn't known."""
    try:
        found = dump.live(settings).ask(
            "SELECT extract(epoch FROM (pg_stat_file('pg_wal/' || max(left(name, 24)), true))"
            ".modification)::float8 FROM pg_ls_archive_statusdir()"
            " WHERE name ~ '^[0-9A-F]{24}[.]done$'"
        )
    except psycopg2.Error:
        return None
    return found[0][0] if found else None


def drill(settings: Settings, wanted: int = 0) -> dict[str, Any]:
    number = pick(settings, wanted)
    started = now()
    report: dict[str, Any] = {
        "started": told_time(started), "repository": PLACE[number], "result": "failed",
        "rto_target_seconds": settings.rto_target_seconds,
        "rpo_target_seconds": settings.rpo_target_seconds,
    }  # fmt: skip
    folder = os.path.join(settings.state, "drills")
    os.makedirs(folder, mode=0o750, exist_ok=True)
    path = os.path.join(folder, f"{stamp(started)}.json")
    try:
        with metrics.job(settings, "drill", f"repo{number}") as figures:
            try:
                _drill(settings, number, report)
            finally:
                figures.update(
                    {
                        key: report[f"{key}_seconds"]
                        for key in ("rto", "rpo")
                        if f"{key}_seconds" in report
                    }
                )
                if "size" in report:
                    figures["bytes"] = report["size"]
    except BaseException as error:
        report["error"] = str(error)
        raise
    finally:
        write_json(path, report)
        for name in sorted(os.listdir(folder))[:-KEPT]:
            os.unlink(os.path.join(folder, name))
    return report


def clean(settings: Settings) -> None:
    """Scratch clusters of drills that were killed."""
    if os.path.isdir(settings.scratch):
        for name in sorted(os.listdir(settings.scratch)):
            found = re.fullmatch(r"(drill-\d{8}T\d{6}Z)(\..*)?", name)
            if found:
                remove(os.path.join(settings.scratch, found[1]))


def _drill(settings: Settings, number: int, report: dict[str, Any]) -> None:
    clean(settings)
    pg = PgBackRest(settings)
    repository = pg.info(number)
    backup = repository.newest
    if backup is None:
        raise BackupError(
            f"{PLACE[number]} has no backup to rehearse with: systemctl start golive-backup-full"
        )
    last_segment = newest_segment(repository)
    # Right after a backup the segment with its restore point may still be on its way.
    for _attempt in range(60):
        if not backup.point or segment_start(last_segment) > position(backup.point["lsn"]) - (
            1 << 24
        ):
            break
        time.sleep(1)
        last_segment = newest_segment(pg.info(number))
    report.update(backup=backup.label, kind=backup.kind, size=backup.size)
    require_space(settings.scratch, backup.size * 1.1 + (256 << 20), "the restored cluster")
    scratch = Scratch(
        settings, os.path.join(settings.scratch, f"drill-{stamp(now())}"), backup, False
    )
    try:
        note(f"Restoring {backup.label} from {PLACE[number]}")
        commits: list[float | None] = []
        seconds = scratch.restore()
        report["restore_seconds"] = round(seconds, 3)
        if backup.point:
            clock = time.monotonic()
            scratch.start(**target_options(backup.point["name"], action="pause"))
            scratch.wait("paused")
            seconds += time.monotonic() - clock
            commits.append(replayed(scratch.server)["last_commit"])
            report["evidence"] = _compare(settings, scratch, backup)
            scratch.stop()
        else:
            report["evidence"] = {"compared": 0, "note": "none was recorded with this backup"}
        archived_until = _archived_until(settings)
        clock = time.monotonic()
        scratch.start()
        scratch.wait("open")
        rto = seconds + time.monotonic() - clock
        # As if the host had been lost now: the live cluster went on archiving until here.
        lost = time.time()
        came = replayed(scratch.server)
        commits.append(came["last_commit"])
        newest = max((one for one in commits if one is not None), default=None)
        rpo = loss_window(lost, newest, archived_until, backup.stopped.timestamp())
        report.update(
            rto_seconds=round(rto, 3), rpo_seconds=round(rpo, 3), replayed_to=came["lsn"],
            newest_commit_age_seconds=None if newest is None
            else round(lost - newest, 3),
            archive_covers_until_age_seconds=None if archived_until is None
            else round(lost - archived_until, 3),
        )  # fmt: skip
        control = run(f"{settings.binaries}/pg_controldata", scratch.data)
        size = int((re.search(r"Bytes per WAL segment:\s+(\d+)", control) or ["", "16777216"])[1])
        if position(came["lsn"]) <= segment_start(last_segment, size):
            raise BackupError(
                f"Recovery ended at {came['lsn']}, before {last_segment}, which"
                f" {PLACE[number]} has:"
                " a segment before it is missing or damaged. pgbackrest verify tells which; make a"
                " full backup now (systemctl start golive-backup-full)."
            )
        if settings.drill_amcheck:
            report["amcheck"] = scratch.check_structure()
    finally:
        with contextlib.suppress(Exception):
            scratch.stop()
        scratch.remove()
    if number == 1:
        pg.verify(number)
        report["verify"] = "every file of the repository is as it was written"
    missed = [
        f"{name} {report[f'{key}_seconds']:.0f} s, target {target:g} s"
        for name, key, target in (
            ("RTO", "rto", settings.rto_target_seconds),
            ("RPO", "rpo", settings.rpo_target_seconds),
        )
        if report[f"{key}_seconds"] > target
    ]
    if missed:
        raise BackupError("The restore is whole and misses its targets: " + "; ".join(missed))
    report["result"] = "passed"


def _compare(settings: Settings, scratch: Scratch, backup: Backup) -> dict[str, Any]:
    point = backup.point or {}
    expected = known(settings, backup)
    if expected is None:
        return {"compared": 0, "note": "the sums of single tables are not on this host"}
    clock = time.monotonic()
    found = evidence.take(scratch.server, expected)
    told = [
        line
        for name in sorted(expected)
        for line in evidence.differences(expected[name], found.get(name, {}), name)
    ]
    if told:
        raise BackupError(
            f"The restored cluster differs from what it was at {point['name']}: "
            + "; ".join(told[:20])
        )
    compared = sum(one[0] is not None for tables in expected.values() for one in tables.values())
    return {
        "point": point["name"], "compared": compared, "left_out": point["left_out"],
        "rows": evidence.rows(found), "seconds": round(time.monotonic() - clock, 3),
        "result": "every compared table has the same number of rows and the same content",
    }  # fmt: skip


def known(settings: Settings, backup: Backup) -> dict[str, evidence.Sums] | None:
    """The sums of a backup: from its own annotation, else from this host; only if"
    " they are whole."""
    point = backup.point or {}
    packed = backup.annotations.get("golive-tables")
    told = evidence.unpacked(packed) if packed else None
    if told is None:
        kept = read_json(os.path.join(settings.state, "evidence", f"{point.get('name')}.json"))
        told = kept["databases"] if kept else None
    if told is not None and evidence.digest(told) != point.get("digest"):
        raise BackupError(
            f"The evidence of {backup.label} is damaged: its own checksum is not right."
        )
    return told
