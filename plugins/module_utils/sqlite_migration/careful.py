# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The slow way: every value looked at by itself, and the bad ones counted, listed and moved.

What only the server can judge (JSON, enums, any other type) is asked of its own COPY, in
batches, in a table that is rolled back.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import target as pg
from .copy_text import BadValue, Encoder, check_json, encoder_for, escape
from .plan import PlannedColumn, PlannedTable
from .source import SourceDatabase, quote_sqlite

SAMPLE = 5
_BATCH = 2000
_BATCH_BYTES = 4 << 20
_NULL_IN_NOT_NULL = "NULL in a column that is NOT NULL"
_NOT_UTF8 = "a text that is no UTF-8"


@dataclass
class Finding:
    """All bad values of one column with one reason."""

    table: str
    column: str
    reason: str
    policy: str
    action: str
    count: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, label: dict[str, Any]) -> None:
        self.count += 1
        if len(self.rows) < SAMPLE:
            self.rows.append(label)

    def as_dict(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "column": self.column,
            "reason": self.reason,
            "count": self.count,
            "rows": self.rows,
        }

    def as_problem(self) -> dict[str, Any]:
        return {**self.as_dict(), "action": self.action}


def what_happens(column: PlannedColumn) -> tuple[str, str]:
    """The policy that a bad value of this column gets in fact, and in words."""
    if column.policy == "text" and column.target.kind != "loose_text":
        return "text", "the column becomes text"
    if column.policy == "null":
        if column.not_null:
            return "fail", "stops the migration: null can't go into a column that is NOT NULL"
        return "null", "becomes NULL"
    if column.policy == "quarantine":
        if column.not_null:
            return "quarantine", "its row goes to golive_webstack.quarantine"
        return "quarantine", "goes to golive_webstack.quarantine and becomes NULL"
    return "fail", "stops the migration"


class TableReader:
    """The rows of one table with their labels, texts as bytearray and blobs as bytes."""

    def __init__(self, source: SourceDatabase, table: PlannedTable) -> None:
        self._source = source
        self.table = table
        self.columns = [column for column in table.columns if not column.generated]
        by_key = table.row_label == "NULL" and bool(table.primary_key)
        self.names = table.primary_key if by_key else ["rowid"]
        labels = [quote_sqlite(n) for n in table.primary_key] if by_key else [table.row_label]
        columns = [quote_sqlite(column.name) for column in self.columns]
        self._sql = (
            f"SELECT {', '.join(labels + columns)} FROM {quote_sqlite(table.name)} NOT INDEXED"
        )
        self.encoders = [encoder_for(c.target, c.policy == "text") for c in self.columns]

    def __iter__(self) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        width = len(self.names)
        for row in self._source.each(self._sql, bytearray):
            yield row[:width], row[width:]

    def label(self, values: tuple[Any, ...]) -> dict[str, Any]:
        return {name: _readable(value) for name, value in zip(self.names, values)}


def _readable(value: Any) -> Any:
    if isinstance(value, bytearray):
        return value.decode("utf-8", "replace")
    return value.hex() if isinstance(value, bytes) else value


def encode_raw(raw: Any, encode: Encoder, not_null: bool) -> str:
    """COPY text of one value; BadValue says why there is none."""
    if raw is None:
        if not_null:
            raise BadValue(_NULL_IN_NOT_NULL)
        return "\\N"
    if isinstance(raw, bytearray):
        try:
            return encode(raw.decode())
        except UnicodeDecodeError:
            raise BadValue(_NOT_UTF8) from None
    return encode(raw)


def _asks_server(column: PlannedColumn) -> bool:
    target = column.target
    return target.kind in ("json", "jsonb", "other") or (
        target.kind == "interval" and target.conversion is None
    )


