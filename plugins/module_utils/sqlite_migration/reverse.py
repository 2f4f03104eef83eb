# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: a schema of PostgreSQL into a new SQLite file, whole or not at all.

Where the original file is at hand, its rows are read in step with PostgreSQL's: a value that
still says the same is written as the original had it, to the byte. All others are written in
the form that their column had.
"""

from __future__ import annotations

# A bool is an int to isinstance, and here it must not be.
# pylint: disable=unidiomatic-typecheck
import contextlib
import datetime
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import target as pg
from .compare_rows import (
    Comparison,
    Findings,
    Packer,
    Pair,
    compare_rows,
    copy_out,
    in_order,
    make_pair,
    pg_quote,
    read_fields,
    read_quarantine,
    row_batches,
)
from .compare_structure import next_number
from .errors import MigrationError
from .progress import Progress
from .reverse_schema import (
    Object,
    columns_to_add,
    make_table,
    read_objects,
    refuse_others,
    unsupported_columns,
)
from .reverse_values import Decode, Unwritable, decoder, learn
from .schema import LeftOut
from .source import SourceDatabase, quote_sqlite
from .target import Target
from .verify import OF_THE_SCHEMA, recorded_tables, uses_own_schema
from .verify_codec import Blob, Field, Row, Text

_PURPOSE = "postgres_to_sqlite"
_SAMPLES = 200
_SAMPLE = 5
_BUFFER_ROWS = 500
_BUFFER_BYTES = 1 << 20


@dataclass
class ReverseRequest:
    """`schema_from` is the original SQLite file; without it the schema comes from the catalog."""

    dest: str
    target: Target
    schema: str = "public"
    schema_from: str = ""
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    replace: bool = False
    check_mode: bool = False
    progress_file: str = ""


@dataclass
class Reversed:
    """What the module returns."""

    changed: bool = False
    dest: str = ""
    backup: str | None = None
    tables: list[dict[str, Any]] = field(default_factory=list)
    rows_total: int = 0
    size: int | None = None
    duration: float = 0.0
    not_carried: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    verified: bool = False


@dataclass
class _Table:
    """A table of PostgreSQL and what it becomes."""

    name: str
    target: str
    create: str
    from_original: bool
    # Statements after the rows are there.
    after: list[str] = field(default_factory=list)
    # Columns that PostgreSQL has got since, and their SQLite types.
    added: dict[str, str] = field(default_factory=dict)
    not_insertable: set[str] = field(default_factory=set)
    # SQLite's word for the rowid, where the original's numbers are kept.
    rowid: str = ""
    rows: int = 0
    figures: dict[str, int] = field(default_factory=dict)


class _Problems:
    """Values that SQLite can't hold exactly, by column and reason."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, str], dict[str, Any]] = {}

    def add(self, table: str, column: str, reason: str, key: dict[str, Any]) -> None:
        entry = self.found.setdefault(
            (table, column, reason),
            {"table": table, "column": column, "reason": reason, "count": 0, "rows": []},
        )
        entry["count"] += 1
        if len(entry["rows"]) < _SAMPLE:
            entry["rows"].append(key)

    def refuse(self, label: str) -> None:
        if not self.found:
            return
        shown = "; ".join(
            f"{p['table']}.{p['column']}: {p['count']} x {p['reason']} "
            f"({', '.join(_label(row) for row in p['rows'])}"
            f"{', ...' if p['count'] > len(p['rows']) else ''})"
            for p in list(self.found.values())[:20]
        )
        raise MigrationError(
            f"{label} holds values that SQLite can't hold exactly in these columns: {shown}. "
            "Nothing was written. Change these rows, or leave the table out with exclude.",
            bad_values=list(self.found.values()),
        )


def _label(row: dict[str, Any]) -> str:
    return " ".join(f"{name} {value}" for name, value in row.items())


def restore(request: ReverseRequest) -> Reversed:
    """Writes the file, or says what would be written; a MigrationError means nothing changed."""
    import psycopg2

    outcome = Reversed(dest=os.path.realpath(request.dest))
    connection = pg.connect(request.target, _PURPOSE)
    try:
        _restore_connected(connection, request, outcome)
        return outcome
    except psycopg2.Error as error:
        primary = getattr(error.diag, "message_primary", None) or " ".join(str(error).split())
        raise MigrationError(
            f"PostgreSQL stopped the copy of {request.target.label}: {primary}. Nothing was "
            "written; run it again when the cause is mended.",
            sqlstate=error.pgcode,
        ) from None
    finally:
        with contextlib.suppress(Exception):
            connection.close()


