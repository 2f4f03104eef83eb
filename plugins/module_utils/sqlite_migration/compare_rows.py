# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two tables, row by row in the same order, in constant memory.

The source's rows are packed into the bytes that PostgreSQL should send, and compared with the
bytes that it does send, as they come. Only where they differ are keys and values looked at.
"""

from __future__ import annotations

# A bool is an int to isinstance, and here it must not be.
# pylint: disable=unidiomatic-typecheck
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from . import target as pg
from .source import SourceDatabase, quote_sqlite
from .verify_codec import (
    HEADER,
    TRAILER,
    Blob,
    Encode,
    Field,
    Row,
    Text,
    Unholdable,
    compile_packer,
    encoder,
    has_duplicate_keys,
    interval_parts,
    join_row,
    may_be_refused,
    same,
    split_row,
    whole_row_size,
)

LISTED = 100
# Stands among the column names of what the quarantine keeps of a row.
WHOLE_ROW = "\x00"
_SAMPLE = 5
_BATCH = 64
_BATCH_BYTES = 1 << 20
_ASKED_LATER = 10_000
_NUMBERS = ("int8", "int4", "int2", "float8", "float4")

_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT a.attnum, a.attname, a.atttypid AS typid, a.atttypmod AS typmod, a.attnotnull,
           a.atttypid AS first, format_type(a.atttypid, a.atttypmod) AS sql_type
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')
      AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, b.attname, t.typbasetype, t.typtypmod, b.attnotnull OR t.typnotnull,
           b.first, b.sql_type
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typid
    WHERE t.typtype = 'd'
)
SELECT b.attname, t.typname, n.nspname, b.typmod, b.attnotnull, b.first, b.sql_type
FROM base b
JOIN pg_catalog.pg_type t ON t.oid = b.typid AND t.typtype <> 'd'
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
ORDER BY b.attnum
"""


@dataclass
class Findings:
    """Differences: all are counted, the first are listed."""

    listed: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    limit: int = LISTED

    def add(self, table: str, what: str, source: Any, target: Any, **more: Any) -> None:
        self.total += 1
        if len(self.listed) < self.limit:
            found = {"table": table, "what": what, "source": source, "target": target, **more}
            self.listed.append(found)


@dataclass
class Moved:
    """A value that the migration's policy took out of the target, as it was asked to."""

    count: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Pair:
    """A table on both sides, and the order in which its rows are compared."""

    name: str
    target: str
    schema: str
    fields: list[Field]
    # Indexes of the key's fields; nothing if rows are ordered by what they hold.
    key: list[int]
    # Whether both sides have the key's own order; else the packed key gives it.
    natural: bool
    # SQL and name of what names a row of the source.
    labels: list[tuple[str, str]]
    # Whether texts and blobs may be mixed in a column.
    mixed: bool = False
    large: bool = False
    unsure: list[str] = field(default_factory=list)
    extra_columns: list[str] = field(default_factory=list)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{pg_quote(self.schema)}.{pg_quote(self.target)}"


