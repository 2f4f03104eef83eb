# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts and checksums of every table at a named restore point, to compare a restore with."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import time
import zlib
from typing import Any

from .common import BackupError, Settings, note, now, stamp, told_time, write_json
from .database import Server
from .driver import psycopg2, sql

# An argument of a program has 128 KB at most.
_LARGEST_ANNOTATION = 60_000
_TABLES = (
    "SELECT n.nspname, c.relname, pg_relation_size(c.oid) FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname <> 'information_schema'"
    " AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 3, 1, 2"
)
Sums = dict[str, list[Any]]


def table_name(schema: str, table: str) -> str:
    return json.dumps([schema, table], ensure_ascii=False)


def told_name(key: str) -> str:
    return ".".join(json.loads(key))


def tables(cursor: Any) -> list[tuple[str, str]]:
    """Smallest first. What isn't in WAL (unlogged, temporary) isn't restored, and isn't listed."""
    cursor.execute(_TABLES)
    return [(schema, table) for schema, table, _size in cursor.fetchall()]


def sums(cursor: Any, wanted: list[tuple[str, str]], seconds: float | None) -> Sums:
    """Rows and a sum of hashes of each table, which doesn't depend on their order.

    A table for which the time isn't enough has [None, None].
    """
    end = None if seconds is None else time.monotonic() + seconds
    found: Sums = {}
    for schema, table in wanted:
        key = table_name(schema, table)
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            found[key] = [None, None]
            continue
        cursor.execute("SAVEPOINT golive")
        if left is not None:
            cursor.execute("SET LOCAL statement_timeout = %s", (max(1, int(left * 1000)),))
        try:
            cursor.execute(
                sql.SQL(
                    "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text"
                    " FROM ONLY {} AS t"
                ).format(sql.Identifier(schema, table))
            )
            found[key] = list(cursor.fetchone())
        except psycopg2.errors.QueryCanceled:
            found[key] = [None, None]
            cursor.execute("ROLLBACK TO SAVEPOINT golive")
        cursor.execute("RELEASE SAVEPOINT golive")
    return found


