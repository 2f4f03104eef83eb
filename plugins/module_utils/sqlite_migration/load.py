# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The migration itself: one snapshot of the source, one transaction in the target."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..version import COLLECTION_VERSION
from . import target as pg
from .copy_text import BadValue, CopyStream, check_json, encoder_for, row_encoder
from .errors import MigrationError
from .expressions import quote_identifier
from .plan import Plan, PlannedTable, Statement, build_plan
from .schema import LeftOut, profile_columns, read_schema
from .source import Fingerprint, SourceDatabase, content_fingerprint, quote_sqlite
from .target import Target, Unreachable
from .types import needs_profile

_SAMPLE = 5
_PURPOSE = "sqlite_to_postgres"


@dataclass
class Request:
    """What the caller asks for."""

    source: str
    target: Target
    schema: str = "public"
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    source_changed: str = "fail"
    check_mode: bool = False


@dataclass
class Outcome:
    """What the module returns."""

    changed: bool = False
    already_migrated: bool = False
    record: dict[str, Any] | None = None
    tables: list[dict[str, Any]] = field(default_factory=list)
    rows_total: int = 0
    bytes: int = 0
    duration: float = 0.0
    rate: float = 0.0
    plan: dict[str, Any] = field(default_factory=dict)
    plan_text: str = ""
    not_carried: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        result = dict(vars(self))
        del result["plan_text"]
        return result


@dataclass
class _BadColumn:
    count: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)


def migrate(request: Request) -> Outcome:
    """Migrates, or says what would be migrated; raises MigrationError with nothing changed."""
    outcome = Outcome()
    try:
        connection = pg.connect(request.target, _PURPOSE)
    except Unreachable as error:
        if not request.check_mode:
            raise
        outcome.notes.append(f"Not compared with the target: {error.message}")
        _plan_only(request, outcome)
        return outcome
    try:
        with _readable_errors(request):
            _migrate_connected(connection, request, outcome)
        return outcome
    finally:
        with contextlib.suppress(Exception):
            connection.close()


@contextlib.contextmanager
def _readable_errors(request: Request) -> Iterator[None]:
    import psycopg2

    try:
        yield
    except psycopg2.Error as error:
        primary = getattr(error.diag, "message_primary", None) or " ".join(str(error).split())
        raise MigrationError(
            f"PostgreSQL stopped the migration into {request.target.label}: {primary}. Everything "
            "was rolled back; run it again when the cause is mended.",
            sqlstate=error.pgcode,
        ) from None


def _migrate_connected(connection: Any, request: Request, outcome: Outcome) -> None:
    started = time.monotonic()
    pg.settle_session(connection)
    pg.check_server(connection, request.target)
    if _recorded(connection, request, outcome):
        return
    pg.check_rights(connection, request.target, request.schema)
    pg.take_lock(connection, request.target)
    # The run that held the lock a moment ago may have finished just now.
    if _recorded(connection, request, outcome):
        return
    _refuse_occupied(connection, request)
    started_at = pg.one(connection, "SELECT clock_timestamp()")
    with SourceDatabase(request.source) as source:
        fingerprint = source.fingerprint()
        plan = _make_plan(source, request, outcome)
        if request.check_mode:
            _check_values(source, plan)
            connection.rollback()
            return
        results = _load(connection, source, plan, outcome)
        _prove_counts(connection, source, plan, results)
        _note_writers(source, outcome)
    _record(connection, request, fingerprint, started_at, results, outcome)
    connection.commit()
    outcome.changed = True
    outcome.tables = results
    outcome.rows_total = sum(table["target_rows"] for table in results)
    outcome.duration = round(time.monotonic() - started, 3)
    outcome.rate = round(outcome.rows_total / max(outcome.duration, 0.001), 1)


def _plan_only(request: Request, outcome: Outcome) -> None:
    with SourceDatabase(request.source) as source:
        plan = _make_plan(source, request, outcome)
        _check_values(source, plan)


def _make_plan(source: SourceDatabase, request: Request, outcome: Outcome) -> Plan:
    schema = read_schema(source, request.include, request.exclude)
    for table in schema.tables:
        profile_columns(source, table, [c.name for c in table.columns if needs_profile(c)])
    plan = build_plan(schema, request.schema)
    outcome.changed = True
    outcome.plan = plan.as_dict()
    outcome.plan_text = plan.as_text()
    outcome.tables = [{**table, "target_rows": None} for table in outcome.plan["tables"]]
    outcome.rows_total = sum(table.rows for table in plan.tables)
    outcome.warnings += plan.warnings
    _set_left_out(outcome, plan.left_out)
    return plan