def pg_quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def affinity(declared: str) -> str:
    """SQLite's own rule, from the declared type."""
    name = declared.upper()
    if "INT" in name:
        return "INTEGER"
    if any(word in name for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in name or not name:
        return "BLOB"
    if any(word in name for word in ("REAL", "FLOA", "DOUB")):
        return "REAL"
    return "NUMERIC"


def _signed(oid: int) -> int:
    return oid - (1 << 32) if oid >= 1 << 31 else oid


def read_fields(connection: Any, schema: str, table: str) -> dict[str, Field]:
    """The target's columns by name, as its catalog has them."""
    found: dict[str, Field] = {}
    rows = pg.fetch(connection, _COLUMNS, (schema, table))
    for name, type_name, namespace, typmod, not_null, oid, sql_type in rows:
        known = type_name if namespace == "pg_catalog" else "other"
        made = Field(name, name, known, sql_type, not_null=not_null)
        if known in ("varchar", "bpchar") and typmod > 4:
            made.length = typmod - 4
        if known == "numeric" and typmod > 4:
            made.precision = (typmod - 4) >> 16 & 0xFFFF
            made.scale = ((typmod - 4) & 0x7FF ^ 0x400) - 0x400
        if known == "numeric":
            oid = 1700
        made.oid = 25 if made.textual else _signed(oid)
        found[name] = made
    return found


def source_columns(source: SourceDatabase, table: str) -> list[Row]:
    """Rows of table_xinfo without a virtual table's hidden columns."""
    rows = source.query(f"PRAGMA table_xinfo({quote_sqlite(table)})")
    return [row for row in rows if row[6] != 1]


def _row_labels(source: SourceDatabase, name: str, info: list[Row]) -> list[tuple[str, str]]:
    names = {str(row[1]).lower() for row in info}
    for word in ("rowid", "_rowid_", "oid"):
        if word in names:
            continue
        try:
            source.connection.execute(f"SELECT {word} FROM {quote_sqlite(name)} LIMIT 0")
        except sqlite3.OperationalError:
            break
        return [(word, "rowid")]
    keys = sorted((row for row in info if row[5]), key=lambda row: int(row[5]))
    return [(quote_sqlite(str(row[1])), str(row[1])) for row in keys]


def make_pair(
    connection: Any,
    source: SourceDatabase,
    schema: str,
    name: str,
    recorded: dict[str, Any] | None,
    findings: Findings,
    every_class: bool = False,
) -> Pair | None:
    """None, and a finding, if the target has no such table.

    `every_class`: blobs are looked for where a number is needed, too.
    """
    recorded = recorded or {}
    target = str(recorded.get("target_name") or name)
    there = read_fields(connection, schema, target)
    if not there:
        findings.add(name, "table", "present", "missing")
        return None
    info = source_columns(source, name)
    contract = {str(c["name"]): c for c in recorded.get("columns", [])}
    lower = {found.lower(): found for found in there}
    fields: list[Field] = []
    keys: dict[int, int] = {}
    unkeyed = False
    for row in info:
        column = str(row[1])
        known = contract.get(column, {})
        wanted = str(known.get("target_name") or column)
        wanted = wanted if wanted in there else lower.get(wanted.lower(), wanted)
        if wanted not in there:
            findings.add(name, f"column {column}", "present", "missing")
            unkeyed = unkeyed or bool(row[5])
            continue
        made = there.pop(wanted)
        made.name = column
        made.conversion = known.get("conversion")
        made.policy = known.get("policy") or "fail"
        made.strict = "conversion" in known
        made.affinity = affinity(str(row[2] or ""))
        if row[5]:
            keys[int(row[5])] = len(fields)
        fields.append(made)
    key = [] if unkeyed else [keys[n] for n in sorted(keys)]
    utf8 = source.query("PRAGMA encoding")[0][0] == "UTF-8"
    if not all(_keyable(fields[n]) for n in key):
        key = []
    pair = Pair(
        name,
        target,
        schema,
        fields,
        key,
        natural=bool(key) and all(_natural(fields[n], utf8) for n in key),
        labels=_row_labels(source, name, info),
        extra_columns=list(there),
    )
    if not key:
        pair.unsure = [f.name for f in fields if _has_forms(f)]
    _look_at_classes(source, pair, every_class)
    return pair


def _has_forms(made: Field) -> bool:
    """Whether equal values can have different bytes."""
    return made.textual or made.type == "interval" or made.conversion == "julian"


def _keyable(made: Field) -> bool:
    return made.not_null and not _has_forms(made) and made.type not in ("json", "jsonb", "bpchar")


def _natural(made: Field, utf8: bool) -> bool:
    if made.conversion or made.policy != "fail":
        return False
    if made.type in ("int8", "int4", "int2"):
        return made.affinity == "INTEGER"
    return made.type in ("text", "varchar") and made.affinity == "TEXT" and utf8


def _look_at_classes(source: SourceDatabase, pair: Pair, every_class: bool) -> None:
    """One pass that tells texts from blobs, which come as bytes both."""
    asked = []
    for made in pair.fields:
        if made.absent:
            continue
        quoted = quote_sqlite(made.name)
        if made.type == "bytea":
            asked += [f"max(typeof({quoted}) = 'text')", f"max(length({quoted}))"]
        elif every_class or made.type not in _NUMBERS or made.affinity in ("TEXT", "BLOB"):
            # Where only numbers are packed, bytes raise by themselves.
            asked += [f"max(typeof({quoted}) = 'blob')"]
    if not asked:
        return
    row = source.query(f"SELECT {', '.join(asked)} FROM {quote_sqlite(pair.name)} NOT INDEXED")[0]
    for sql, value in zip(asked, row):
        if sql.startswith("max(length"):
            pair.large = pair.large or bool(value and value * _BATCH > _BATCH_BYTES * 16)
        else:
            pair.mixed = pair.mixed or bool(value)


# --- the source's rows ----------------------------------------------------------------------------


def row_batches(source: SourceDatabase, sql: str, factory: Any, large: bool) -> Iterator[list[Row]]:
    """Small batches, and single rows where rows are large, so that memory stays bounded."""
    connection = source.connection
    connection.text_factory = factory
    try:
        cursor = connection.execute(sql)
        size = 1
        while batch := cursor.fetchmany(size):
            yield batch
            if large or _bytes_of(batch[0]) * _BATCH > _BATCH_BYTES:
                size = 1
            else:
                size = min(size * 2, _BATCH)
    except sqlite3.Error as error:
        raise source.explain(error) from error
    finally:
        connection.text_factory = str


def _bytes_of(row: Row) -> int:
    return sum(len(value) for value in row if isinstance(value, (bytes, bytearray)))


def marked(row: Row) -> Row:
    """Bytes that say whether they are text or blob; for rows read as bytearray."""
    return tuple(
        Text(value) if type(value) is bytearray else Blob(value) if type(value) is bytes else value
        for value in row
    )


class Packer:
    """Rows -> (packed bytes, row); the bytes are None where values must be looked at."""

    def __init__(self, pair: Pair, moved: dict[tuple[str, str], Moved], record: bool = False):
        self.pair = pair
        self.encoders = [encoder(made) for made in pair.fields]
        self.moved = moved
        self.width = len(pair.fields)
        self._fast = compile_packer(pair.fields, len(pair.labels), record)

    def select(self) -> str:
        columns = ["NULL" if f.absent else quote_sqlite(f.name) for f in self.pair.fields]
        return ", ".join(columns + [sql for sql, _name in self.pair.labels])

    def label(self, row: Row) -> dict[str, Any]:
        """What names a row of the source, as the record has it too."""
        return {n: readable(v) for (_s, n), v in zip(self.pair.labels, row[self.width :])}

    def batch(self, rows: list[Row]) -> Iterator[tuple[bytes | None, Row]]:
        if not (self.pair.mixed or self.pair.kept and not self.pair.key):
            try:
                return zip(self._fast(rows), rows)
            except Exception:  # any value that isn't what its column usually holds
                pass
        else:
            rows = [self.marked(row) for row in rows]
        return self._carefully(rows)

    def marked(self, row: Row) -> Row:
        return marked(row) if self.pair.mixed else row

    def _carefully(self, rows: list[Row]) -> Iterator[tuple[bytes | None, Row]]:
        for row in rows:
            bodies = self.bodies(row)
            yield None if bodies is None else join_row(bodies), row

    def bodies(self, row: Row) -> list[bytes | None] | None:
        """None if a value has no form, and the policy can't have made it NULL."""
        bodies: list[bytes | None] = []
        out: list[Field] = []
        # Without a key the whole row is looked up, so what was set aside must be NULL here.
        kept = {} if self.pair.key or not self.pair.kept else self._kept(row)
        for made, encode, value in zip(self.pair.fields, self.encoders, row):
            if value is None:
                bodies.append(None)
                continue
            if not made.not_null and kept.get(made.name) == original_bytes(value):
                bodies.append(None)
                out.append(made)
                continue
            try:
                bodies.append(encode(value))
            except Unholdable:
                if made.not_null or not (
                    made.policy == "null" or self.is_kept(row, made.name, value)
                ):
                    return None
                bodies.append(None)
                out.append(made)
        for made in out:
            self.note(made, row)
        return bodies

    def _kept(self, row: Row) -> dict[str, Any]:
        entry = self.pair.kept.get(label_key(self.label(row)), {})
        return {} if entry.get(WHOLE_ROW) else entry

    def is_kept(self, row: Row, column: str, value: Any) -> bool:
        """Whether the quarantine keeps exactly this value of this row."""
        entry = self.pair.kept.get(label_key(self.label(row)), {}) if self.pair.kept else {}
        return column in entry and entry[column] == original_bytes(value)

    def note(self, made: Field, row: Row) -> None:
        self._note(made.name, f"{made.policy}: value", row)

    def note_row(self, row: Row) -> None:
        self._note("*", "quarantine: row", row)

    def _note(self, column: str, what: str, row: Row) -> None:
        entry = self.moved.setdefault((column, what), Moved())
        entry.count += 1
        if len(entry.rows) < _SAMPLE:
            entry.rows.append(self.label(row))


def readable(value: Any) -> Any:
    """A key's part for the report."""
    if isinstance(value, Blob):
        return value.hex()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    return value


# --- the comparison -------------------------------------------------------------------------------


class Comparison:
    """Takes the target's rows as they come, and the source's in step."""

    def __init__(
        self,
        pair: Pair,
        packer: Packer,
        rows: Iterator[tuple[bytes | None, Row]],
        findings: Findings,
        seen: Callable[[int], None] | None = None,
    ) -> None:
        self.pair = pair
        self.packer = packer
        self.rows = rows
        self.findings = findings
        self.seen = seen
        self.count = 0
        self.source_count = 0
        self._tail = b""
        self._begun = False
        self._off_the_track = True
        self._flush: Callable[[], None] = lambda: None
        self._held: tuple[bytes | None, Row] | None = None
        self._later: dict[tuple[int, bytes, bytes], dict[str, Any]] = {}
        self.duplicates = 0

    def writer(self) -> Callable[[bytes], None]:
        """For copy_expert, which gives it one row a call; it must not be slower than needed."""
        following = self.rows.__next__
        slowly = self._slowly
        matched = 0

        def flush() -> None:
            nonlocal matched
            self.count += matched
            self.source_count += matched
            if self.seen:
                self.seen(matched)
            matched = 0

        def write(message: bytes) -> None:
            nonlocal matched
            if self._off_the_track:
                slowly(message, None)
                return
            try:
                found = following()
            except StopIteration:
                slowly(message, None)
                return
            if found[0] == message:
                matched += 1
                if matched == 4096:
                    flush()
            else:
                self.source_count += 1
                slowly(message, found)

        self._flush = flush
        return write

    def _next(self) -> tuple[bytes | None, Row] | None:
        if self._held is not None:
            held, self._held = self._held, None
            return held
        found = next(self.rows, None)
        if found is not None:
            self.source_count += 1
        return found

    def _slowly(self, message: bytes, found: tuple[bytes | None, Row] | None) -> None:
        """A message that isn't the expected row: another row, a part of one, or the end."""
        self._off_the_track = True
        data = self._tail + message
        self._tail = b""
        if found is not None:
            self._held = found
        if not self._begun:
            if len(data) < len(HEADER):
                self._tail = data
                return
            if data[: len(HEADER)] != HEADER:
                raise ValueError("the server's binary COPY has another header than is known")
            self._begun = True
            data = data[len(HEADER) :]
        while data and data != TRAILER:
            size = whole_row_size(data)
            if size is None:
                self._tail = data
                return
            self._row(data[:size])
            data = data[size:]
        self._off_the_track = self._held is not None

    def _row(self, data: bytes) -> None:
        self.count += 1
        bodies = split_row(data)
        while True:
            found = self._next()
            if found is None:
                self._extra(bodies)
                return
            packed, row = found
            if packed == data:
                self._same_row(row)
                return
            order = self._order(row, packed, bodies)
            if order == 0:
                self._changed(row, bodies)
                return
            if order < 0:
                self._missing(row)
                continue
            self._held = found
            self._extra(bodies)
            return

    def _same_row(self, row: Row) -> None:
        """Found equal off the fast track."""

    def finish(self) -> None:
        self._flush()
        while True:
            found = self._next()
            if found is None:
                break
            self._missing(found[1])

    def _order(self, row: Row, packed: bytes | None, bodies: list[bytes | None]) -> int:
        pair = self.pair
        if not pair.key:
            # The first field is the digest of the row, by which both sides are ordered.
            here = packed[6:38] if packed else b""
            there = bodies[0] or b""
            return -1 if here < there else int(here > there)
        for number in pair.key:
            made, value, body = pair.fields[number], row[number], bodies[number]
            left: Any
            right: Any
            if pair.natural and made.type in ("int8", "int4", "int2"):
                left, right = value, int.from_bytes(body or b"", "big", signed=True)
            elif pair.natural:
                left, right = value, body or b""
            else:
                left, right = key_bytes(self.packer.encoders[number], value), body or b""
            if left is None or isinstance(left, bytes) != isinstance(right, bytes):
                # A key that PostgreSQL can't hold.
                return -1
            if left != right:
                return -1 if left < right else 1
        return 0

    def _changed(self, row: Row, bodies: list[bytes | None]) -> None:
        offset = 0 if self.pair.key else 1
        for number, made in enumerate(self.pair.fields):
            value, body = row[number], bodies[number + offset]
            encode = self.packer.encoders[number]
            if self._equal(number, made, encode, row, value, body):
                continue
            key = self._key_of_source(row)
            where = self._where(key)
            details = {
                "kind": "changed",
                "column": made.name,
                "key": key,
                "source": describe(value),
                "target": describe_body(made, body),
            }
            if body is not None and (made.textual or made.type == "interval"):
                if self._ask_later(number, value, bodies, details):
                    continue
            self.findings.add(
                self.pair.name,
                f"column {made.name} of {where}",
                details.pop("source"),
                details.pop("target"),
                **details,
            )

    def _equal(
        self, number: int, made: Field, encode: Encode, row: Row, value: Any, body: bytes | None
    ) -> bool:
        if same(made, encode, value, body):
            if made.type == "jsonb" and isinstance(value, bytes) and has_duplicate_keys(value):
                self.duplicates += 1
            return True
        if body is not None or made.policy not in ("null", "quarantine"):
            return False
        refused = made.policy == "null" and may_be_refused(made, encode, value)
        if refused or self.packer.is_kept(row, made.name, value):
            self.packer.note(made, row)
            return True
        return False

    def _ask_later(
        self, number: int, value: Any, bodies: list[bytes | None], details: dict[str, Any]
    ) -> bool:
        """Types whose text has several forms are settled by the server itself, afterwards."""
        made = self.pair.fields[number]
        if type(value) is Blob or value is None or len(self._later) >= _ASKED_LATER:
            return False
        if not made.textual and (made.conversion or not isinstance(value, bytes)):
            return False
        text = value if isinstance(value, bytes) else str(value).encode()
        body = bodies[number + (0 if self.pair.key else 1)] or b""
        self._later.setdefault((number, bytes(text), body), details)
        return True

    def settle(self, connection: Any) -> None:
        """Asks the server whether two texts are the same value of a type."""
        import psycopg2

        for (number, text, body), details in self._later.items():
            made = self.pair.fields[number]
            if not made.textual:
                # An interval: its own text, made by the server from the parts that it sent.
                asked = (
                    f"SELECT CAST(%s AS {made.sql_type}) = make_interval(months => %s, secs => %s)"
                )
                months, micros = interval_parts(body)
                values: tuple[Any, ...] = (text.decode("utf-8", "replace"), months, micros / 1e6)
            else:
                asked = f"SELECT pg_catalog.format('%%s', CAST(%s AS {made.sql_type})) = %s"
                values = (text.decode("utf-8", "replace"), body.decode())
            pg.execute(connection, "SAVEPOINT asked")
            try:
                equal = bool(pg.one(connection, asked, values))
            except psycopg2.DataError:
                equal = False
            pg.execute(connection, "ROLLBACK TO SAVEPOINT asked")
            if not equal:
                self.findings.add(
                    self.pair.name,
                    f"column {made.name} of {self._where(details['key'])}",
                    details["source"],
                    details["target"],
                    kind="changed",
                    column=made.name,
                    key=details["key"],
                )

    def _missing(self, row: Row) -> None:
        label = self.packer.label(row)
        entry = self.pair.kept.get(label_key(label))
        if entry is not None and entry.get(WHOLE_ROW) and self._same_as_kept(row, entry):
            self.packer.note_row(row)
            return
        key = self._key_of_source(row)
        what = f"row {self._where(key)}"
        self.findings.add(self.pair.name, what, "present", "missing", kind="missing", key=key)

    def _same_as_kept(self, row: Row, entry: dict[str, Any]) -> bool:
        return all(
            entry[made.name] == original_bytes(value)
            for made, value in zip(self.pair.fields, row)
            if made.name in entry and value is not None
        )

    def _extra(self, bodies: list[bytes | None]) -> None:
        key = self._key_of_target(bodies)
        what = f"row {self._where(key)}"
        self.findings.add(self.pair.name, what, "missing", "present", kind="extra", key=key)

    def _where(self, key: dict[str, Any]) -> str:
        return " ".join(f"{name} {value}" for name, value in key.items())

    def _key_of_source(self, row: Row) -> dict[str, Any]:
        if not self.pair.key:
            return self.packer.label(row)
        return {self.pair.fields[n].name: readable(row[n]) for n in self.pair.key}

    def _key_of_target(self, bodies: list[bytes | None]) -> dict[str, Any]:
        if not self.pair.key:
            return {"digest": (bodies[0] or b"").hex()}
        return {
            self.pair.fields[n].name: shown(self.pair.fields[n], bodies[n]) for n in self.pair.key
        }


def label_key(label: dict[str, Any]) -> str:
    return json.dumps(label, sort_keys=True)


def original_bytes(value: Any) -> bytes | None:
    """As the quarantine keeps a value: texts and blobs as they are, numbers by their text."""
    if value is None or isinstance(value, bytes):
        return value if value is None else bytes(value)
    return (repr(value) if isinstance(value, float) else str(value)).encode()


def key_bytes(encode: Encode, value: Any) -> bytes:
    if value is None:
        return b""
    try:
        return encode(value)
    except Unholdable:
        return b""


def describe(value: Any) -> str:
    """A value without its content."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"{'blob' if type(value) is Blob else 'text'} of {len(value)} bytes"
    return "integer" if isinstance(value, int) else "real"


def describe_body(made: Field, body: bytes | None) -> str:
    return "NULL" if body is None else f"{made.sql_type} of {len(body)} bytes"


def shown(made: Field, body: bytes | None) -> Any:
    """A key's part as PostgreSQL sent it."""
    if body is None:
        return None
    if made.type in ("int8", "int4", "int2"):
        return int.from_bytes(body, "big", signed=True)
    if made.type in ("text", "varchar", "bpchar") or made.textual:
        return body.decode("utf-8", "replace")
    return body.hex()


# --- both sides in the same order -----------------------------------------------------------------


def _sqlite_order(source: SourceDatabase, pair: Pair, packer: Packer) -> str:
    if pair.natural:
        return ", ".join(
            quote_sqlite(pair.fields[n].name)
            + ("" if pair.fields[n].type.startswith("int") else " COLLATE BINARY")
            for n in pair.key
        )
    terms = []
    utf8 = source.query("PRAGMA encoding")[0][0] == "UTF-8"
    for place, number in enumerate(pair.key):
        column = quote_sqlite(pair.fields[number].name)
        function = f"golive_key_{place}"
        encode = packer.encoders[number]

        def by_key(is_text: int, value: Any, encode: Encode = encode) -> bytes:
            if isinstance(value, str):
                value = value.encode()
            if is_text:
                value = Text(value)
            elif isinstance(value, bytes):
                value = Blob(value)
            return key_bytes(encode, value)

        source.connection.create_function(function, 2, by_key, deterministic=True)
        given = f"CASE typeof({column}) WHEN 'text' THEN CAST({column} AS BLOB) ELSE {column} END"
        terms.append(f"{function}(typeof({column}) = 'text', {given if utf8 else column})")
    return ", ".join(terms)


def _pg_order(pair: Pair) -> str:
    terms = []
    for number in pair.key:
        made = pair.fields[number]
        if not pair.natural:
            terms.append(made.sent)
        elif made.type in ("text", "varchar"):
            terms.append(f'{pg_quote(made.target)} COLLATE "C"')
        else:
            terms.append(pg_quote(made.target))
    return ", ".join(terms)


def digest_expression(pair: Pair) -> str:
    """SQL for the SHA-256 of a row, of all columns that have one form only."""
    parts = [
        f"coalesce(pg_catalog.int4send(pg_catalog.octet_length({made.sent})) || {made.sent}, "
        "'\\xffffffff'::bytea)"
        for made in pair.fields
        if made.name not in pair.unsure
    ]
    return f"pg_catalog.sha256({' || '.join(parts) or chr(39) * 2 + '::bytea'})"


def _spooled(
    source: SourceDatabase, pair: Pair, packer: Packer
) -> Iterator[tuple[bytes | None, Row]]:
    """Rows in the order of their digest, sorted by SQLite on disk, in a nameless file."""
    sure = [n for n, made in enumerate(pair.fields) if made.name not in pair.unsure]
    spool = sqlite3.connect("", isolation_level=None)
    spool.text_factory = bytes
    try:
        spool.execute("PRAGMA cache_size = -8192")
        names = [f"c{n}" for n in range(len(pair.fields) + len(pair.labels))]
        spool.execute(f"CREATE TABLE spool (digest, packed, mixed, {', '.join(names)})")
        spool.execute("BEGIN")
        insert = f"INSERT INTO spool VALUES (?, ?, ?{', ?' * len(names)})"
        factory = bytearray if pair.mixed else bytes
        sql = f"SELECT {packer.select()} FROM {quote_sqlite(pair.name)} NOT INDEXED"
        for rows in row_batches(source, sql, factory, pair.large):
            spool.executemany(
                insert,
                (
                    (*_digest(packed, sure), _classes(row), *row)
                    for packed, row in packer.batch(rows)
                ),
            )
        spool.execute("COMMIT")
        found = f"SELECT packed, mixed, {', '.join(names)} FROM spool ORDER BY digest"
        for packed, classes, *row in spool.execute(found):
            yield packed, _restored(row, classes)
    finally:
        spool.close()


def _classes(row: Row) -> str:
    return "".join(
        "t" if type(value) is Text else "b" if type(value) is Blob else "." for value in row
    )


def _restored(row: list[Any], classes: bytes) -> Row:
    kinds = {ord("t"): Text, ord("b"): Blob}
    return tuple(
        kinds[kind](value) if kind in kinds else value for value, kind in zip(row, classes)
    )


def _digest(packed: bytes | None, sure: list[int]) -> tuple[bytes, bytes | None]:
    """The digest, and the packed row with the digest as its first field."""
    if packed is None:
        return b"", None
    bodies = split_row(packed)
    if len(sure) == len(bodies):
        content = packed[2:]
    else:
        content = join_row([bodies[n] for n in sure])[2:]
    digest = hashlib.sha256(content).digest()
    return digest, join_row([digest, *bodies])


def in_order(
    source: SourceDatabase, pair: Pair, packer: Packer, where: tuple[str, str] = ("", "")
) -> tuple[Iterator[tuple[bytes | None, Row]], str]:
    """The source's rows, and the query that gives the target's in the same order."""
    expressions = ", ".join(made.expression for made in pair.fields)
    if pair.key:
        order = _sqlite_order(source, pair, packer)
        sql = f"SELECT {packer.select()} FROM {quote_sqlite(pair.name)}{where[0]} ORDER BY {order}"
        factory = bytearray if pair.mixed else bytes
        rows: Iterator[tuple[bytes | None, Row]] = chain.from_iterable(
            packer.batch(batch) for batch in row_batches(source, sql, factory, pair.large)
        )
        query = f"SELECT {expressions} FROM {pair.full_name}{where[1]} ORDER BY {_pg_order(pair)}"
    else:
        rows = _spooled(source, pair, packer)
        query = f"SELECT {digest_expression(pair)}, {expressions} FROM {pair.full_name} ORDER BY 1"
    return rows, query


def copy_out(connection: Any, query: str, write: Callable[[bytes], None]) -> None:
    with connection.cursor() as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", _Sink(write))


def compare_rows(
    connection: Any,
    source: SourceDatabase,
    pair: Pair,
    findings: Findings,
    seen: Callable[[int], None] | None = None,
    where: tuple[str, str] = ("", ""),
) -> dict[str, Any]:
    """Compares all rows, or those of a range; `where` has a condition for each side."""
    moved: dict[tuple[str, str], Moved] = {}
    packer = Packer(pair, moved)
    rows, query = in_order(source, pair, packer, where)
    before = findings.total
    comparison = Comparison(pair, packer, rows, findings, seen)
    copy_out(connection, query, comparison.writer())
    comparison.finish()
    comparison.settle(connection)
    figures: dict[str, Any] = {
        "source_rows": comparison.source_count,
        "target_rows": comparison.count,
        "differences": findings.total - before,
        "moved": [
            {
                "column": column,
                "policy": what.split(": ")[0],
                "what": what.split(": ")[1],
                "count": entry.count,
                "rows": entry.rows,
            }
            for (column, what), entry in moved.items()
        ],
    }
    if comparison.duplicates:
        figures["duplicate_keys_in_jsonb"] = comparison.duplicates
    if pair.unsure:
        figures["only_compared_beside_equal_rows"] = pair.unsure
    return figures


class _Sink:
    """What copy_expert needs: it looks up `write` once."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write


def read_quarantine(connection: Any, record: dict[str, Any] | None, pair: Pair) -> None:
    """The values that the migration took out of this table, by row."""
    if record is None or pg.one(connection, "SELECT to_regclass(%s)", (QUARANTINE,)) is None:
        return
    rows = pg.fetch(
        connection,
        f"SELECT row_key, column_name, original, whole_row FROM {QUARANTINE} "
        "WHERE migration_id = %s AND table_name = %s",
        (record["id"], pair.name),
    )
    for key, column, original, whole in rows:
        entry = pair.kept.setdefault(label_key(key), {})
        entry[column] = None if original is None else bytes(original)
        if whole:
            entry[WHOLE_ROW] = True


QUARANTINE = "golive_webstack.quarantine"