class _Judge:
    """Asks the server's own COPY which texts a type takes."""

    def __init__(self, connection: Any, schema: str, column: PlannedColumn, mark: str) -> None:
        self._connection = connection
        self._scratch = f"golive_scratch_{mark}"
        self._kind = column.target.kind
        self._sql = column.target.sql
        self._waiting: list[tuple[int, dict[str, Any], str]] = []
        self._size = 0
        self._name = self._make(schema) if connection is not None else ""

    def _make(self, schema: str) -> str:
        import psycopg2

        quoted = '"' + schema.replace('"', '""') + '"'
        pg.execute(self._connection, "SAVEPOINT judge")
        for name in (f"pg_temp.{self._scratch}", f"{quoted}.{self._scratch}"):
            try:
                pg.execute(self._connection, f"CREATE TABLE {name} (v {self._sql})")
                return name
            except psycopg2.Error as error:
                if not str(error.pgcode or "").startswith("42"):
                    raise
                pg.execute(self._connection, "ROLLBACK TO SAVEPOINT judge")
        return ""

    def close(self) -> None:
        if self._connection is not None:
            pg.execute(self._connection, "ROLLBACK TO SAVEPOINT judge")
            pg.execute(self._connection, "RELEASE SAVEPOINT judge")

    def add(self, number: int, label: dict[str, Any], text: str) -> None:
        self._waiting.append((number, label, text))
        self._size += len(text)

    def full(self) -> bool:
        return len(self._waiting) >= _BATCH or self._size > _BATCH_BYTES

    def verdicts(self) -> Iterator[tuple[int, dict[str, Any], str]]:
        """Number, label and reason of the refused ones among those that wait."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        if not self._name:
            for number, label, text in waiting:
                reason = self._by_python(text)
                if reason:
                    yield number, label, reason
            return
        first = 0
        while first < len(waiting):
            bad = self._first_refused([text for _n, _l, text in waiting[first:]])
            if bad is None:
                return
            number, label, text = waiting[first + bad]
            yield number, label, self._by_python(text) or self._refused()
            first += bad + 1

    def _refused(self) -> str:
        return f"a value that PostgreSQL doesn't take as {self._sql}"

    def _by_python(self, text: str) -> str | None:
        if self._kind not in ("json", "jsonb"):
            return None
        try:
            check_json(_unescape(text), self._kind == "jsonb")
        except BadValue as error:
            return str(error)
        return None

    def _first_refused(self, texts: list[str]) -> int | None:
        import psycopg2

        pg.execute(self._connection, "SAVEPOINT verdict")
        try:
            with self._connection.cursor() as cursor:
                cursor.copy_expert(
                    f"COPY {self._name} FROM STDIN (FORMAT text, ENCODING 'UTF8')",
                    io.BytesIO(("\n".join(texts) + "\n").encode()),
                )
            bad = None
        except psycopg2.Error as error:
            if is_outage(error, self._connection):
                raise
            context = getattr(error.diag, "context", None) or ""
            # In any language the line is the first number after the table's name.
            found = re.findall(self._scratch + "[^0-9]*([0-9]+)", context)
            bad = int(found[-1]) - 1 if found else self._search(texts)
        pg.execute(self._connection, "ROLLBACK TO SAVEPOINT verdict")
        pg.execute(self._connection, "RELEASE SAVEPOINT verdict")
        return bad

    def _search(self, texts: list[str]) -> int:
        """Without a line number: halves, until one text is left."""
        pg.execute(self._connection, "ROLLBACK TO SAVEPOINT verdict")
        if len(texts) == 1:
            return 0
        half = len(texts) // 2
        bad = self._first_refused(texts[:half])
        if bad is not None:
            return bad
        rest = self._first_refused(texts[half:])
        return half + (rest or 0)


_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\t": "\t", "\\r": "\r"}


def _unescape(text: str) -> str:
    return re.sub(r"\\.", lambda m: _ESCAPES.get(m.group(), m.group()), text)


def is_outage(error: Any, connection: Any) -> bool:
    """A lost connection, a cancelled query, a full disk: nothing that the rows could cause."""
    return bool(connection.closed) or str(error.pgcode or "")[:2] in ("08", "53", "57", "58")


_LETTERS = str.maketrans("0123456789", "abcdefghij")
Refused = dict[str, dict[int, str]]


def examine(
    connection: Any, source: SourceDatabase, schema: str, table: PlannedTable
) -> tuple[list[Finding], Refused]:
    """Every value of a table. What the server refused is returned by column and row number too."""
    reader = TableReader(source, table)
    found: dict[tuple[str, str], Finding] = {}
    refused: Refused = {}
    judges = {
        # Letters only: the line number is found as the first digits after the name.
        number: _Judge(connection, schema, column, str(number).translate(_LETTERS))
        for number, column in enumerate(reader.columns)
        if _asks_server(column)
    }

    def add(column: PlannedColumn, reason: str, label: dict[str, Any]) -> None:
        finding = found.get((column.name, reason))
        if finding is None:
            policy, action = what_happens(column)
            finding = Finding(table.name, column.name, reason, policy, action)
            found[column.name, reason] = finding
        finding.add(label)

    def settle(number: int) -> None:
        column = reader.columns[number]
        for row_number, label, reason in judges[number].verdicts():
            refused.setdefault(column.name, {})[row_number] = reason
            add(column, reason, label)

    checks = list(zip(range(len(reader.columns)), reader.columns, reader.encoders))
    for row_number, (label, values) in enumerate(reader):
        for (number, column, encode), raw in zip(checks, values):
            try:
                text = encode_raw(raw, encode, column.not_null)
            except BadValue as error:
                add(column, str(error), reader.label(label))
                continue
            judge = judges.get(number)
            if judge is not None and raw is not None:
                judge.add(row_number, reader.label(label), text)
                if judge.full():
                    settle(number)
    for number in judges:
        settle(number)
    for judge in reversed(list(judges.values())):
        judge.close()
    return list(found.values()), refused


class _Spool:
    """Lines of COPY text, kept in a file until the record has a number."""

    def __init__(self, table: str, columns: str) -> None:
        self._table = table
        self._columns = columns
        self._file: Any = tempfile.SpooledTemporaryFile(max_size=1 << 20)

    def tell(self) -> int:
        return int(self._file.tell())

    def back_to(self, position: int) -> None:
        self._file.seek(position)
        self._file.truncate()

    def add(self, fields: list[str]) -> None:
        self._file.write(("\t".join(fields) + "\n").encode())

    def store(self, connection: Any, migration_id: int) -> None:
        end = self.tell()
        self._file.seek(0)
        mark = f"{migration_id}\t".encode()

        def lines() -> Iterator[bytes]:
            while self._file.tell() < end:
                yield mark + self._file.readline()

        with connection.cursor() as cursor:
            cursor.copy_expert(
                f"COPY {self._table} (migration_id, {self._columns}) FROM STDIN "
                "(FORMAT text, ENCODING 'UTF8')",
                _Lines(lines()),
            )


class Quarantine:
    """Rows for golive_webstack.quarantine, and the list of the values that became NULL."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        place = "schema_name, table_name, column_name, row_key, storage_class"
        self._kept = _Spool(pg.QUARANTINE_TABLE, f"{place}, original, reason, whole_row")
        self._nulled = _Spool(pg.NULLED_TABLE, f"{place}, reason")

    def clear(self) -> None:
        self.back_to((0, 0))

    def position(self) -> tuple[int, int]:
        return self._kept.tell(), self._nulled.tell()

    def back_to(self, position: tuple[int, int]) -> None:
        self._kept.back_to(position[0])
        self._nulled.back_to(position[1])

    def _place(self, table: str, column: str, label: dict[str, Any], raw: Any) -> list[str]:
        classes = {int: "integer", float: "real", bytearray: "text", bytes: "blob"}
        return [
            escape(self._schema),
            escape(table),
            escape(column),
            escape(json.dumps(label)),
            classes.get(type(raw), "null"),
        ]

    def add(
        self, table: str, column: str, label: dict[str, Any], raw: Any, reason: str, whole: bool
    ) -> None:
        original = "\\N" if raw is None else "\\\\x" + original_bytes(raw).hex()
        place = self._place(table, column, label, raw)
        self._kept.add([*place, original, escape(reason), "t" if whole else "f"])

    def add_nulled(
        self, table: str, column: str, label: dict[str, Any], raw: Any, reason: str
    ) -> None:
        self._nulled.add([*self._place(table, column, label, raw), escape(reason)])

    def store(self, connection: Any, migration_id: int) -> None:
        if self._kept.tell():
            pg.create_quarantine_table(connection)
            self._kept.store(connection, migration_id)
        if self._nulled.tell():
            pg.create_nulled_table(connection)
            self._nulled.store(connection, migration_id)


