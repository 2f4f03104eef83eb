# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nightly dump: the portable copy, restored once into a scratch database."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from typing import Any

from . import metrics
from .common import (
    BackupError,
    Settings,
    megabytes,
    now,
    parse_stamp,
    read_json,
    require_space,
    run,
    stamp,
    write_json,
)
from .database import Server
from .driver import sql


def live(settings: Settings) -> Server:
    return Server(settings.socket_directory, settings.port)


def count_rows(cursor: Any) -> dict[str, int]:
    cursor.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1, 2"
    )
    rows = {}
    for schema, table in cursor.fetchall():
        cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table)))
        rows[f"{schema}.{table}"] = cursor.fetchone()[0]
    return rows


def checksum(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def folder_of(settings: Settings, database: str) -> str:
    return os.path.join(settings.folder, database)


def manifests(settings: Settings, database: str) -> list[dict[str, Any]]:
    """All good dumps, the newest first. One without its manifest was cut short: it isn't one."""
    folder = folder_of(settings, database)
    if not os.path.isdir(folder):
        return []
    found = []
    for name in os.listdir(folder):
        if name.endswith(".dump.json") and os.path.exists(os.path.join(folder, name[:-5])):
            told = read_json(os.path.join(folder, name))
            if told:
                found.append(told)
    return sorted(found, key=lambda manifest: str(manifest["started"]), reverse=True)


def age_hours(manifest: dict[str, Any]) -> float:
    return (now() - parse_stamp(manifest["started"])).total_seconds() / 3600


def _sweep(folder: str) -> None:
    """What killed runs left: unfinished files, and dumps that got no manifest."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.endswith(".partial") or (
            name.endswith(".dump") and not os.path.exists(f"{path}.json")
        ):
            os.unlink(path)


def dump(settings: Settings, database: str) -> dict[str, Any]:
    with metrics.job(settings, "dump", database) as figures:
        manifest = _dump(settings, database)
        figures["bytes"] = manifest["bytes"]
    return manifest


def _dump(settings: Settings, database: str) -> dict[str, Any]:
    folder = folder_of(settings, database)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    _sweep(folder)
    started, clock = now(), time.monotonic()
    target = os.path.join(folder, f"{database}_{stamp(started)}.dump")
    server = live(settings)
    with server.connect(database, autocommit=False) as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        cursor = connection.cursor()
        cursor.execute(
            "SELECT pg_export_snapshot(), pg_database_size(current_database()),"
            " current_setting('server_version')"
        )
        snapshot, size, version = cursor.fetchone() or ("", 0, "")
        require_space(folder, size, f"a dump of {database}")
        try:
            run(
                "pg_dump", "--format=custom", f"--snapshot={snapshot}", *server.options,
                f"--file={target}.partial", f"--dbname={_conninfo(database)}",
            )  # fmt: skip
            rows = count_rows(cursor)
            # A list of its contents would pass for a damaged dump; reading it in full does not.
            run("pg_restore", "--file=/dev/null", f"{target}.partial")
            with open(f"{target}.partial", "rb") as file:
                os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{target}.partial")
            raise
    manifest = {
        "database": database,
        "file": target,
        "started": stamp(started),
        "seconds": round(time.monotonic() - clock, 3),
        "bytes": os.path.getsize(f"{target}.partial"),
        "sha256": checksum(f"{target}.partial"),
        "rows": rows,
        "server_version": version,
        "drill": None,
    }
    os.replace(f"{target}.partial", target)
    write_json(f"{target}.json", manifest)
    for old in manifests(settings, database)[1:]:
        if age_hours(old) > settings.retention_days * 24:
            os.unlink(old["file"] + ".json")
            os.unlink(old["file"])
    return manifest


def _conninfo(database: str) -> str:
    """A database's name as a connection string, which a name with `=` would be taken for."""
    quoted = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{quoted}'"


def _drop(cursor: Any, name: str) -> None:
    cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def _scratch_database(settings: Settings, server: Server) -> Any:
    """A database under a name that no other has; noted first, so that a killed run's one goes."""
    memo = os.path.join(settings.state, "dump-drill.json")
    with server.connect() as connection:
        cursor = connection.cursor()
        left = read_json(memo)
        if left:
            _drop(cursor, left["database"])
        name = f"golive_drill_{secrets.token_hex(8)}"
        write_json(memo, {"database": name})
        cursor.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
        )
        try:
            yield name
        finally:
            _drop(cursor, name)
            os.unlink(memo)


def drill(settings: Settings, database: str) -> dict[str, Any]:
    """Restore the newest dump and compare the rows."""
    found = manifests(settings, database)
    if not found:
        raise BackupError(
            f"There is no dump of {database} in {folder_of(settings, database)} to restore."
        )
    manifest = found[0]
    clock = time.monotonic()
    if checksum(manifest["file"]) != manifest["sha256"]:
        raise BackupError(
            f"{manifest['file']} has changed since it was written: its SHA-256 is not the recorded"
            " one. Remove it and run golive-backup dump; then look at the disk."
        )
    server = live(settings)
    with _scratch_database(settings, server) as scratch:
        run(
            "pg_restore", "--exit-on-error", *server.options, f"--dbname={scratch}",
            manifest["file"],
        )  # fmt: skip
        with server.connect(scratch) as connection:
            rows = count_rows(connection.cursor())
    then = manifest["rows"]
    different = sorted(one for one in rows.keys() | then.keys() if rows.get(one) != then.get(one))
    if different:
        told = ", ".join(
            f"{one}: {then.get(one)} dumped, {rows.get(one)} restored" for one in different
        )
        raise BackupError(f"The restored {database} differs: {told}")
    manifest["drill"] = {
        "at": stamp(now()),
        "seconds": round(time.monotonic() - clock, 3),
        "rows": sum(rows.values()),
    }
    write_json(manifest["file"] + ".json", manifest)
    return manifest


UNPROVED = "the newest dump was not restored yet"


def status(settings: Settings, database: str) -> dict[str, Any]:
    found = manifests(settings, database)
    if not found:
        return {"database": database, "problem": "no dump yet"}
    newest = dict(found[0], age_hours=round(age_hours(found[0]), 2), kept=len(found))
    newest["problem"] = ""
    if newest["age_hours"] > settings.maximum_age_hours:
        newest["problem"] = (
            f"the newest dump is {newest['age_hours']} hours old ({megabytes(newest['bytes'])})"
        )
    elif not newest["drill"]:
        newest["problem"] = UNPROVED
    return newest
