# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The migration itself: one snapshot of the source, one transaction in the target."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Union

from ..version import COLLECTION_VERSION
from . import target as pg
from .breaches import find_breaches, row_labels
from .careful import (
    CarefulRows,
    Finding,
    Quarantine,
    TableReader,
    TextStream,
    examine,
    is_outage,
)
from .errors import MigrationError
from .expressions import quote_identifier
from .pack import BinaryStream, Packer, PackStream, Rows, can_pack, sample_rows
from .parallel import ParallelStream, Workers, wanted
from .plan import Plan, PlannedColumn, PlannedTable, Statement
from .planning import make_plan, make_room
from .progress import Progress
from .schema import LeftOut
from .source import (
    Fingerprint,
    RowSum,
    SourceDatabase,
    check_copy_room,
    content_fingerprint,
    quote_sqlite,
    read_header,
    remove_copy,
)
from .target import Target, Unreachable
from .watch import ServerWatch

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
    target_schema_mode: str = "create"
    type_overrides: dict[str, str] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    on_bad_value: str = "fail"
    bad_value_columns: dict[str, str] = field(default_factory=dict)
    replace: list[str] = field(default_factory=list)
    integrity: str = "rows"
    backup_copy: str = ""
    progress_file: str = ""


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
    nulled: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    backup_copy: str = ""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        result = dict(vars(self))
        del result["plan_text"]
        return result


class _NeedsText(Exception):
    """Columns of policy text that hold what their type can't: they must become text."""

    def __init__(self, columns: list[str]) -> None:
        super().__init__()
        self.columns = columns


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
    progress = Progress(request.progress_file)
    progress.phase("check")
    pg.settle_session(connection)
    pg.check_server(connection, request.target)
    if _recorded(connection, request, outcome):
        return
    pg.check_rights(connection, request.target, request.schema)
    pg.take_lock(connection, request.target)
    # The run that held the lock a moment ago may have finished just now.
    if _recorded(connection, request, outcome):
        return
    room = make_room(connection, request)
    _check_disks(connection, request)
    started_at = pg.one(connection, "SELECT clock_timestamp()")
    overlap = not request.check_mode
    with contextlib.ExitStack() as stack:
        count = wanted(request.source, request.target) if overlap else 0
        workers = stack.enter_context(Workers(count))
        source = stack.enter_context(SourceDatabase(request.source, request.integrity, overlap))
        # Before the source is closed, so that it is the last to hold locks.
        stack.callback(workers.end)
        run = _Run(connection, source, request, outcome, progress, room, workers)
        fingerprint = source.fingerprint()
        renewed = source.renewed
        workers.join(source)
        if source.renewed != renewed:
            fingerprint = None
        if request.check_mode:
            run.check()
            connection.rollback()
            return
        try:
            if request.backup_copy:
                outcome.backup_copy = source.copy_to(request.backup_copy)
            results, found = run.load()
            fingerprint = fingerprint or found or source.fingerprint_now()
            _note_writers(source, outcome)
            progress.phase("commit")
            _record(run, fingerprint, started_at, results)
            progress.check_alive()
            connection.commit()
        except BaseException:
            if outcome.backup_copy:
                remove_copy(outcome.backup_copy)
            raise
    progress.phase("done")
    outcome.changed = True
    outcome.tables = results
    outcome.rows_total = sum(table["target_rows"] for table in results)
    outcome.duration = round(time.monotonic() - started, 3)
    outcome.rate = round(outcome.rows_total / max(outcome.duration, 0.001), 1)


def _check_disks(connection: Any, request: Request) -> None:
    read_header(request.source)
    size = os.stat(request.source).st_size
    pg.check_room(connection, request.target, size)
    if request.backup_copy:
        check_copy_room(request.backup_copy, size)