def _set_left_out(outcome: Outcome, left: list[LeftOut]) -> None:
    outcome.not_carried = [item.as_dict() for item in left]


def _recorded(connection: Any, request: Request, outcome: Outcome) -> bool:
    record = pg.read_record(connection, request.schema)
    if record is None:
        return False
    outcome.changed = False
    outcome.already_migrated = True
    outcome.record = record
    outcome.tables = record["tables"]
    outcome.rows_total = sum(table["target_rows"] for table in record["tables"])
    _compare_source(request, record, outcome)
    missing = {t["name"] for t in record["tables"]} - set(
        pg.existing_tables(connection, request.schema)
    )
    if record["tables"] and len(missing) == len(record["tables"]):
        raise MigrationError(
            f"{pg.RECORD_TABLE} says that schema {request.schema} was migrated at "
            f"{record['finished_at']}, but none of its tables is there any more. To migrate "
            f"again, delete the record: DELETE FROM {pg.RECORD_TABLE} WHERE id = {record['id']}.",
            record=record,
        )
    connection.rollback()
    return True


def _compare_source(request: Request, record: dict[str, Any], outcome: Outcome) -> None:
    path = os.path.abspath(request.source)
    same_path = path == record["source_path"]
    if same_path and not os.path.lexists(path):
        outcome.notes.append(
            f"{path} is gone; it was migrated at {record['finished_at']} and isn't needed any more"
        )
        return
    found = content_fingerprint(path)
    if found.sha256 == record["source_sha256"]:
        return
    what = (
        f"{path} has changed since it was migrated at {record['finished_at']}"
        if same_path
        else f"{path} is another database than {record['source_path']}, which was migrated into "
        f"schema {request.schema} at {record['finished_at']}"
    )
    text = (
        f"{what}: rows that were written to SQLite after that are not in PostgreSQL. If the "
        "application still uses SQLite, stop it, empty the target and migrate again; if they "
        "don't matter, set source_changed to ignore."
    )
    if request.source_changed != "ignore":
        raise MigrationError(text, record=record)
    outcome.warnings.append(text)


def _refuse_occupied(connection: Any, request: Request) -> None:
    objects = pg.existing_objects(connection, request.schema)
    if not objects:
        return
    shown = ", ".join(objects[:20]) + (f" and {len(objects) - 20} more" if objects[20:] else "")
    raise MigrationError(
        f"The schema {request.schema} of {request.target.label} isn't empty and has no record of a "
        f"migration: {shown}. Nothing was changed. Drop these objects if they aren't needed, or "
        "set schema or login_db to an empty one.",
        existing=objects,
    )


def _select(table: PlannedTable) -> str:
    # By the table itself, so that the n-th row is the same one in every statement.
    columns = ", ".join(quote_sqlite(column.name) for column in table.columns)
    return f"SELECT {columns} FROM {quote_sqlite(table.name)} NOT INDEXED"


def _load(
    connection: Any, source: SourceDatabase, plan: Plan, outcome: Outcome
) -> list[dict[str, Any]]:
    schema = quote_identifier(plan.schema)
    if not pg.one(
        connection, "SELECT true FROM pg_catalog.pg_namespace WHERE nspname = %s", (plan.schema,)
    ):
        pg.execute(connection, f"CREATE SCHEMA {schema}")
    results = []
    for table in plan.tables:
        pg.execute(connection, table.create)
    for table, listed in zip(plan.tables, outcome.plan["tables"]):
        begun = time.monotonic()
        sent = _copy(connection, source, plan, table)
        outcome.bytes += sent.bytes
        results.append(
            {
                **listed,
                "target_rows": sent.rows,
                "bytes": sent.bytes,
                "duration": round(time.monotonic() - begun, 3),
            }
        )
    left = list(plan.left_out)
    for table in plan.tables:
        for statement in table.keys:
            _apply(connection, statement, table, left)
        _set_sequence(connection, plan.schema, table)
    for table in plan.tables:
        for statement in table.foreign_keys:
            _apply(connection, statement, table, left)
    for table in plan.tables:
        pg.execute(connection, f"ANALYZE {schema}.{quote_identifier(table.name)}")
    _set_left_out(outcome, left)
    return results