def _restore_connected(connection: Any, request: ReverseRequest, outcome: Reversed) -> None:
    started = time.monotonic()
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    pg.settle_session(connection)
    pg.check_server(connection, request.target)
    record = pg.read_record(connection, request.schema)
    progress = Progress(request.progress_file)
    with contextlib.ExitStack() as stack:
        original = None
        if request.schema_from:
            original = stack.enter_context(SourceDatabase(request.schema_from))
        work = _Work(connection, request, outcome, record, original, progress)
        work.plan()
        present = os.path.lexists(outcome.dest)
        if present and work.is_equal(outcome.dest):
            outcome.notes.append(f"{outcome.dest} holds all of it already")
            outcome.verified = True
            return
        if present:
            _check_replaceable(request, outcome.dest)
        outcome.changed = True
        if request.check_mode:
            work.rehearse()
            return
        work.write()
        outcome.backup = work.publish(present)
    outcome.size = os.stat(outcome.dest).st_size
    outcome.duration = round(time.monotonic() - started, 3)


def _check_replaceable(request: ReverseRequest, path: str) -> None:
    if not request.replace:
        raise MigrationError(
            f"{path} exists and holds something else than schema {request.schema} of "
            f"{request.target.label}. Nothing was changed. Set dest to a new path, or set replace "
            "to true, which keeps the old file under another name."
        )
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise MigrationError(f"{path} is not a regular file. Set dest to another path.")
    for suffix in ("-wal", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path + suffix).st_size:
                raise MigrationError(
                    f"{path}{suffix} holds changes that are not in {path} yet. Stop the "
                    "application cleanly, so that it empties that file, and run this again."
                )


