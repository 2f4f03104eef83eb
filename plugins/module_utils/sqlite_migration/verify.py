# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares a migrated schema with its source, by counts, by checksums or byte by byte.

Nothing of the loader is used here, neither its plan nor its formatting of values: a
mistake there would agree with itself. What the migration decided (names, conversions,
policies, what was left out) is read from its record, the types from the target's catalog.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import sqlite3
import time
from dataclasses import dataclass, field
from typing import Any

from ..version import COLLECTION_VERSION
from . import target as pg
from .compare_checksums import compare_checksums
from .compare_rows import (
    WHOLE_ROW,
    Findings,
    Pair,
    compare_rows,
    make_pair,
    pg_quote,
    read_quarantine,
)
from .compare_structure import compare_structure, highest, next_number
from .errors import MigrationError
from .progress import Progress
from .schema import list_tables, select_tables
from .source import SourceDatabase, quote_sqlite
from .target import Target, Unreachable

DEPTHS = ("counts", "checksums", "full")
_PURPOSE = "sqlite_postgres_verify"
# They describe the schema that they stand in, so an existing one keeps its own rows.
OF_THE_SCHEMA = ("alembic_version", "django_migrations")
_INTEGERS = ("int8", "int4", "int2")


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
    evidence_file: str = ""
    progress_file: str = ""
    limit: int = 100


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
    connection.set_session(
        isolation_level="REPEATABLE READ", readonly=not request.record or request.check_mode
    )
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
    if (
        request.record
        and record
        and record["verified_at"]
        and not request.again
        and _at_least(record["verification"], request.depth)
    ):
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
    if request.evidence_file and not request.check_mode:
        _write_evidence(request.evidence_file, evidence)
        verdict.changed = True
    if verdict.differences:
        raise MigrationError(
            f"{request.source} and schema {request.schema} of {request.target.label} differ in "
            f"{evidence['differences_total']} figures:\n"
            + difference_table(verdict.differences)
            + (
                f"\nand {evidence['differences_total'] - len(verdict.differences)} more"
                if evidence["differences_total"] > len(verdict.differences)
                else ""
            ),
            differences=verdict.differences,
            evidence=evidence,
            depth=request.depth,
        )
    if request.record:
        verdict.changed = True
        if not request.check_mode:
            if record is None:
                raise AssertionError("record is not there yet")
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


def _at_least(evidence: dict[str, Any] | None, depth: str) -> bool:
    known = (evidence or {}).get("depth", "counts")
    return known in DEPTHS and DEPTHS.index(known) >= DEPTHS.index(depth)


def _write_evidence(path: str, evidence: dict[str, Any]) -> None:
    """Whole or not at all, for the owner's eyes: it has the keys of rows that differ."""
    partial = f"{path}.{os.getpid()}.partial"
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as handle:
            json.dump(evidence, handle, indent=2)
            handle.write("\n")
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise MigrationError(
            f"The evidence can't be written to {path}: {error.strerror}. Set evidence_file to a "
            "path in a folder that exists and is writable.",
            evidence=evidence,
        ) from error


def _left_out(connection: Any, record: dict[str, Any] | None) -> list[dict[str, Any]] | None:
    """What the record names as not carried over; None if it doesn't say."""
    if record is None:
        return None
    if "not_carried" in record:
        found = record["not_carried"]
    else:
        known = pg.one(
            connection,
            "SELECT 1 FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass(%s) "
            "AND attname = 'not_carried' AND NOT attisdropped",
            (pg.RECORD_TABLE,),
        )
        sql = f"SELECT not_carried FROM {pg.RECORD_TABLE} WHERE id = %s"
        found = pg.one(connection, sql, (record["id"],)) if known else None
    return None if found is None else list(found)