def _plan_only(request: Request, outcome: Outcome) -> None:
    with SourceDatabase(request.source, request.integrity) as source:
        progress = Progress(request.progress_file)
        _Run(None, source, request, outcome, progress, [], Workers(0)).check()


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
    missing = {t.get("target_name", t["name"]) for t in record["tables"]} - set(
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


Stream = Union[BinaryStream, TextStream]


class _Run:
    """One load: the plan, and what happened so far."""

    def __init__(
        self,
        connection: Any,
        source: SourceDatabase,
        request: Request,
        outcome: Outcome,
        progress: Progress,
        room: list[Statement],
        workers: Workers,
    ) -> None:
        self.connection = connection
        self.source = source
        self.request = request
        self.outcome = outcome
        self.progress = progress
        self.room = room
        self.workers = workers
        self.quarantine = Quarantine(request.schema)
        self.moved: list[Finding] = []
        self.gone: dict[str, int] = {}
        # Rows that COPY put into tables of our own, and the sum of their rowids.
        self.stored: dict[str, RowSum] = {}
        self.plan: Plan

    def _make_plan(self, overrides: dict[str, str]) -> None:
        self.progress.phase("plan")
        request = self.request
        if overrides:
            request = replace(request, type_overrides={**request.type_overrides, **overrides})
        self.plan = make_plan(self.source, request, self.connection)
        self.outcome.changed = True
        self.outcome.warnings = list(self.plan.warnings)
        self._show_plan()
        self.outcome.rows_total = sum(table.rows for table in self.plan.tables)
        _set_left_out(self.outcome, self.plan.left_out)

    def _show_plan(self) -> None:
        outcome = self.outcome
        outcome.plan = self.plan.as_dict()
        outcome.plan_text = self.plan.as_text()
        outcome.tables = [{**table, "target_rows": None} for table in outcome.plan["tables"]]

    def check(self) -> None:
        """Check mode: all values are looked at, and nothing is written."""
        overrides: dict[str, str] = {}
        problems: list[dict[str, Any]] = []
        while True:
            self._make_plan(overrides)
            findings = self._examine(self.plan.tables)
            problems += [f.as_problem() for f in findings if f.as_problem() not in problems]
            self.plan.problems = problems
            self._show_plan()
            try:
                self._refuse(findings)
                break
            except _NeedsText as needed:
                overrides.update(dict.fromkeys(needed.columns, "text"))
        # The constraints of a schema made from the source were the source's own.
        if self.plan.mode == "existing" and self.connection is not None:
            self._refuse_breaches()

    def _refuse_breaches(self) -> None:
        """Lists all rows that break constraints, if there are such rows."""
        found = find_breaches(self.connection, self.source, self.plan, self.plan.tables)
        if found:
            self.plan.problems += found
            self._show_plan()
            told = "; ".join(
                f"{b['table']}: {b['count']} x {b['reason']} ({_labels(b)})" for b in found
            )
            raise MigrationError(
                f"{self.source.path} has rows that break constraints of PostgreSQL's tables: "
                f"{told}. Nothing was migrated. Mend these rows in SQLite, change the "
                "constraints, or leave the table out with exclude.",
                table=found[0]["table"],
                problems=found,
            )

    def _refuse_breaches_after(self) -> None:
        """The same after a failure, in a transaction of its own."""
        import psycopg2

        with contextlib.suppress(psycopg2.Error):
            self.connection.rollback()
            pg.settle_session(self.connection)
            try:
                self._refuse_breaches()
            finally:
                self.connection.rollback()

    def _examine(self, tables: list[PlannedTable]) -> list[Finding]:
        found: list[Finding] = []
        for table in tables:
            found += examine(self.connection, self.source, self.plan.schema, table)[0]
        return found

    def _refuse(self, findings: list[Finding]) -> None:
        """Ends the run if a policy says so."""
        if any(f.policy == "fail" for f in findings):
            _refuse_values(self.source, findings, self.plan)
        columns = [f"{f.table}.{f.column}" for f in findings if f.policy == "text"]
        if columns:
            raise _NeedsText(columns)

    def load(self) -> tuple[list[dict[str, Any]], Fingerprint | None]:
        overrides: dict[str, str] = {}
        unproved: list[str] | None = None
        while True:
            pg.execute(self.connection, "SAVEPOINT load")
            try:
                self._make_plan(overrides)
                if unproved is None:
                    unproved = self._unproved(self.plan.left_out)
                    self._start_checks(unproved)
                results = self._load_tables()
                break
            except _NeedsText as needed:
                pg.execute(self.connection, "ROLLBACK TO SAVEPOINT load")
                overrides.update(dict.fromkeys(needed.columns, "text"))
                self.quarantine.clear()
                self.moved.clear()
                self.gone.clear()
                self.outcome.bytes = 0
        self.workers.end()
        left = self._finish_tables()
        self.progress.phase("count")
        fingerprint = self.source.finish_checks(self._prove_counts(results))
        refused = [name for name in self._unproved(left) if name not in unproved]
        if refused:
            self.source.check_foreign_keys([t.name for t in self.plan.tables], refused)
        _set_left_out(self.outcome, left)
        self._tell_moved()
        return results, fingerprint

    def _start_checks(self, unproved: list[str]) -> None:
        """Those of the source; of tables whose rowid is a column the target tells the rows."""
        self.source.start_checks(unproved, [t.name for t in self.plan.tables if t.rowid])

    def _unproved(self, left: list[LeftOut]) -> list[str]:
        """Tables with a foreign key that PostgreSQL's own constraint doesn't prove."""
        tables = [table.name for table in self.plan.tables]
        if self.plan.mode != "create":
            return tables
        labels = [item.name for item in left if item.kind == "foreign key"]
        return [name for name in tables if any(x.startswith(f"{name}(") for x in labels)]

    def _load_tables(self) -> list[dict[str, Any]]:
        connection, plan = self.connection, self.plan
        for statement in self.room:
            pg.execute(connection, statement.sql)
        if not pg.one(
            connection,
            "SELECT true FROM pg_catalog.pg_namespace WHERE nspname = %s",
            (plan.schema,),
        ):
            pg.execute(connection, f"CREATE SCHEMA {quote_identifier(plan.schema)}")
        for table in plan.tables:
            for statement in table.before:
                pg.execute(connection, statement.sql)
        self.stored.clear()
        self.progress.begin("load", len(plan.tables), sum(table.rows for table in plan.tables))
        results = []
        for table, listed in zip(plan.tables, self.outcome.plan["tables"]):
            begun = time.monotonic()
            self.progress.table(table.name)
            sent = self._copy(table)
            self.progress.table_done()
            self.outcome.bytes += sent.bytes
            if table.create and isinstance(sent, BinaryStream):
                self.stored[table.name] = (sent.stored, sent.rowid_sum)
            results.append(
                {
                    **listed,
                    "target_rows": sent.rows,
                    "bytes": sent.bytes,
                    "duration": round(time.monotonic() - begun, 3),
                }
            )
        return results

    def _finish_tables(self) -> list[LeftOut]:
        """Statistics, keys, indexes, sequences and foreign keys.

        What only one of the server's processes can do comes first, and the largest index last:
        it is then built by several, when the checks have left the processors to them.
        """
        pg.prepare_for_indexes(self.connection, self.request.target)
        left = list(self.plan.left_out)
        with ServerWatch(self.connection, self.request.target, self.progress) as watch:
            self._analyze(watch, self.plan.tables)
            self._make_keys(watch, left)
            self._make_foreign_keys(watch, left)
            # Those of an expression are the index's own.
            named = pg.tables_with_expressions(self.connection, self.plan.schema)
            self._analyze(watch, [t for t in self.plan.tables if t.target_name in named])
        return left

    def _analyze(self, watch: ServerWatch, tables: list[PlannedTable]) -> None:
        if tables:
            self.progress.phase("analyze")
        for table in tables:
            self.progress.table(table.name)
            watch.now("")
            pg.execute(self.connection, f"ANALYZE {_full(self.plan, table)}")

    def _make_keys(self, watch: ServerWatch, left: list[LeftOut]) -> None:
        connection, plan = self.connection, self.plan
        self.progress.phase("index")
        checking = None
        total, number = sum(len(table.keys) for table in plan.tables), 0
        for table in sorted(plan.tables, key=lambda table: table.rows):
            self.progress.table(table.name)
            for statement in sorted(table.keys, key=lambda statement: statement.work):
                number += 1
                watch.now(f"{statement.kind} {statement.name} ({number} of {total})")
                if checking != self.source.checking:
                    checking = self.source.checking
                    pg.share_processors(connection, self.request.target, int(checking))
                try:
                    _apply(connection, statement, table, left)
                except MigrationError as error:
                    if _breaks_constraint(error.details.get("sqlstate")):
                        self._refuse_breaches_after()
                    raise
            if plan.mode == "create":
                _set_sequence(connection, plan.schema, table)

    def _make_foreign_keys(self, watch: ServerWatch, left: list[LeftOut]) -> None:
        self.progress.phase("foreign_keys")
        total, number = sum(len(table.foreign_keys) for table in self.plan.tables), 0
        for table in self.plan.tables:
            self.progress.table(table.name)
            for statement in table.foreign_keys:
                number += 1
                watch.now(f"{statement.name} ({number} of {total})")
                self._foreign_key(statement, table, left)

    def _foreign_key(self, statement: Statement, table: PlannedTable, left: list[LeftOut]) -> None:
        try:
            _apply(self.connection, statement, table, left)
        except MigrationError as error:
            if error.details.get("sqlstate") == "23503":
                # SQLite names the rows, and PostgreSQL only the first.
                self.source.check_foreign_keys([t.name for t in self.plan.tables])
            raise

    def _copy(self, table: PlannedTable) -> Stream:
        """Fast at first; if a value is refused, once more with every value looked at."""
        import psycopg2

        columns = [column for column in table.columns if not column.generated]
        self._begin_table(table)
        position = self.quarantine.position()
        stream: Stream | None = self._fast_stream(table, columns)
        moved: CarefulRows | None = None
        if stream is None:
            moved, stream = self._careful_stream(table, {})
        failure = self._send(table, stream)
        if failure is not None:
            self._raise_outage(failure)
            pg.execute(self.connection, "ROLLBACK TO SAVEPOINT rows")
            pg.execute(self.connection, "RELEASE SAVEPOINT rows")
            self.progress.rows_again(stream.rows, stream.bytes)
            self.quarantine.back_to(position)
            findings, refused = examine(self.connection, self.source, self.plan.schema, table)
            if any(f.policy in ("fail", "text") for f in findings):
                others = [t for t in self.plan.tables if t is not table]
                self._refuse(findings + self._examine(others))
            self._begin_table(table)
            moved, stream = self._careful_stream(table, refused)
            failure = self._send(table, stream)
            if failure is not None:
                self._raise_outage(failure)
                if _breaks_constraint(getattr(failure, "pgcode", None)):
                    self._refuse_breaches_after()
                with contextlib.suppress(psycopg2.Error):
                    self.connection.rollback()
                raise MigrationError(
                    f"PostgreSQL refused rows of {table.name}: "
                    f"{_refusal(failure)}{self._refused_row(table, failure, refused)}. "
                    "Nothing was migrated.",
                    table=table.name,
                )
        pg.execute(self.connection, "RELEASE SAVEPOINT rows")
        if moved is not None:
            self.moved += moved.moved.values()
            self.gone[table.name] = moved.rows_quarantined
        return stream

    def _begin_table(self, table: PlannedTable) -> None:
        """In the same subtransaction as its rows, which may then be written frozen."""
        pg.execute(self.connection, "SAVEPOINT rows")
        if table.create:
            pg.execute(self.connection, table.create)

    def _fast_stream(
        self, table: PlannedTable, columns: list[PlannedColumn]
    ) -> BinaryStream | None:
        if not columns or not all(can_pack(column.target) for column in columns):
            return None
        connection = self.source.connection
        # Texts and blobs alike; nothing else runs on this connection until the table is through.
        connection.text_factory = bytes
        try:
            sample = sample_rows(connection, table.name, columns)
            packer = Packer(table.name, columns, sample)
            tick = self.progress.rows
            parallel = self.workers.stream(self.source, table, packer, sample, tick)
            rowid = table.rowid.name if table.rowid else None
            return parallel or PackStream(Rows(connection, packer), packer, tick, rowid)
        except sqlite3.Error as error:
            if "integer overflow" in str(error):
                # The first row fails the statement's own check of storage classes.
                return None
            raise self.source.explain(error) from error
        finally:
            connection.text_factory = str

    def _careful_stream(
        self, table: PlannedTable, refused: dict[str, dict[int, str]]
    ) -> tuple[CarefulRows, TextStream]:
        rows = CarefulRows(TableReader(self.source, table), refused, self.quarantine)
        return rows, TextStream(iter(rows), self.progress.rows)

    def _send(self, table: PlannedTable, stream: Stream) -> Exception | None:
        """The COPY; what stopped it, if that may be a matter of values."""
        import psycopg2

        if not isinstance(stream, TextStream):
            columns, form = stream.columns, "binary"
            self.source.connection.text_factory = bytes
        else:
            columns, form = [c for c in table.columns if not c.generated], "text"
        names = ", ".join(quote_identifier(column.target_name) for column in columns)
        # Frozen rows need no later vacuum, and no index build has to write hint bits.
        frozen = ", FREEZE" if table.create else ""
        sql = (
            f"COPY {_full(self.plan, table)} ({names}) FROM STDIN "
            f"(FORMAT {form}, ENCODING 'UTF8'{frozen})"
        )
        try:
            with self.connection.cursor() as cursor:
                cursor.copy_expert(sql, stream)
                stream.stored = cursor.rowcount
            return None
        except MigrationError:
            raise
        except Exception as error:
            failure = stream.failure or error
            if isinstance(failure, MigrationError):
                raise failure from None
            if not isinstance(failure, (psycopg2.Error, sqlite3.Error, ValueError, *_FAST_ERRORS)):
                raise failure from error
            return failure
        finally:
            self.source.connection.text_factory = str
            if isinstance(stream, (PackStream, ParallelStream, TextStream)):
                stream.close()

    def _raise_outage(self, failure: Exception) -> None:
        import psycopg2

        if isinstance(failure, psycopg2.Error) and is_outage(failure, self.connection):
            raise failure
        if isinstance(failure, sqlite3.DatabaseError) and _is_damage(failure):
            raise self.source.explain(failure) from None

    def _refused_row(
        self, table: PlannedTable, error: Any, refused: dict[str, dict[int, str]]
    ) -> str:
        """Turns the line of PostgreSQL's COPY message into the source's rowid."""
        context = getattr(getattr(error, "diag", None), "context", None) or ""
        # In any language: the first number after the table's name, as COPY gives it.
        _before, _name, after = context.rpartition(f"COPY {table.target_name}")
        line = re.search("[0-9]+", after)
        if not line:
            return ""
        number = int(line.group())
        labels = row_labels(self.source, table, refused, {number}).get(number, {})
        return f" ({', '.join(f'{name} {value}' for name, value in labels.items())})"

    def _prove_counts(self, results: list[dict[str, Any]]) -> dict[str, RowSum]:
        """Of tables that came whole, the rows and the sum of their rowids in the target.

        Where COPY filled a table of our own, its count is the server's word on it. A table that
        was there may have triggers, so that its rows are counted.
        """
        wrong = []
        sums: dict[str, RowSum] = {}
        for table, result in zip(self.plan.tables, results):
            here = self.source.query(f"SELECT count(*) FROM {quote_sqlite(table.name)}")[0][0]
            there, total = self.stored.get(table.name) or self._count_target(table)
            gone = self.gone.get(table.name, 0)
            result.update(source_rows=here, target_rows=there, quarantined_rows=gone)
            if table.rowid and not gone:
                sums[table.name] = (there, total if there else None)
            if here != there + gone:
                wrong.append({"table": table.name, "source_rows": here, "target_rows": there})
        if wrong:
            raise MigrationError(
                "The row counts differ after the load: "
                + "; ".join(f"{w['table']} {w['source_rows']} / {w['target_rows']}" for w in wrong)
                + ". Everything was rolled back.",
                differences=wrong,
            )
        return sums

    def _count_target(self, table: PlannedTable) -> RowSum:
        rowid = quote_identifier(table.rowid.target_name) if table.rowid else "NULL::bigint"
        ((rows, total),) = pg.fetch(
            self.connection, f"SELECT count(*), sum({rowid}) FROM {_full(self.plan, table)}"
        )
        return rows, None if total is None else int(total)

    def _tell_moved(self) -> None:
        outcome = self.outcome
        self.plan.problems = [f.as_problem() for f in self.moved]
        outcome.plan["problems"] = self.plan.problems
        for finding in self.moved:
            listed = outcome.nulled if finding.policy == "null" else outcome.quarantined
            listed.append(finding.as_problem())
            outcome.warnings.append(
                f"{finding.table}.{finding.column}: {finding.count} x {finding.reason} "
                f"({_labels(finding.as_dict())}): {finding.action}"
            )


# What a packer meets when a value isn't of the usual kind.
_FAST_ERRORS = (TypeError, KeyError, IndexError, AttributeError, ArithmeticError, struct.error)


def _breaks_constraint(code: str | None) -> bool:
    """CHECK and unique; PostgreSQL names one row, or none."""
    return code in ("23505", "23514")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    # By its text, as Python 3.9 has no error codes.
    return any(word in str(error) for word in ("malformed", "disk image", "disk I/O", "not a data"))


def _refusal(failure: Exception) -> str:
    """Without values, which PostgreSQL's messages may quote."""
    code = getattr(failure, "pgcode", None)
    constraint = getattr(getattr(failure, "diag", None), "constraint_name", None)
    if constraint:
        return f"constraint {constraint}, SQLSTATE {code}"
    if code:
        return f"SQLSTATE {code}, {type(failure).__name__}"
    return str(failure)


def _full(plan: Plan, table: PlannedTable) -> str:
    return f"{quote_identifier(plan.schema)}.{quote_identifier(table.target_name)}"


def _primary(error: Any) -> str:
    diag = getattr(error, "diag", None)
    return getattr(diag, "message_primary", None) or str(error)


def _refuse_values(source: SourceDatabase, findings: list[Finding], plan: Plan) -> None:
    bad = [finding.as_dict() for finding in findings]
    shown = "; ".join(
        f"{b['table']}.{b['column']}: {b['count']} x {b['reason']} ({_labels(b)})" for b in bad[:20]
    )
    more = f"; and {len(bad) - 20} more kinds" if len(bad) > 20 else ""
    raise MigrationError(
        f"{source.path} holds values that PostgreSQL can't hold in these columns: {shown}{more}. "
        "Nothing was migrated. Mend these rows in SQLite, set on_bad_value or bad_value_columns "
        "to null, text or quarantine, or leave the table out with exclude.",
        bad_values=bad,
        problems=[finding.as_problem() for finding in findings],
    )


def _labels(bad: dict[str, Any]) -> str:
    rows: list[dict[str, Any]] = bad["rows"]
    return ", ".join(" ".join(f"{name} {value}" for name, value in row.items()) for row in rows) + (
        ", ..." if bad["count"] > len(rows) else ""
    )


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
                    sqlstate=error.pgcode,
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
    full = f"{quote_identifier(schema)}.{quote_identifier(table.target_name)}"
    highest = pg.one(
        connection, f"SELECT max({quote_identifier(identity.target_name)}) FROM {full}"
    )
    last = max(highest or 0, table.next_id or 0)
    if last >= 1:
        pg.execute(
            connection,
            "SELECT setval(pg_get_serial_sequence(%s, %s), %s, true)",
            (full, identity.target_name, last),
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
    run: _Run, fingerprint: Fingerprint, started_at: Any, results: list[dict[str, Any]]
) -> None:
    connection, request, outcome = run.connection, run.request, run.outcome
    pg.create_record_table(connection)
    names = ("name", "target_name", "type", "conversion", "policy", "generated")
    tables = [
        {
            "name": r["name"],
            "target_name": r["target_name"],
            "source_rows": r["source_rows"],
            "target_rows": r["target_rows"],
            "quarantined_rows": r["quarantined_rows"],
            "columns": [{name: c.get(name) for name in names} for c in r["columns"]],
        }
        for r in results
    ]
    number = pg.write_record(
        connection,
        {
            "schema_name": request.schema,
            "source_path": os.path.abspath(request.source),
            "source_size": fingerprint.size,
            "source_sha256": fingerprint.sha256,
            "started_at": started_at,
            "collection_version": COLLECTION_VERSION,
            "tables": json.dumps(tables),
            "schema_mode": run.plan.mode,
            "not_carried": json.dumps(outcome.not_carried),
            "moved_values": json.dumps([f.as_problem() for f in run.moved]),
            "backup_copy": outcome.backup_copy or None,
        },
    )
    run.quarantine.store(connection, number)
    outcome.record = pg.read_record(connection, request.schema)
