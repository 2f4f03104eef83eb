# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares a migrated schema with its source.

Nothing of the loader is used here, neither its plan nor its formatting of values: a
mistake there would agree with itself. Both sides are asked in SQL for the same figures.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sqlite3
import time
from dataclasses import dataclass, field
from typing import Any

from ..version import COLLECTION_VERSION
from . import target as pg
from .errors import MigrationError
from .schema import list_tables, select_tables
from .source import SourceDatabase, quote_sqlite
from .target import Target, Unreachable

_PURPOSE = "sqlite_postgres_verify"


@dataclass
class VerifyRequest:
    source: str
    target: Target
    schema: str = "public"
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    depth: str = "counts"
    record: bool = False
    again: bool = False
    check_mode: bool = False


@dataclass
class Verdict:
    """`compared` is false if a recorded verification was returned, or nothing was there yet."""

    changed: bool = False
    compared: bool = False
    depth: str = "counts"
    evidence: dict[str, Any] | None = None
    differences: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(request: VerifyRequest) -> Verdict:
    verdict = Verdict(depth=request.depth)
    try:
        connection = pg.connect(request.target, _PURPOSE)
    except Unreachable as error:
        if not request.check_mode:
            raise
        verdict.notes.append(f"Not compared: {error.message}")
        return verdict
    import psycopg2

    try:
        _verify_connected(connection, request, verdict)
        return verdict
    except psycopg2.Error as error:
        primary = getattr(error.diag, "message_primary", None) or " ".join(str(error).split())
        raise MigrationError(
            f"PostgreSQL stopped the verification of {request.target.label}: {primary}.",
            sqlstate=error.pgcode,
        ) from None
    finally:
        with contextlib.suppress(Exception):
            connection.close()


def _verify_connected(connection: Any, request: VerifyRequest, verdict: Verdict) -> None:
    connection.set_session(isolation_level="REPEATABLE READ")
    pg.settle_session(connection)
    pg.check_server(connection, request.target)
    record = pg.read_record(connection, request.schema)
    if record is None and request.check_mode and not pg.existing_tables(connection, request.schema):
        verdict.notes.append(
            f"Not compared: schema {request.schema} of {request.target.label} has no tables yet"
        )
        return
    if request.record and record is None:
        raise MigrationError(
            f"record is set, but {pg.RECORD_TABLE} has no migration into schema {request.schema}. "
            "Migrate with golive.webstack.sqlite_to_postgres first, or set record to false."
        )
    if request.record and record and record["verified_at"] and not request.again:
        verdict.evidence = record["verification"]
        verdict.depth = (record["verification"] or {}).get("depth", request.depth)
        verdict.notes.append(
            f"verified at {record['verified_at']}; not compared again, as the application may have "
            "written since"
        )
        return
    evidence = _compare(connection, request, record)
    verdict.compared = True
    verdict.evidence = evidence
    verdict.differences = evidence["differences"]
    if verdict.differences:
        raise MigrationError(
            f"{request.source} and schema {request.schema} of {request.target.label} differ in "
            f"{len(verdict.differences)} figures:\n" + difference_table(verdict.differences),
            differences=verdict.differences,
            evidence=evidence,
            depth=request.depth,
        )
    if request.record:
        verdict.changed = True
        if not request.check_mode:
            assert record is not None
            pg.execute(
                connection,
                f"UPDATE {pg.RECORD_TABLE} SET verified_at = %s, verification = %s WHERE id = %s",
                (evidence["finished_at"], json.dumps(evidence), record["id"]),
            )
            connection.commit()


def difference_table(differences: list[dict[str, Any]]) -> str:
    """Aligned columns, for the message."""
    rows = [("table", "what", "source", "target")]
    rows += [(d["table"], d["what"], str(d["source"]), str(d["target"])) for d in differences]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat()