def _copy(connection: Any, source: SourceDatabase, plan: Plan, table: PlannedTable) -> CopyStream:
    import psycopg2

    encode = row_encoder(
        [column.target for column in table.columns],
        [column.not_null for column in table.columns],
    )
    stream = CopyStream(source.rows(_select(table)), encode)
    columns = ", ".join(quote_identifier(column.name) for column in table.columns)
    sql = (
        f"COPY {quote_identifier(plan.schema)}.{quote_identifier(table.name)} ({columns}) "
        "FROM STDIN (FORMAT text, ENCODING 'UTF8')"
    )
    try:
        with connection.cursor() as cursor:
            cursor.copy_expert(sql, stream)
        return stream
    except (psycopg2.Error, BadValue, sqlite3.Error) as error:
        failure = stream.failure or error
    if isinstance(failure, psycopg2.Error) and _is_outage(failure, connection):
        raise failure
    with contextlib.suppress(psycopg2.Error):
        connection.rollback()
    _check_values(source, plan)
    if isinstance(failure, sqlite3.Error):
        raise source.explain(failure)
    if not isinstance(failure, (psycopg2.Error, BadValue)):
        raise failure
    raise MigrationError(
        f"PostgreSQL refused rows of {table.name}: "
        f"{_primary(failure)}{_refused_row(source, table, failure)}. Nothing was migrated.",
        table=table.name,
    )


def _is_outage(error: Any, connection: Any) -> bool:
    """A lost connection, a cancelled query, a full disk: nothing that the rows could cause."""
    return bool(connection.closed) or str(error.pgcode or "")[:2] in ("08", "53", "57", "58")


def _primary(error: Any) -> str:
    diag = getattr(error, "diag", None)
    return getattr(diag, "message_primary", None) or str(error)


def _refused_row(source: SourceDatabase, table: PlannedTable, error: Any) -> str:
    """Turns the line of PostgreSQL's COPY message into the source's rowid."""
    context = getattr(getattr(error, "diag", None), "context", None) or ""
    words = context.replace(",", " ").split()
    if "line" not in words:
        return ""
    line = words[words.index("line") + 1].rstrip(":")
    if not line.isdigit():
        return ""
    rows = source.query(
        f"SELECT {table.row_label} FROM {quote_sqlite(table.name)} NOT INDEXED "
        f"LIMIT 1 OFFSET {int(line) - 1}"
    )
    return f" (rowid {rows[0][0]})" if rows else ""


def _check_values(source: SourceDatabase, plan: Plan) -> None:
    """Tries every value of every table and lists all that the target can't hold."""
    bad = []
    for table in plan.tables:
        for column, found in _bad_values(source, table):
            (name, reason) = column
            bad.append(
                {
                    "table": table.name,
                    "column": name,
                    "reason": reason,
                    "count": found.count,
                    "rows": found.samples,
                }
            )
    if not bad:
        return
    shown = "; ".join(
        f"{b['table']}.{b['column']}: {b['count']} x {b['reason']} ({_labels(b)})" for b in bad[:20]
    )
    more = f"; and {len(bad) - 20} more kinds" if len(bad) > 20 else ""
    raise MigrationError(
        f"{source.path} holds values that PostgreSQL can't hold in these columns: {shown}{more}. "
        "Nothing was migrated. Mend these rows in SQLite, or leave the table out with exclude.",
        bad_values=bad,
    )


def _labels(bad: dict[str, Any]) -> str:
    rows: list[dict[str, Any]] = bad["rows"]
    return ", ".join(" ".join(f"{name} {value}" for name, value in row.items()) for row in rows) + (
        ", ..." if bad["count"] > len(rows) else ""
    )


def _bad_values(
    source: SourceDatabase, table: PlannedTable
) -> list[tuple[tuple[str, str], _BadColumn]]:
    found: dict[tuple[str, str], _BadColumn] = {}
    checks = [(c.name, encoder_for(c.target), c.target.kind, c.not_null) for c in table.columns]
    labels = [quote_sqlite(name) for name in table.primary_key]
    by_key = table.row_label == "NULL" and bool(labels)
    label_names = table.primary_key if by_key else ["rowid"]
    label_sql = ", ".join(labels) if by_key else table.row_label
    columns = ", ".join(quote_sqlite(column.name) for column in table.columns)
    sql = f"SELECT {label_sql}, {columns} FROM {quote_sqlite(table.name)}"
    width = len(label_names)
    # bytearray tells a text that may be no UTF-8 from a blob, which comes as bytes.
    for batch in source.rows(sql, bytearray):
        for row in batch:
            for (name, encode, kind, strict), raw in zip(checks, row[width:]):
                reason = _reason(raw, encode, kind, strict)
                if reason is None:
                    continue
                entry = found.setdefault((name, reason), _BadColumn())
                entry.count += 1
                if len(entry.samples) < _SAMPLE:
                    entry.samples.append({n: _label(v) for n, v in zip(label_names, row)})
    return list(found.items())