class _Work:
    def __init__(
        self,
        connection: Any,
        request: ReverseRequest,
        outcome: Reversed,
        record: dict[str, Any] | None,
        original: SourceDatabase | None,
        progress: Progress,
    ) -> None:
        self.connection = connection
        self.request = request
        self.outcome = outcome
        self.record = record
        self.recorded = recorded_tables(record)
        self.original = original
        self.progress = progress
        self.objects = read_objects(original) if original else []
        self.tables: list[_Table] = []
        self.pairs: dict[str, Pair] = {}
        self.only_original: list[Object] = []
        self.problems = _Problems()
        self.lock: int | None = None
        self.partial = os.path.join(
            os.path.dirname(outcome.dest), f".{os.path.basename(outcome.dest)}.golive-partial"
        )

    # --- what is to be done ------------------------------------------------------------------

    def plan(self) -> None:
        schema, request = self.request.schema, self.request
        there = sorted(_ordinary_tables(self.connection, schema))
        sources = {str(t.get("target_name") or n): n for n, t in self.recorded.items()}
        known = {o.name.lower(): o for o in self.objects if o.kind == "table"}
        names: dict[str, str] = {}
        for target in there:
            name = sources.get(target, target)
            if target not in sources and target.lower() in known:
                name = known[target.lower()].name
            names[name] = target
        for option, wanted in (("include", request.include), ("exclude", request.exclude)):
            originals = {o.name for o in known.values()} if option == "exclude" else set()
            unknown = [name for name in wanted if name not in names and name not in originals]
            if unknown:
                raise MigrationError(
                    f"{option} names tables that schema {schema} doesn't have: "
                    f"{', '.join(unknown)}. It has: {', '.join(names) or 'none'}."
                )
        views = {o.name for o in self.objects if o.kind == "view"}
        refuse_others(self.connection, schema, views, request.exclude)
        chosen = {
            n: t
            for n, t in names.items()
            if not (
                n in OF_THE_SCHEMA
                and n not in self.recorded
                and n.lower() in known
                and uses_own_schema(self.record)
            )
            and (not request.include or n in request.include)
            and n not in request.exclude
        }
        if not chosen:
            raise MigrationError(
                f"Schema {schema} of {request.target.label} has no tables to copy. Set schema or "
                "login_db."
            )
        order = {o.name: n for n, o in enumerate(self.objects)}
        for name in sorted(chosen, key=lambda n: (order.get(n, len(order)), n)):
            self._plan_table(name, chosen[name], known.get(name.lower()))
        done = {table.name.lower() for table in self.tables}
        left = {name.lower() for name in request.exclude}
        for item in self.objects:
            if item.kind == "table" and item.name.lower() not in done | left:
                if request.include and item.name not in request.include:
                    continue
                self.only_original.append(item)
                self.outcome.notes.append(
                    f"{item.name} isn't in PostgreSQL: its rows are those of the original"
                )
        self.outcome.tables = [
            {
                "name": t.name,
                "target_name": t.target,
                "schema": "original" if t.from_original else "catalog",
                "added_columns": sorted(t.added),
            }
            for t in self.tables
        ]
        self.outcome.statements = [t.create for t in self.tables]
        for t in self.tables:
            self.outcome.statements += [_add_column(t, c) for c in t.added]
            self.outcome.statements += t.after
        self._check_room()

    def _plan_table(self, name: str, target: str, item: Object | None) -> None:
        request = self.request
        fields = read_fields(self.connection, request.schema, target)
        contract = (self.recorded.get(name) or {}).get("columns", [])
        known = {str(c.get("target_name") or c["name"]) for c in contract}
        unsupported_columns(self.connection, request.schema, target, name, known if item else set())
        if item is None:
            made = make_table(self.connection, request.schema, target, name, fields)
            self.tables.append(_Table(name, target, made.create, False, made.after))
            self.outcome.not_carried += [x.as_dict() for x in made.left_out]
            return
        if self.original is None:
            raise AssertionError("original is not there yet")
        table = _Table(name, target, item.sql, True)
        table.added, table.not_insertable = columns_to_add(
            self.original, item.name, fields, contract
        )
        for column in table.added:
            self.outcome.notes.append(f"{name}.{column} is new: the original has no such column")
        self.tables.append(table)

    def _check_room(self) -> None:
        folder = os.path.dirname(self.outcome.dest)
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
            raise MigrationError(
                f"The folder {folder} doesn't exist or isn't writable. Set dest to a path in a "
                "folder that is."
            )
        size = 0
        for table in self.tables:
            full = f"{pg_quote(self.request.schema)}.{pg_quote(table.target)}"
            size += pg.one(self.connection, "SELECT pg_relation_size(%s)", (full,)) or 0
        state = os.statvfs(folder)
        free = state.f_bavail * state.f_frsize
        if free < size // 2:
            raise MigrationError(
                f"{folder} has {free // 1_000_000} MB free; the tables have {size // 1_000_000} MB "
                "in PostgreSQL. Make room, or set dest to another folder."
            )

    # --- one table ---------------------------------------------------------------------------

    def _pair(self, table: _Table) -> Pair:
        """The table in PostgreSQL and in the original."""
        if self.original is None:
            raise AssertionError("original is not there yet")
        if table.name in self.pairs:
            return self.pairs[table.name]
        findings = Findings()
        contract = self.recorded.get(table.name) or {"target_name": table.target}
        pair = make_pair(
            self.connection,
            self.original,
            self.request.schema,
            table.name,
            contract,
            findings,
            True,
        )
        if pair is None:
            raise AssertionError("pair is not there yet")
        read_quarantine(self.connection, self.record, pair)
        _with_added(pair, table, self.connection)
        self.pairs[table.name] = pair
        return pair

    def _copy(self, table: _Table, writer: _Writer | None) -> None:
        """All rows of a table to the writer; without one they are only tried."""
        count = 0

        def seen(number: int) -> None:
            self.progress.rows(number)

        if table.from_original:
            if self.original is None:
                raise AssertionError("original is not there yet")
            pair = self._pair(table)
            packer = Packer(pair, {})
            rows, query = in_order(self.original, pair, packer)
            decoders = [
                decoder(made, learn(made, self._samples(table, made))) for made in pair.fields
            ]
            rebuild = _Rebuild(pair, packer, rows, decoders, table, self.problems, writer, seen)
            copy_out(self.connection, query, rebuild.writer())
            rebuild.finish()
            table.rows = rebuild.written
            table.figures = rebuild.figures
            return
        fields = list(read_fields(self.connection, self.request.schema, table.target).values())
        decoders = [decoder(made, learn(made, [])) for made in fields]
        pair = Pair(table.name, table.target, self.request.schema, fields, [], False, [])
        rebuild = _Rebuild(
            pair, Packer(pair, {}), iter(()), decoders, table, self.problems, writer, seen
        )
        rebuild.offset = 0
        key = _primary_key(self.connection, pair.full_name)
        order = f" ORDER BY {', '.join(map(pg_quote, key))}" if key else ""
        expressions = ", ".join(made.expression for made in fields)
        copy_out(
            self.connection,
            f"SELECT {expressions} FROM {pair.full_name}{order}",
            rebuild.writer(),
        )
        rebuild.finish()
        table.rows = count = rebuild.written
        table.figures = {"new": count}

    def _samples(self, table: _Table, made: Field) -> list[Any]:
        if self.original is None:
            raise AssertionError("original is not there yet")
        if made.absent or made.type in ("text", "varchar", "bytea", "json", "jsonb", "int8"):
            return []
        name = quote_sqlite(made.name)
        sql = (
            f"SELECT {name} FROM {quote_sqlite(table.name)} WHERE {name} IS NOT NULL "
            f"LIMIT {_SAMPLES}"
        )
        return [
            row[0].decode("utf-8", "replace") if isinstance(row[0], bytearray) else row[0]
            for rows in row_batches(self.original, sql, bytearray, False)
            for row in rows
        ]

    def rehearse(self) -> None:
        """Check mode: every value is read and tried, and none is written."""
        self.progress.begin("check", len(self.tables), 0)
        for table in self.tables:
            self.progress.table(table.name)
            self._copy(table, None)
            self.progress.table_done()
        self._finish_figures()

    def _finish_figures(self) -> None:
        self.problems.refuse(f"Schema {self.request.schema} of {self.request.target.label}")
        for listed, table in zip(self.outcome.tables, self.tables):
            listed.update(rows=table.rows, **table.figures)
        self.outcome.rows_total = sum(table.rows for table in self.tables)

    # --- the file ----------------------------------------------------------------------------

    def write(self) -> None:
        try:
            self._lock()
            self._fill()
            self._verify()
        except sqlite3.Error as error:
            self._discard()
            raise MigrationError(
                f"SQLite can't write {self.outcome.dest}: {error}. Nothing was changed. If the "
                "disk is full, make room, or set dest to another folder.",
            ) from None
        except OSError as error:
            self._discard()
            raise MigrationError(
                f"{self.outcome.dest} can't be written: {error.strerror}. Nothing was changed."
            ) from None
        except BaseException:
            self._discard()
            raise

    def _lock(self) -> None:
        # A killed run's file is taken over; a running one's isn't.
        descriptor = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino != os.stat(self.partial).st_ino:
                raise BlockingIOError
        except OSError:
            os.close(descriptor)
            raise MigrationError(
                f"Another run is writing {self.outcome.dest}. Wait for it to finish; nothing was "
                "changed."
            ) from None
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)
        self.lock = descriptor

    def _discard(self) -> None:
        if self.lock is None:
            return
        for suffix in ("", "-journal", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(self.partial + suffix)
        os.close(self.lock)
        self.lock = None

    def _fill(self) -> None:
        self.progress.begin("load", len(self.tables), self._expected())
        new = sqlite3.connect(self.partial, isolation_level=None)
        try:
            mode = self._settings(new)
            new.execute("BEGIN")
            for table in self.tables:
                new.execute(table.create)
                for column in table.added:
                    new.execute(_add_column(table, column))
            for item in self.only_original:
                new.execute(item.sql)
            for table in self.tables:
                self.progress.table(table.name)
                self._fill_table(new, table)
                self.progress.table_done()
            self._finish_figures()
            for item in self.only_original:
                self._copy_original(new, item.name)
            self.progress.phase("index")
            self._objects(new)
            self._sequences(new)
            if self.original and self.original.query(
                "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'"
            ):
                new.execute("ANALYZE")
            new.execute("COMMIT")
            new.execute(f"PRAGMA journal_mode = {mode}")
            broken = new.execute("PRAGMA foreign_key_check").fetchmany(5)
            if broken:
                self.outcome.notes.append(
                    "rows that refer to none: " + ", ".join(f"{b[0]} rowid {b[1]}" for b in broken)
                )
            problems = [r[0] for r in new.execute("PRAGMA integrity_check") if r[0] != "ok"]
            if problems:
                raise MigrationError(
                    f"The new file isn't sound: {'; '.join(problems[:5])}. Nothing was changed."
                )
        finally:
            new.close()

    def _expected(self) -> int:
        total = 0
        for table in self.tables:
            full = f"{pg_quote(self.request.schema)}.{pg_quote(table.target)}"
            estimate = pg.one(
                self.connection,
                "SELECT reltuples::bigint FROM pg_catalog.pg_class WHERE oid = %s::regclass",
                (full,),
            )
            total += max(0, int(estimate or 0))
        return total

    def _settings(self, new: sqlite3.Connection) -> str:
        """The original's own, as far as they are kept in the file; returns its journal mode."""
        mode = "DELETE"
        if self.original is not None:
            for name in ("page_size", "encoding", "auto_vacuum", "user_version", "application_id"):
                value = self.original.query(f"PRAGMA {name}")[0][0]
                new.execute(f"PRAGMA {name} = {quote_sqlite(str(value))}")
            mode = "WAL" if self.original.wal_mode else "DELETE"
        # The file has no name yet: what is lost by a crash is thrown away anyway.
        new.execute("PRAGMA journal_mode = OFF")
        new.execute("PRAGMA synchronous = OFF")
        return mode

    def _fill_table(self, new: sqlite3.Connection, table: _Table) -> None:
        info = new.execute(f"PRAGMA table_xinfo({quote_sqlite(table.name)})").fetchall()
        computed = {str(row[1]).lower() for row in info if row[6] in (2, 3)}
        writer = _Writer(new, table, computed, self._columns(table))
        try:
            self._copy(table, writer)
            writer.finish()
        except sqlite3.IntegrityError as error:
            raise MigrationError(
                f"A row of {table.name} breaks a rule of the SQLite schema: {error}. Nothing was "
                "written. Change the row in PostgreSQL, or leave schema_from unset.",
                table=table.name,
            ) from None

    def _columns(self, table: _Table) -> list[str]:
        if not table.from_original:
            return list(read_fields(self.connection, self.request.schema, table.target))
        pair = self._pair(table)
        numbered = (
            len(pair.key) == 1 and pair.natural and pair.fields[pair.key[0]].type.startswith("int")
        )
        if [name for _sql, name in pair.labels] == ["rowid"] and not numbered:
            table.rowid = pair.labels[0][0]
        return [made.name for made in pair.fields]

    def _copy_original(self, new: sqlite3.Connection, name: str) -> None:
        if self.original is None:
            raise AssertionError("original is not there yet")
        info = self.original.query(f"PRAGMA table_xinfo({quote_sqlite(name)})")
        columns = [str(row[1]) for row in info if row[6] == 0]
        listed = ", ".join(map(quote_sqlite, columns))
        table = _Table(name, name, "", True)
        writer = _Writer(new, table, set(), columns)
        sql = f"SELECT {listed} FROM {quote_sqlite(name)}"
        for rows in row_batches(self.original, sql, bytearray, False):
            for row in rows:
                writer.put(tuple(Text(v) if isinstance(v, bytearray) else v for v in row), None)
        writer.finish()

    def _objects(self, new: sqlite3.Connection) -> None:
        """Indexes, then what can only be made when all tables are there."""
        for table in self.tables:
            for sql in table.after:
                new.execute(sql)
        present = {t.name.lower() for t in self.tables} | {
            o.name.lower() for o in self.only_original
        }
        for kind in ("index", "virtual", "view", "trigger"):
            for item in self.objects:
                if item.kind != kind:
                    continue
                if kind in ("index", "trigger") and item.table.lower() not in present:
                    if not any(o.name == item.table for o in self.objects if o.kind != "table"):
                        continue
                try:
                    new.execute(item.sql)
                    if kind == "virtual":
                        self._fill_virtual(new, item)
                except sqlite3.IntegrityError as error:
                    raise MigrationError(
                        f"The {kind} {item.name} of the SQLite schema doesn't fit the rows: "
                        f"{error}. Nothing was written. Change the rows in PostgreSQL, or leave "
                        "schema_from unset."
                    ) from None
                except sqlite3.OperationalError as error:
                    if "full" in str(error) or "I/O" in str(error):
                        raise
                    left = LeftOut(kind.replace("virtual", "virtual table"), item.name, str(error))
                    self.outcome.not_carried.append(left.as_dict())

    def _fill_virtual(self, new: sqlite3.Connection, item: Object) -> None:
        """A search index over another table is built anew; any other keeps its own rows."""
        if self.original is None:
            raise AssertionError("original is not there yet")
        name = quote_sqlite(item.name)
        if "content=" in item.sql.replace(" ", "").lower():
            new.execute(f"INSERT INTO {name} ({name}) VALUES ('rebuild')")
            return
        self._copy_original(new, item.name)

    def _sequences(self, new: sqlite3.Connection) -> None:
        if not new.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone():
            return
        kept: dict[str, int] = {}
        if self.original is not None and self.original.query(
            "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
        ):
            kept = dict(self.original.query("SELECT name, seq FROM sqlite_sequence"))
        for table in self.tables:
            info = new.execute(f"PRAGMA table_info({quote_sqlite(table.name)})").fetchall()
            sql = "SELECT sql FROM sqlite_master WHERE name = ?"
            text = str(new.execute(sql, (table.name,)).fetchone()[0]).upper()
            keys = [str(row[1]) for row in info if row[5]]
            if "AUTOINCREMENT" not in text or len(keys) != 1:
                continue
            last = self._last_number(table, keys[0])
            highest = new.execute(
                f"SELECT max({quote_sqlite(keys[0])}) FROM {quote_sqlite(table.name)}"
            ).fetchone()[0]
            number = max(last, highest or 0, kept.get(table.name, 0))
            new.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
            if number or table.name in kept:
                new.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table.name, number))
        for item in self.only_original:
            if item.name in kept:
                new.execute("DELETE FROM sqlite_sequence WHERE name = ?", (item.name,))
                row = (item.name, kept[item.name])
                new.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", row)

    def _last_number(self, table: _Table, key: str) -> int:
        """The number that PostgreSQL gave last."""
        contract = (self.recorded.get(table.name) or {}).get("columns", [])
        names = {str(c["name"]): str(c.get("target_name") or c["name"]) for c in contract}
        pair = Pair(table.name, table.target, self.request.schema, [], [], False, [])
        there = read_fields(self.connection, self.request.schema, table.target)
        name = names.get(key, key)
        if name not in there:
            return 0
        upcoming = next_number(self.connection, pair, name)
        return max(0, (upcoming or 1) - 1)

    def _verify(self) -> None:
        """The new file against the same snapshot, by the verification's own means."""
        self.progress.begin("verify", len(self.tables), self.outcome.rows_total)
        findings = self._differences(self.partial)
        if findings.total:
            shown = "; ".join(f"{d['table']} {d['what']}" for d in findings.listed[:10])
            raise MigrationError(
                f"The new file differs from schema {self.request.schema} of "
                f"{self.request.target.label} in {findings.total} places: {shown}. SQLite changes "
                "such values when it stores them in these columns. Nothing was written. Change "
                "these rows, or leave the table out with exclude.",
                differences=findings.listed,
            )
        self.outcome.verified = True

    def _differences(self, path: str, all_of_them: bool = True) -> Findings:
        findings = Findings()
        with SourceDatabase(path) as source:
            names = {
                str(row[0])
                for row in source.query("SELECT name FROM sqlite_master WHERE sql <> ''")
            }
            if not all_of_them and self._other_counts(source, names):
                findings.add("", "rows", "other", "counts")
                return findings
            for table in self.tables:
                if findings.total and not all_of_them:
                    break
                self.progress.table(table.name)
                if table.name not in names:
                    findings.add(table.name, "table", "missing", "present")
                    continue
                entry = self.recorded.get(table.name) or {"target_name": table.target}
                pair = make_pair(
                    self.connection, source, self.request.schema, table.name, entry, findings
                )
                if pair is None:
                    raise AssertionError("pair is not there yet")
                read_quarantine(self.connection, self.record, pair)
                if pair.extra_columns:
                    findings.add(table.name, "columns", "missing", ", ".join(pair.extra_columns))
                compare_rows(self.connection, source, pair, findings, self.progress.rows)
                self.progress.table_done()
        return findings

    def _other_counts(self, source: SourceDatabase, names: set[str]) -> bool:
        """Tells most of what was written since without reading all of it."""
        for table in self.tables:
            if table.name not in names:
                return True
            here = source.query(f"SELECT count(*) FROM {quote_sqlite(table.name)}")[0][0]
            full = f"{pg_quote(self.request.schema)}.{pg_quote(table.target)}"
            gone = (self.recorded.get(table.name) or {}).get("quarantined_rows") or 0
            if here != pg.one(self.connection, f"SELECT count(*) FROM {full}") and not gone:
                return True
        return False

    def is_equal(self, path: str) -> bool:
        """Whether a file that is there already holds what PostgreSQL holds."""
        try:
            return not self._differences(path, all_of_them=False).total
        except MigrationError:
            return False

    def publish(self, present: bool) -> str | None:
        """Gives the finished file its name; the old one keeps a name of its own."""
        if self.lock is None:
            raise AssertionError("lock is not there yet")
        self.progress.phase("commit")
        dest, backup = self.outcome.dest, None
        try:
            self.progress.check_alive()
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.partial + suffix)
            if present:
                _check_replaceable(self.request, dest)
                old = os.stat(dest)
                with contextlib.suppress(OSError):
                    os.fchown(self.lock, old.st_uid, old.st_gid)
                os.fchmod(self.lock, stat.S_IMODE(old.st_mode))
                now = datetime.datetime.now(datetime.timezone.utc)
                backup = f"{dest}.{now:%Y%m%dT%H%M%S.%fZ}.bak"
                os.link(dest, backup)
            os.fsync(self.lock)
            if present:
                for suffix in ("-wal", "-shm"):
                    # Empty, as was just checked; beside a new file they would be another's.
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(dest + suffix)
            os.replace(self.partial, dest)
            folder = os.open(os.path.dirname(dest), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self._discard()
            raise MigrationError(
                f"{dest} can't get its new content: {error.strerror}. What was there is as it was"
                + (f", and also at {backup}." if backup and os.path.exists(backup) else ".")
            ) from None
        except BaseException:
            self._discard()
            raise
        os.close(self.lock)
        self.lock = None
        self.progress.phase("done")
        return backup


def _ordinary_tables(connection: Any, schema: str) -> list[str]:
    rows = pg.fetch(
        connection,
        """
        SELECT c.relname FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                          WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                            AND d.objid = c.oid AND d.deptype = 'e')
        """,
        (schema,),
    )
    return [str(row[0]) for row in rows]


def _primary_key(connection: Any, full_name: str) -> list[str]:
    rows = pg.fetch(
        connection,
        "SELECT a.attname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a "
        "ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) "
        "WHERE i.indisprimary AND i.indrelid = %s::pg_catalog.regclass",
        (full_name,),
    )
    return [str(row[0]) for row in rows]


def _add_column(table: _Table, column: str) -> str:
    return (
        f"ALTER TABLE {quote_sqlite(table.name)} ADD COLUMN {quote_sqlite(column)} "
        f"{table.added[column]}"
    )


def _with_added(pair: Pair, table: _Table, connection: Any) -> None:
    """Columns that only PostgreSQL has read as NULL from the original."""
    there = read_fields(connection, pair.schema, pair.target)
    for column in table.added:
        made = there[column]
        made.absent, made.not_null, made.strict = True, False, False
        pair.fields.append(made)


class _Writer:
    """Rows into a table, some hundred at a time."""

    def __init__(
        self, new: sqlite3.Connection, table: _Table, computed: set[str], columns: list[str]
    ) -> None:
        self.new = new
        self.table = table
        self.wanted = [n for n, name in enumerate(columns) if name.lower() not in computed]
        self.all = len(self.wanted) == len(columns)
        self.names = ", ".join(quote_sqlite(columns[n]) for n in self.wanted)
        self.marks = ["?"] * len(self.wanted)
        self.buffer: list[Row] = []
        self.bytes = 0
        self._convert: Callable[[list[Row]], list[Row]] | None = None
        self.late = 0

    def put_many(self, rows: list[Row], pair: Pair) -> bool:
        """Rows as they were read, of a table that mixes no texts and blobs in a column.

        False, with nothing written, if a text is no UTF-8.
        """
        self.flush()
        try:
            converted = self._converter(pair)(rows)
        except UnicodeDecodeError:
            return False
        self.new.executemany(self._insert(self.marks, bool(self.table.rowid)), converted)
        return True

    def _converter(self, pair: Pair) -> Callable[[list[Row]], list[Row]]:
        if self._convert is None:
            parts = []
            for number in self.wanted:
                name, kind = f"v{number}", pair.fields[number].type
                if kind == "bytea":
                    parts.append(name)
                elif kind == "uuid":
                    # Sixteen bytes can't be the text of one.
                    parts.append(
                        f"D({name}) if {name}.__class__ is B and len({name}) != 16 else {name}"
                    )
                else:
                    parts.append(f"D({name}) if {name}.__class__ is B else {name}")
            width = len(pair.fields)
            if self.table.rowid:
                parts.append(f"v{width}")
            names = ", ".join(f"v{number}" for number in range(width + len(pair.labels)))
            source = f"lambda rows: [({', '.join(parts)},) for {names}, in rows]"
            self._convert = eval(source, {"D": bytes.decode, "B": bytes})
        if self._convert is None:
            raise AssertionError("convert is not there yet")
        return self._convert

    def put(self, row: Row, rowid: int | None) -> None:
        if not self.all:
            row = tuple(row[n] for n in self.wanted)
        if self.table.rowid and rowid is None:
            self._later(row)
            return
        if self.table.rowid:
            row = (*row, rowid)
        self.buffer.append(row)
        self.bytes += sum(len(v) for v in row if isinstance(v, (bytes, str)))
        if len(self.buffer) >= _BUFFER_ROWS or self.bytes >= _BUFFER_BYTES:
            self.flush()

    def _insert(self, marks: list[str], with_rowid: bool) -> str:
        names = self.names + (f", {self.table.rowid}" if with_rowid else "")
        listed = ", ".join([*marks, "?"] if with_rowid else marks)
        return f"INSERT INTO {quote_sqlite(self.table.name)} ({names}) VALUES ({listed})"

    def flush(self) -> None:
        rows, self.buffer, self.bytes = self.buffer, [], 0
        if not rows:
            return
        sql = self._insert(self.marks, bool(self.table.rowid))
        texts = [tuple(_as_text(value) for value in row) for row in rows]
        if not any(type(value) is Text for row in texts for value in row):
            self.new.executemany(sql, texts)
            return
        for row in texts:
            # A text that is no UTF-8 goes in by its bytes.
            marks = [
                "CAST(? AS TEXT)" if type(value) is Text else "?"
                for value in row[: len(self.marks)]
            ]
            self.new.execute(self._insert(marks, bool(self.table.rowid)), row)

    def _later(self, row: Row) -> None:
        """New rows get their rowid after the original ones have theirs."""
        if not self.late:
            columns = ", ".join(f"c{n}" for n in range(len(row)))
            self.new.execute(f"CREATE TEMP TABLE late ({columns})")
        self.late += 1
        marks = ", ".join("?" * len(row))
        values = tuple(_as_text(value) for value in row)
        self.new.execute(f"INSERT INTO temp.late VALUES ({marks})", values)

    def finish(self) -> None:
        self.flush()
        if self.late:
            self.new.execute(
                f"INSERT INTO {quote_sqlite(self.table.name)} ({self.names}) "
                "SELECT * FROM temp.late ORDER BY rowid"
            )
            self.new.execute("DROP TABLE temp.late")


def _as_text(value: Any) -> Any:
    if type(value) is Text:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return bytes(value) if type(value) is Blob else value


class _Rebuild(Comparison):
    """The comparison in step, which writes every row that PostgreSQL has."""

    def __init__(
        self,
        pair: Pair,
        packer: Packer,
        rows: Iterator[tuple[bytes | None, Row]],
        decoders: list[Decode],
        table: _Table,
        problems: _Problems,
        emit: _Writer | None,
        seen: Callable[[int], None],
    ) -> None:
        super().__init__(pair, packer, rows, Findings(), seen)
        self.decoders = decoders
        self.table = table
        self.problems = problems
        self.emit = emit
        self.equal: list[Row] = []
        self.written = 0
        self.offset = 0 if pair.key else 1
        self.figures = {"unchanged": 0, "changed": 0, "new": 0, "deleted": 0, "restored": 0}
        self.by_rowid = [name for _sql, name in pair.labels] == ["rowid"]
        self.width = len(pair.fields)
        # Bytes are texts, but for blobs; a UUID's sixteen bytes can't be a text's.
        self.texts = [made.type != "bytea" for made in pair.fields]
        self.uuids = [made.type == "uuid" for made in pair.fields]

    def writer(self) -> Callable[[bytes], None]:
        following = self.rows.__next__
        size = 0

        def write(message: bytes) -> None:
            nonlocal size
            if self._off_the_track:
                self._slowly(message, None)
                return
            try:
                found = following()
            except StopIteration:
                self._slowly(message, None)
                return
            if found[0] == message:
                self.equal.append(found[1])
                size += len(message)
                if size >= _BUFFER_BYTES or len(self.equal) >= _BUFFER_ROWS:
                    size = 0
                    self._flush_equal()
            else:
                self.source_count += 1
                self._slowly(message, found)

        return write

    def _flush_equal(self) -> None:
        rows, self.equal = self.equal, []
        if not rows:
            return
        self.source_count += len(rows)
        self.count += len(rows)
        if self.emit and (self.pair.mixed or not self.emit.put_many(rows, self.pair)):
            for row in rows:
                self._same_row(row)
            return
        self.figures["unchanged"] += len(rows)
        self.written += len(rows)
        if self.seen:
            self.seen(len(rows))

    def finish(self) -> None:
        self._flush_equal()
        super().finish()

    def _put(self, values: Row, row: Row | None) -> None:
        self._flush_equal()
        self.written += 1
        if self.seen:
            self.seen(1)
        if self.emit:
            rowid = row[self.width] if row is not None and self.by_rowid else None
            self.emit.put(values, rowid)

    def _originals(self, row: Row) -> Row:
        values = row[: self.width]
        if self.pair.mixed:
            return values
        return tuple(
            Text(value)
            if type(value) is bytes and text and not (is_uuid and len(value) == 16)
            else value
            for value, text, is_uuid in zip(values, self.texts, self.uuids)
        )

    def _same_row(self, row: Row) -> None:
        self.figures["unchanged"] += 1
        self._put(self._originals(row), row)

    def _changed(self, row: Row, bodies: list[bytes | None]) -> None:
        values = list(self._originals(row))
        changed = False
        for number, made in enumerate(self.pair.fields):
            body = bodies[number + self.offset]
            encode = self.packer.encoders[number]
            if not made.absent and self._equal(number, made, encode, row, row[number], body):
                continue
            values[number] = self._decoded(number, body, bodies)
            changed = changed or not made.absent or body is not None
        self.figures["changed" if changed else "unchanged"] += 1
        self._put(tuple(values), row)

    def _decoded(self, number: int, body: bytes | None, bodies: list[bytes | None]) -> Any:
        if body is None:
            return None
        try:
            return self.decoders[number](body)
        except Unwritable as error:
            key = self._key_of_target(bodies)
            self.problems.add(self.pair.name, self.pair.fields[number].target, str(error), key)
            return None

    def _missing(self, row: Row) -> None:
        label = self.packer.label(row)
        before = self.findings.total
        super()._missing(row)
        if self.findings.total == before and label:
            self.figures["restored"] += 1
            self._put(self._originals(row), row)
        else:
            self.figures["deleted"] += 1

    def _extra(self, bodies: list[bytes | None]) -> None:
        self.figures["new"] += 1
        values = tuple(
            self._decoded(number, bodies[number + self.offset], bodies)
            for number in range(self.width)
        )
        self._put(values, None)

    def _key_of_target(self, bodies: list[bytes | None]) -> dict[str, Any]:
        if not self.pair.key and not self.offset:
            return {"row": self.written + 1}
        return super()._key_of_target(bodies)