def _compare(
    connection: Any, request: VerifyRequest, record: dict[str, Any] | None
) -> dict[str, Any]:
    started_at, started = _now(), time.monotonic()
    differences: list[dict[str, Any]] = []
    tables = []
    with SourceDatabase(request.source) as source:
        names, _left = list_tables(source)
        chosen = select_tables(names, request.include, request.exclude, source.path)
        present = set(pg.existing_tables(connection, request.schema))
        for name in chosen:
            if name not in present:
                differences.append(_difference(name, "table", "present", "missing"))
                continue
            figures = _compare_table(connection, source, request.schema, name)
            differences += figures.pop("differences")
            tables.append(figures)
        same_source = (
            None
            if record is None or record["source_sha256"] is None
            else source.current_fingerprint().sha256 == record["source_sha256"]
        )
        sqlite_size = os.stat(source.real_path).st_size
    return {
        "depth": request.depth,
        "schema": request.schema,
        "equal": not differences,
        "differences": differences,
        "tables": tables,
        "rows_total": sum(t["target"]["rows"] for t in tables),
        "source": {
            "path": os.path.abspath(request.source),
            "size": sqlite_size,
            "sqlite_version": sqlite3.sqlite_version,
            "same_as_recorded": same_source,
        },
        "target": {
            "database": pg.one(connection, "SELECT current_database()"),
            "server_version": pg.one(connection, "SHOW server_version"),
        },
        "collection_version": COLLECTION_VERSION,
        "started_at": started_at,
        "finished_at": _now(),
        "duration": round(time.monotonic() - started, 3),
    }


def _difference(table: str, what: str, source: Any, target: Any) -> dict[str, Any]:
    return {"table": table, "what": what, "source": source, "target": target}


def _pg_quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _compare_table(
    connection: Any, source: SourceDatabase, schema: str, name: str
) -> dict[str, Any]:
    info = [row for row in source.query(f"PRAGMA table_xinfo({quote_sqlite(name)})") if row[6] != 1]
    columns = [str(row[1]) for row in info]
    keys = [str(row[1]) for row in info if row[5]]
    types = dict(
        pg.fetch(
            connection,
            """
            SELECT a.attname, a.atttypid::pg_catalog.regtype::text
            FROM pg_catalog.pg_attribute a
            JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
            """,
            (schema, name),
        )
    )
    differences = [
        _difference(name, f"column {column}", "present", "missing")
        for column in columns
        if column not in types
    ]
    shared = [column for column in columns if column in types]
    key = keys[0] if len(keys) == 1 and types.get(keys[0]) == "bigint" else None
    here = _figures(
        source.query(f"SELECT {_parts(shared, key, quote_sqlite)} FROM {quote_sqlite(name)}")[0],
        shared,
        key,
    )
    full = f"{_pg_quote(schema)}.{_pg_quote(name)}"
    there = _figures(
        pg.fetch(connection, f"SELECT {_parts(shared, key, _pg_quote)} FROM {full}")[0],
        shared,
        key,
    )
    for what in ("rows", "min_key", "max_key"):
        if here.get(what) != there.get(what):
            differences.append(_difference(name, what, here.get(what), there.get(what)))
    for column in shared:
        if here["nulls"][column] != there["nulls"][column]:
            differences.append(
                _difference(
                    name, f"NULLs in {column}", here["nulls"][column], there["nulls"][column]
                )
            )
    if key is not None:
        upcoming = _next_id(connection, full, key)
        there["next_id"] = upcoming
        if upcoming is not None and there["max_key"] is not None and upcoming <= there["max_key"]:
            differences.append(_difference(name, f"next {key}", f"> {there['max_key']}", upcoming))
    return {"name": name, "source": here, "target": there, "differences": differences}


def _parts(columns: list[str], key: str | None, quote: Any) -> str:
    parts = ["count(*)"]
    if key is not None:
        parts += [f"min({quote(key)})", f"max({quote(key)})"]
    return ", ".join(parts + [f"count({quote(column)})" for column in columns])


def _figures(row: tuple[Any, ...], columns: list[str], key: str | None) -> dict[str, Any]:
    rows = row[0]
    figures: dict[str, Any] = {"rows": rows}
    if key is not None:
        figures.update(min_key=row[1], max_key=row[2])
    counts = row[3:] if key is not None else row[1:]
    figures["nulls"] = {c: rows - n for c, n in zip(columns, counts)}
    return figures


def _next_id(connection: Any, full: str, key: str) -> int | None:
    """What the column's own sequence would give next; None if it has none."""
    sequence = pg.one(connection, "SELECT pg_get_serial_sequence(%s, %s)", (full, key))
    if sequence is None:
        return None
    return int(
        pg.one(
            connection,
            f"SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END FROM {sequence}",
        )
    )