def _label(value: Any) -> Any:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytearray) else value


def _reason(raw: Any, encode: Any, kind: str, strict: bool) -> str | None:
    if raw is None:
        return "NULL in a column that is NOT NULL" if strict else None
    value = raw
    if isinstance(raw, bytearray):
        try:
            value = raw.decode()
        except UnicodeDecodeError:
            return "a text that is no UTF-8"
    try:
        encode(value)
        if kind in ("json", "jsonb"):
            check_json(value, kind == "jsonb")
    except BadValue as error:
        return str(error)
    return None


def _apply(connection: Any, statement: Statement, table: PlannedTable, left: list[LeftOut]) -> None:
    """Makes one key or index. What PostgreSQL has no way to express is left out by name."""
    import psycopg2

    pg.execute(connection, "SAVEPOINT object")
    try:
        pg.execute(connection, statement.sql)
    except psycopg2.Error as error:
        # Class 42: types or functions that don't fit. Anything else is about the rows.
        if not (statement.optional and str(error.pgcode or "").startswith("42")):
            detail = f"{_primary(error)}; statement: {statement.sql}"
            if str(error.pgcode or "")[:2] in ("23", "42", "54"):
                raise MigrationError(
                    f"The {statement.kind} {statement.name} of {table.name} can't be made in "
                    f"PostgreSQL: {detail}. Everything was rolled back.",
                    table=table.name,
                ) from None
            raise
        pg.execute(connection, "ROLLBACK TO SAVEPOINT object")
        left.append(LeftOut(statement.kind, statement.name, f"PostgreSQL: {_primary(error)}"))
    pg.execute(connection, "RELEASE SAVEPOINT object")


def _set_sequence(connection: Any, schema: str, table: PlannedTable) -> None:
    """So that the next insert gets a number that was never used."""
    identity = table.identity
    if identity is None:
        return
    full = f"{quote_identifier(schema)}.{quote_identifier(table.name)}"
    highest = pg.one(connection, f"SELECT max({quote_identifier(identity.name)}) FROM {full}")
    last = max(highest or 0, table.next_id or 0)
    if last >= 1:
        pg.execute(
            connection,
            "SELECT setval(pg_get_serial_sequence(%s, %s), %s, true)",
            (full, identity.name, last),
        )


def _prove_counts(
    connection: Any, source: SourceDatabase, plan: Plan, results: list[dict[str, Any]]
) -> None:
    wrong = []
    for table, result in zip(plan.tables, results):
        full = f"{quote_identifier(plan.schema)}.{quote_identifier(table.name)}"
        here = source.query(f"SELECT count(*) FROM {quote_sqlite(table.name)}")[0][0]
        there = pg.one(connection, f"SELECT count(*) FROM {full}")
        result.update(source_rows=here, target_rows=there)
        if here != there:
            wrong.append({"table": table.name, "source_rows": here, "target_rows": there})
    if wrong:
        raise MigrationError(
            "The row counts differ after the load: "
            + "; ".join(f"{w['table']} {w['source_rows']} / {w['target_rows']}" for w in wrong)
            + ". Everything was rolled back.",
            differences=wrong,
        )


def _note_writers(source: SourceDatabase, outcome: Outcome) -> None:
    if not source.written_meanwhile():
        return
    if source.immutable:
        raise MigrationError(
            f"{source.path} was written to while it was read, and its folder isn't writable, so "
            "no consistent snapshot was possible. Stop the application, or run the task with "
            "become. Nothing was migrated."
        )
    outcome.warnings.append(
        f"{source.path} was written to during the migration: the rows written after its start "
        "are not in PostgreSQL"
    )


def _record(
    connection: Any,
    request: Request,
    fingerprint: Fingerprint,
    started_at: Any,
    results: list[dict[str, Any]],
    outcome: Outcome,
) -> None:
    pg.create_record_table(connection)
    tables = [
        {
            "name": r["name"],
            "source_rows": r["source_rows"],
            "target_rows": r["target_rows"],
            "columns": [{"name": c["name"], "type": c["type"]} for c in r["columns"]],
        }
        for r in results
    ]
    pg.write_record(
        connection,
        {
            "schema_name": request.schema,
            "source_path": os.path.abspath(request.source),
            "source_size": fingerprint.size,
            "source_sha256": fingerprint.sha256,
            "started_at": started_at,
            "collection_version": COLLECTION_VERSION,
            "tables": json.dumps(tables),
        },
    )
    outcome.record = pg.read_record(connection, request.schema)