class _Lines:
    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines

    def read(self, _size: int = -1) -> bytes:
        return next(self._lines, b"")


def original_bytes(raw: Any) -> bytes:
    """Texts and blobs as they are, numbers by their text."""
    if isinstance(raw, (bytes, bytearray)):
        return bytes(raw)
    return repr(raw).encode()


class CarefulRows:
    """The rows as COPY text, with the bad values treated as their columns' policies say."""

    def __init__(
        self,
        reader: TableReader,
        refused: Refused,
        quarantine: Quarantine,
    ) -> None:
        self._reader = reader
        self._refused = refused
        self._quarantine = quarantine
        self.moved: dict[tuple[str, str, str], Finding] = {}
        self.rows_quarantined = 0
        # The key of the row that was given last.
        self.at: tuple[Any, ...] = ()

    def __iter__(self) -> Generator[str, None, None]:
        reader, refused = self._reader, self._refused
        known = [refused.get(column.name) for column in reader.columns]
        checks = list(zip(reader.columns, reader.encoders, known))
        for row_number, (label, values) in enumerate(reader):
            fields: list[str] = []
            bad: list[tuple[PlannedColumn, Any, str]] = []
            for (column, encode, numbers), raw in zip(checks, values):
                try:
                    if numbers is not None and row_number in numbers:
                        raise BadValue(numbers[row_number])
                    fields.append(encode_raw(raw, encode, column.not_null))
                except BadValue as error:
                    fields.append("\\N")
                    bad.append((column, raw, str(error)))
            if bad and self._move(label, values, bad):
                continue
            self.at = label
            yield "\t".join(fields) + "\n"

    def _move(
        self,
        label: tuple[Any, ...],
        values: tuple[Any, ...],
        bad: list[tuple[PlannedColumn, Any, str]],
    ) -> bool:
        """Whether the whole row has gone."""
        reader = self._reader
        table, named = reader.table.name, reader.label(label)
        whole = any(column.not_null for column, _raw, _reason in bad)
        for column, raw, reason in bad:
            policy, action = what_happens(column)
            if policy not in ("null", "quarantine"):
                raise BadValue(reason)
            if whole:
                policy, action = "quarantine", "its row goes to golive_webstack.quarantine"
            key = (column.name, reason, policy)
            if key not in self.moved:
                self.moved[key] = Finding(table, column.name, reason, policy, action)
            self.moved[key].add(named)
            if policy == "null":
                self._quarantine.add_nulled(table, column.name, named, raw, reason)
            elif not whole:
                self._quarantine.add(table, column.name, named, raw, reason, False)
        if whole:
            reasons = {column.name: reason for column, _raw, reason in bad}
            for column, raw in zip(reader.columns, values):
                reason = reasons.get(column.name, "kept with its row")
                self._quarantine.add(table, column.name, named, raw, reason, True)
            self.rows_quarantined += 1
        return whole


class TextStream:
    """What copy_expert reads from, for COPY text."""

    def __init__(
        self,
        rows: Generator[str, None, None],
        tick: Callable[[int, int], None] | None = None,
    ) -> None:
        self._rows = rows
        self._tick = tick
        self.rows = 0
        self.bytes = 0
        self.stored = 0
        self.failure: Exception | None = None

    def read(self, _size: int = -1) -> bytes:
        lines: list[str] = []
        size = 0
        try:
            for line in self._rows:
                lines.append(line)
                size += len(line)
                if size > 65536:
                    break
            block = "".join(lines).encode()
        except Exception as error:
            # psycopg2 turns this into a cancelled COPY; the cause is looked up here.
            self.failure = error
            raise
        self.rows += len(lines)
        self.bytes += len(block)
        if self._tick is not None and lines:
            self._tick(len(lines), len(block))
        return block

    def close(self) -> None:
        """Ends the statement behind the rows, which would hold a lock of the source."""
        self._rows.close()