def recorded_tables(record: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    return {str(table["name"]): table for table in (record or {}).get("tables") or []}


def uses_own_schema(record: dict[str, Any] | None) -> bool:
    """Whether the tables were made by the application's migrations, not from SQLite."""
    record = record or {}
    mode = record.get("schema_mode") or record.get("mode")
    return mode == "existing" or any(
        table.get("mode") == "existing" for table in record.get("tables") or []
    )


def _choose(
    source: SourceDatabase,
    request: VerifyRequest,
    record: dict[str, Any] | None,
    not_carried: list[dict[str, Any]] | None,
    present: set[str],
    notes: list[str],
) -> list[str]:
    names, _left = list_tables(source)
    chosen = select_tables(names, request.include, request.exclude, source.path)
    recorded = recorded_tables(record)
    if not recorded:
        return chosen
    out = {str(i.get("name")) for i in not_carried or [] if i.get("kind") == "table"}
    kept = []
    for name in chosen:
        if name in recorded:
            kept.append(name)
        elif name in out and name not in request.include:
            notes.append(f"{name} was left out of the migration, and isn't compared")
        elif name in OF_THE_SCHEMA and name in present and uses_own_schema(record):
            notes.append(f"{name} keeps the target's own rows, and isn't compared")
        else:
            kept.append(name)
    return kept


def _compare(
    connection: Any, request: VerifyRequest, record: dict[str, Any] | None
) -> dict[str, Any]:
    started_at, started = _now(), time.monotonic()
    findings = Findings(limit=request.limit)
    notes: list[str] = []
    tables: list[dict[str, Any]] = []
    not_carried = _left_out(connection, record)
    recorded = recorded_tables(record)
    progress = Progress(request.progress_file)
    with SourceDatabase(request.source) as source:
        present = set(pg.existing_tables(connection, request.schema))
        chosen = _choose(source, request, record, not_carried, present, notes)
        rows_total = sum(int((recorded.get(n) or {}).get("source_rows") or 0) for n in chosen)
        progress.begin("verify", len(chosen), rows_total)
        pairs: list[Pair] = []
        for name in chosen:
            entry = recorded.get(name)
            pair = make_pair(connection, source, request.schema, name, entry, findings)
            if pair is None:
                continue
            pairs.append(pair)
            read_quarantine(connection, record, pair)
            progress.table(name)
            begun = time.monotonic()
            figures = _compare_table(connection, source, pair, request.depth, findings, progress)
            _check_moved(record, pair, figures, findings)
            figures["duration"] = round(time.monotonic() - begun, 3)
            tables.append(figures)
            progress.table_done()
        names = {name: str(t.get("target_name") or name) for name, t in recorded.items()}
        structure = compare_structure(
            connection, source, pairs, names, not_carried, uses_own_schema(record), findings
        )
        same_source = (
            None
            if record is None or record["source_sha256"] is None
            else source.current_fingerprint().sha256 == record["source_sha256"]
        )
        sqlite_size = os.stat(source.real_path).st_size
        if source.written_meanwhile():
            notes.append("the source was written to meanwhile; its snapshot was compared")
    evidence = {
        "depth": request.depth,
        "schema": request.schema,
        "equal": not findings.total,
        "differences": findings.listed,
        "differences_total": findings.total,
        "tables": tables,
        "rows_total": sum(t["target"]["rows"] for t in tables),
        "structure": vars(structure),
        "notes": notes,
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
    evidence["digest"] = hashlib.sha256(json.dumps(evidence, sort_keys=True).encode()).hexdigest()
    return evidence


def _compare_table(
    connection: Any,
    source: SourceDatabase,
    pair: Pair,
    depth: str,
    findings: Findings,
    progress: Progress,
) -> dict[str, Any]:
    if depth == "counts" or not pair.fields:
        here, there, moved = _compare_counts(connection, source, pair, findings)
    else:
        compare = compare_rows if depth == "full" else compare_checksums
        figures = compare(connection, source, pair, findings, progress.rows)
        moved = figures.pop("moved")
        here = {"rows": figures.pop("source_rows")}
        there = {"rows": figures.pop("target_rows"), **figures}
        whole = sum(m["count"] for m in moved if m["what"] == "row")
        if here["rows"] != there["rows"] + whole:
            findings.add(pair.name, "rows", here["rows"], there["rows"])
    result: dict[str, Any] = {"name": pair.name, "target_name": pair.target}
    result |= {"source": here, "target": there}
    _compare_sequences(connection, pair, there, findings)
    if moved:
        result["moved"] = moved
    if pair.extra_columns:
        result["columns_only_in_target"] = pair.extra_columns
    return result


def _check_moved(
    record: dict[str, Any] | None, pair: Pair, figures: dict[str, Any], findings: Findings
) -> None:
    """No more values than the migration itself says may have become NULL."""
    known = (record or {}).get("moved_values")
    if known is None:
        return
    for moved in figures.get("moved", []):
        if moved["policy"] != "null":
            continue
        said = sum(
            int(item["count"])
            for item in known
            if item["table"] == pair.name and item["column"] == moved["column"]
        )
        if moved["count"] > said:
            what = f"values of {moved['column']} that became NULL"
            findings.add(pair.name, what, f"{said} by the record", moved["count"])


def _compare_sequences(
    connection: Any, pair: Pair, there: dict[str, Any], findings: Findings
) -> None:
    for made in pair.fields:
        if made.type not in _INTEGERS:
            continue
        upcoming = next_number(connection, pair, made.target)
        if upcoming is None:
            continue
        greatest = highest(connection, pair, made.target)
        there["next_id"] = upcoming
        if greatest is not None and upcoming <= greatest:
            findings.add(pair.name, f"next {made.name}", f"> {greatest}", upcoming)


def _compare_counts(
    connection: Any, source: SourceDatabase, pair: Pair, findings: Findings
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    columns = [made.name for made in pair.fields]
    whole_key = len(pair.key) == 1 and pair.fields[pair.key[0]].type in _INTEGERS
    key = pair.key[0] if whole_key and not pair.fields[pair.key[0]].conversion else None
    parts = _parts([quote_sqlite(made.name) for made in pair.fields], key)
    here = _figures(source.query(f"SELECT {parts} FROM {quote_sqlite(pair.name)}")[0], columns, key)
    parts = _parts([pg_quote(made.target) for made in pair.fields], key)
    there = _figures(pg.fetch(connection, f"SELECT {parts} FROM {pair.full_name}")[0], columns, key)
    moved: list[dict[str, Any]] = []
    whole = {row for row, entry in pair.kept.items() if entry.get(WHOLE_ROW)}
    for what in ("rows", "min_key", "max_key"):
        expected = here.get(what)
        if what == "rows" and whole:
            moved.append({"what": "row", "policy": "quarantine", "count": len(whole)})
            expected = here["rows"] - len(whole)
        if expected != there.get(what) and not (whole and what != "rows"):
            findings.add(pair.name, what, here.get(what), there.get(what))
    for made in pair.fields:
        lost = there["nulls"][made.name] - here["nulls"][made.name]
        kept = [row for row, e in pair.kept.items() if made.name in e and row not in whole]
        if lost > 0 and (made.policy == "null" or lost == len(kept)):
            moved.append(
                {"column": made.name, "policy": made.policy, "what": "value", "count": lost}
            )
        elif lost and not whole:
            findings.add(
                pair.name,
                f"NULLs in {made.name}",
                here["nulls"][made.name],
                there["nulls"][made.name],
            )
    return here, there, moved


def _parts(columns: list[str], key: int | None) -> str:
    parts = ["count(*)"]
    if key is not None:
        parts += [f"min({columns[key]})", f"max({columns[key]})"]
    return ", ".join(parts + [f"count({column})" for column in columns])


def _figures(row: tuple[Any, ...], columns: list[str], key: int | None) -> dict[str, Any]:
    rows = row[0]
    figures: dict[str, Any] = {"rows": rows}
    if key is not None:
        figures.update(min_key=row[1], max_key=row[2])
    counts = row[3:] if key is not None else row[1:]
    figures["nulls"] = {c: rows - n for c, n in zip(columns, counts)}
    return figures