def digest(databases: dict[str, Sums]) -> str:
    text = json.dumps(databases, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def rows(databases: dict[str, Sums]) -> int:
    return sum(one[0] or 0 for found in databases.values() for one in found.values())


def capture(settings: Settings, server: Server, tries: int = 10) -> dict[str, Any]:
    """Sum all tables up as they are at a restore point that is made here.

    The tables are locked against writing while snapshots are taken and the restore point is
    written: milliseconds. A lock that isn't had within a second is given up and tried again, as
    writers queue behind it.
    """
    wait = 1.0
    for attempt in range(tries):
        try:
            return _capture(settings, server)
        except (
            psycopg2.errors.LockNotAvailable,
            psycopg2.errors.DeadlockDetected,
            psycopg2.errors.UndefinedTable,
            psycopg2.errors.InvalidSchemaName,
        ) as error:
            note(f"Locks for the evidence not had (try {attempt + 1} of {tries}): {error}".strip())
            time.sleep(wait)
            wait = min(wait * 1.5, 15)
    raise BackupError(
        f"No restore point with evidence could be made in {tries} tries: a transaction holds a lock"
        " on a table for long. The backup itself is good; its drill compares nothing."
    )


def _capture(settings: Settings, server: Server) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        lockers, readers = {}, {}
        for name in server.databases():
            locker = stack.enter_context(server.connect(name, autocommit=False)).cursor()
            found = tables(locker)
            if not found:
                continue
            locker.execute("SET LOCAL lock_timeout = '1s'")
            locker.execute(
                sql.SQL("LOCK TABLE {} IN SHARE MODE").format(
                    sql.SQL(", ").join(
                        sql.SQL("ONLY {}").format(sql.Identifier(*table)) for table in found
                    )
                )
            )
            lockers[name] = (locker, found)
        for name in lockers:
            connection = stack.enter_context(server.connect(name, autocommit=False))
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            reader = connection.cursor()
            reader.execute("SELECT 1")
            readers[name] = reader
        point = f"golive-{stamp(now())}"
        if lockers:
            cursor = next(iter(lockers.values()))[0]
            cursor.execute("SELECT pg_create_restore_point(%s)::text, now()", (point,))
            lsn = (cursor.fetchone() or ("",))[0]
        else:
            lsn = server.one("SELECT pg_create_restore_point(%s)::text", point)
        moment = now()
        for locker, _tables in lockers.values():
            locker.connection.rollback()
        server.ask("SELECT pg_switch_wal()")
        end = time.monotonic() + settings.evidence_seconds
        databases = {}
        for name, reader in readers.items():
            databases[name] = sums(reader, lockers[name][1], max(0.0, end - time.monotonic()))
    return {
        "name": point,
        "time": told_time(moment),
        "lsn": lsn,
        "tables": sum(len(found) for found in databases.values()),
        "rows": rows(databases),
        "left_out": sum(one[0] is None for found in databases.values() for one in found.values()),
        "digest": digest(databases),
        "databases": databases,
    }


def summary(evidence: dict[str, Any]) -> str:
    """What goes with a backup into its repository and tells whether a restore is equal."""
    return json.dumps({key: value for key, value in evidence.items() if key != "databases"})


def packed(evidence: dict[str, Any]) -> str:
    """All sums for the repository, or nothing where they are too many."""
    text = json.dumps(evidence["databases"], ensure_ascii=False).encode()
    coded = base64.b64encode(zlib.compress(text, 9)).decode()
    return coded if len(coded) <= _LARGEST_ANNOTATION else ""


def unpacked(text: str) -> dict[str, Sums]:
    return dict(json.loads(zlib.decompress(base64.b64decode(text))))


def keep(settings: Settings, evidence: dict[str, Any]) -> None:
    folder = os.path.join(settings.state, "evidence")
    os.makedirs(folder, mode=0o750, exist_ok=True)
    write_json(os.path.join(folder, f"{evidence['name']}.json"), evidence)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if time.time() - os.path.getmtime(path) > (settings.retention_days + 8) * 86400:
            os.unlink(path)


def take(server: Server, like: dict[str, Sums]) -> dict[str, Sums]:
    """The sums of a restored cluster, of the tables that were summed up then."""
    databases: dict[str, Sums] = {}
    for name, expected in like.items():
        wanted = [
            (schema, table)
            for schema, table in (json.loads(key) for key in expected)
            if expected[table_name(schema, table)][0] is not None
        ]
        if name not in server.databases():
            databases[name] = {}
            continue
        databases[name] = compare_with(server, name, wanted)
    return databases


def compare_with(server: Server, database: str, wanted: list[tuple[str, str]]) -> Sums:
    with server.connect(database, autocommit=False) as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        cursor = connection.cursor()
        there = set(tables(cursor))
        return sums(cursor, [one for one in wanted if one in there], None)


def all_of(server: Server, database: str) -> Sums:
    with server.connect(database, autocommit=False) as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        cursor = connection.cursor()
        return sums(cursor, tables(cursor), None)


def differences(expected: Sums, found: Sums, database: str = "") -> list[str]:
    """Each table that isn't as it was, in words. A table that wasn't summed up can't differ."""
    told = []
    for key in sorted(expected):
        then, is_now = expected[key], found.get(key)
        name = f"{database}: {told_name(key)}" if database else told_name(key)
        if then[0] is None:
            continue
        if is_now is None:
            told.append(f"{name} is not there ({then[0]} rows expected)")
        elif then[0] != is_now[0]:
            told.append(f"{name} has {is_now[0]} rows, {then[0]} expected")
        elif then[1] != is_now[1]:
            told.append(f"{name} has its {then[0]} rows, but not with the same content")
    return told
