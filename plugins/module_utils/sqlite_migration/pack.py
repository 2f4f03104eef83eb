# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLite's rows as PostgreSQL's binary COPY, by a function compiled for each table.

It is the fast way, and only ever stricter than copy_text.py, which is the measure: a
value that isn't of the usual form stops the COPY, and the table is loaded again with
every value looked at. Values come from SQLite as bytes, text and blob alike; that no
text column holds a blob, nor the other way round, is asked in the statement's WHERE.
"""

from __future__ import annotations

# A bool is an int to isinstance, and here it must not be.
# pylint: disable=unidiomatic-typecheck
import binascii
import re
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

from .copy_text import (
    BadValue,
    check_bpchar,
    days_of,
    encode_double,
    encode_numeric,
    encode_time,
    encode_uuid,
    exact_micros,
    float4_of,
    interval_parts,
    numeric_limits,
    offset_seconds,
    text_length,
    timestamp_micros,
)
from .plan import PlannedColumn
from .source import quote_sqlite
from .types import TargetType

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_BLOCK = 1 << 16
_SLICE = 1 << 18
_ROWS = 512
_KNOWN_LENGTHS = 4096
_CACHE = 4096
_CACHED_LENGTH = 256
_COMBINATIONS = 100
_SAMPLE = 1000

_TIMES = ("timestamp", "timestamptz")
_INTEGERS = {"bigint": ("q", 8), "int4": ("i", 4), "int2": ("h", 2)}
_PACKED = {
    *_INTEGERS,
    *_TIMES,
    "boolean",
    "double",
    "float4",
    "text",
    "bpchar",
    "loose_text",
    "bytea",
    "json",
    "jsonb",
    "date",
    "time",
    "timetz",
    "interval",
    "uuid",
    "numeric",
}
_CACHED = {*_INTEGERS, "text", "bpchar", "date", "time", "timetz", "numeric", "uuid"}
_EPOCH = 946684800_000000

Encode = Callable[[Any], bytes]


def can_pack(target: TargetType) -> bool:
    """Whether a column of this type goes by binary COPY."""
    if target.kind == "interval":
        return target.conversion in ("interval_us", "interval_epoch")
    return target.kind in _PACKED


class _Cache(dict[Any, bytes]):
    """Encoded values by value; it forgets all when full, so that it stays small."""

    def __init__(self, encode: Encode) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, value: Any) -> bytes:
        encoded = self._encode(value)
        if len(encoded) <= _CACHED_LENGTH:
            if len(self) >= _CACHE:
                self.clear()
            self[value] = encoded
        return encoded


def _or_null(encode: Encode) -> Encode:
    return lambda value: _NULL if value is None else encode(value)


def _joined(encoders: list[Encode]) -> Encode:
    return lambda values: b"".join([e(v) for e, v in zip(encoders, values)])


class _Days(dict[bytes, int]):
    """Microseconds since 2000 of 'YYYY-MM-DD '."""

    def __missing__(self, text: bytes) -> int:
        # As a whole timestamp, so that it is checked as one.
        micros = timestamp_micros(text.decode("ascii", "replace") + "00:00") - _EPOCH
        if len(self) >= _CACHE:
            self.clear()
        self[text] = micros
        return micros


_CLOCK = {
    b"%02d:%02d:" % (hour, minute): (hour * 60 + minute) * 60_000_000
    for hour in range(24)
    for minute in range(60)
}


class _Minutes(dict[bytes, int]):
    """Microseconds since 2000 of 'YYYY-MM-DD HH:MM:'."""

    def __init__(self) -> None:
        super().__init__()
        self._days = _Days()

    def __missing__(self, text: bytes) -> int:
        # What has another form is parsed as a whole; a plus here would begin an offset.
        if len(text) != 17 or text[10] not in b" T":
            raise KeyError
        micros = self._days[text[:11]] + _CLOCK[text[11:]]
        if len(self) >= _CACHE:
            self.clear()
        self[text] = micros
        return micros


_SECONDS = {b"%02d" % s: s * 1_000_000 for s in range(60)}
_SECONDS.update(
    {
        b"%02d.%d" % (s, tenth): s * 1_000_000 + tenth * 100_000
        for s in range(60)
        for tenth in range(10)
    }
)
_FRACTION = {b"": 0}
_FRACTION.update({b"%0*d" % (w, n): n * 10 ** (5 - w) for w in (1, 2, 3) for n in range(10**w)})
_REST = {b"": 0, **{b"%0*d" % (w, n): n * 10 ** (2 - w) for w in (1, 2) for n in range(10**w)}}

_pack_length = struct.Struct(">i").pack
_pack_q = struct.Struct(">iq").pack
_pack_interval = struct.Struct(">iqii").pack
_pack_timetz = struct.Struct(">iqi").pack
_LENGTHS = tuple(_pack_length(n) for n in range(_KNOWN_LENGTHS))
_LENGTHS_JSONB = tuple(_pack_length(n + 1) + b"\x01" for n in range(_KNOWN_LENGTHS))


def _text(value: Any) -> str:
    if type(value) is not bytes:
        raise BadValue("another storage class")
    return value.decode()


def _with_length(body: bytes) -> bytes:
    return _pack_length(len(body)) + body


def _json_number(value: Any) -> bytes:
    # JSON columns have numeric affinity: SQLite stores the text '12' as an integer.
    if type(value) is int or (type(value) is float and value - value == 0):
        return repr(value).encode()
    raise BadValue("another storage class")


def _loose(value: Any) -> bytes:
    if type(value) is int or type(value) is float:
        return repr(value).encode()
    raise BadValue("another storage class")


def _numeric(target: TargetType) -> Encode:
    as_text = encode_numeric(*numeric_limits(target))

    def encode(value: Any) -> bytes:
        sign, digits, exponent = Decimal(as_text(_given(value))).as_tuple()
        if not isinstance(exponent, int):
            raise AssertionError("exponent is of a number that is not finite")
        scale = max(0, -exponent)
        text = "".join(map(str, digits)) + "0" * max(0, exponent)
        whole, fraction = (text[:-scale], text[-scale:]) if scale else (text, "")
        fraction = fraction.rjust(scale, "0")
        whole = "0" * (-len(whole) % 4) + whole
        fraction += "0" * (-len(fraction) % 4)
        words = [int((whole + fraction)[i : i + 4]) for i in range(0, len(whole + fraction), 4)]
        weight = len(whole) // 4 - 1
        body = struct.pack(
            f">HhHH{len(words)}H", len(words), weight, 0x4000 if sign else 0, scale, *words
        )
        return _with_length(body)

    return encode


def _uuid(value: Any) -> bytes:
    if type(value) is bytes and len(value) == 16:
        return b"\x00\x00\x00\x10" + value
    text = encode_uuid(_given(value))
    return b"\x00\x00\x00\x10" + binascii.unhexlify(text.replace("-", ""))


def _integer(kind: str) -> Encode:
    code, size = _INTEGERS[kind]
    pack = struct.Struct(f">i{code}").pack

    def encode(value: Any) -> bytes:
        if type(value) is not int:
            raise BadValue("another storage class")
        return pack(size, value)

    return encode


def _boolean(value: Any) -> bytes:
    # Floats too, as they are equal to their integers in a cache anyway.
    if type(value) not in (int, float) or value not in (0, 1):
        raise BadValue("another value than 0 and 1")
    return b"\x00\x00\x00\x01\x01" if value else b"\x00\x00\x00\x01\x00"


def _exact_double(value: Any) -> float:
    encode_double(value)
    return float(value)


def _given(value: Any) -> Any:
    return value.decode() if type(value) is bytes else value


def _interval(target: TargetType) -> Encode:
    def encode(value: Any) -> bytes:
        days, micros = interval_parts(_given(value), target)
        return _pack_interval(16, micros, days, 0)

    return encode


def _micros(target: TargetType) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        return exact_micros(_given(value), target) - _EPOCH

    return convert


def _date(target: TargetType) -> Encode:
    pack = struct.Struct(">ii").pack

    def encode(value: Any) -> bytes:
        return pack(4, days_of(_given(value), target) - 10957)

    return encode


def _time(target: TargetType) -> Encode:
    check = encode_time(target)
    clock = re.compile(r"([0-9]+):([0-9]+)(?::([0-9]+)(?:\.([0-9]{1,6})0*)?)?(.*)").fullmatch

    def encode(value: Any) -> bytes:
        found = clock(check(_given(value)))
        if not found:
            raise AssertionError("nothing was found")
        hour, minute, second, fraction, offset = found.groups()
        micros = (int(hour) * 3600 + int(minute) * 60 + int(second or 0)) * 1_000_000
        micros += int((fraction or "").ljust(6, "0"))
        if target.kind == "timetz":
            return _pack_timetz(12, micros, -offset_seconds(offset))
        return _pack_q(8, micros)

    return encode


def _varchar(length: int | None) -> Encode:
    def encode(value: Any) -> bytes:
        if type(value) is not bytes:
            raise BadValue("another storage class")
        if length is not None and len(value) > length:
            _check_length(value, length)
        return _with_length(value)

    return encode


def _check_length(value: bytes, length: int) -> None:
    # PostgreSQL would cut spaces at the end without a word.
    if len(value.decode()) > length:
        raise BadValue(f"a text longer than {length} characters")


def _bpchar(target: TargetType) -> Encode:
    length = text_length(target)

    def encode(value: Any) -> bytes:
        if type(value) is not bytes:
            raise BadValue("another storage class")
        if length is not None:
            check_bpchar(value.decode(), length)
        return _with_length(value)

    return encode


def encoder_of(target: TargetType) -> Encode:
    """One value, never NULL, with its length before it."""
    kind = target.kind
    if kind in _INTEGERS:
        return _integer(kind)
    if kind == "boolean":
        return _boolean
    if kind in _TIMES:
        micros = _micros(target)
        return lambda value: _pack_q(8, micros(value))
    if kind == "numeric":
        return _numeric(target)
    if kind == "text":
        return _varchar(text_length(target))
    if kind == "bpchar":
        return _bpchar(target)
    if kind == "date":
        return _date(target)
    if kind == "interval":
        return _interval(target)
    if kind == "float4":
        pack = struct.Struct(">if").pack
        return lambda value: pack(4, float4_of(value))
    return _time(target) if kind in ("time", "timetz") else _uuid


def _real_affinity(declared: str) -> bool:
    """Whether SQLite itself has turned every integer of the column into a real."""
    name = declared.upper()
    if any(word in name for word in ("INT", "CHAR", "CLOB", "TEXT", "BLOB")):
        return False
    return any(word in name for word in ("REAL", "FLOA", "DOUB"))


class Packer:
    """The compiled function of one table and the statements that fit it."""

    def __init__(self, name: str, columns: list[PlannedColumn], sample: list[tuple[Any, ...]]):
        self._const: dict[str, Any] = {
            "N": _NULL,
            "E": b"",
            "T": _LENGTHS,
            "TB": _LENGTHS_JSONB,
            "M": _Minutes(),
            "S": _SECONDS,
            "F": _FRACTION,
            "G": _REST,
            "LIMIT": _SLICE,
        }
        self._lines: list[str] = []
        self._fixed: list[PlannedColumn] = []
        self._fixed_format = ""
        self._fixed_values: list[str] = []
        self._checks: list[str] = []
        self._order: list[PlannedColumn] = []
        self._pieces: list[str] = []
        self._large = False
        by_column = dict(zip((c.name for c in columns), zip(*sample))) if sample else {}
        rest = []
        for number, column in enumerate(columns):
            if not self._add_fixed(number, column, by_column.get(column.name, ())):
                rest.append((number, column))
        first = next(
            (x for x in rest if self._is_plain_text(x[1], by_column.get(x[1].name, ()))), None
        )
        if first is not None:
            # Its length ends the struct of the fixed columns.
            rest.remove(first)
            rest.insert(0, first)
        cached = [x for x in rest if self._is_cached(x[1], by_column.get(x[1].name, ()))]
        for number, column in rest:
            if (number, column) not in cached:
                leading = first is not None and number == first[0]
                self._add(number, column, by_column.get(column.name, ()), leading)
        self._add_cached(cached, by_column)
        self.columns = [*self._fixed, *self._order]
        names = {id(c): f"a{n}" for n, c in enumerate(columns)}
        arguments = ", ".join(names[id(c)] for c in self.columns)
        self.width = len(self._pieces) + 1
        quoted = ", ".join(quote_sqlite(c.name) for c in self.columns)
        self.select = f"SELECT {quoted} FROM {quote_sqlite(name)} NOT INDEXED"
        if self._checks:
            some = quote_sqlite(self.columns[0].name)
            # abs() of the lowest integer is an error, which ends the statement.
            self.select += (
                f" WHERE CASE WHEN {' OR '.join(self._checks)} "
                f"THEN abs(-9223372036854775807 - ({some} IS {some})) ELSE 1 END"
            )
        self.has_where = bool(self._checks)
        self.pack = self._compile(arguments, len(columns))

    def _compile(
        self, arguments: str, count: int
    ) -> Callable[[Iterator[tuple[Any, ...]], list[int]], list[bytes]]:
        if self._fixed_format:
            self._const["P"] = struct.Struct(">h" + self._fixed_format).pack
            head = f"P({count}, {', '.join(self._fixed_values)})"
        else:
            self._const["H"] = struct.pack(">h", count)
            head = "H"
        pieces = "".join(f", {piece}" for piece in self._pieces)
        source = [
            f"def pack(rows, big, {', '.join(f'{n}={n}' for n in self._const)}):",
            " out = []",
            " put = out.extend",
            f" for {arguments}, in rows:",
            *(f"  {line}" for line in self._lines),
            f"  put(({head}{pieces},))",
        ]
        if self._large:
            source += ["  if big and sum(big) > LIMIT:", "   break"]
        source += [" return out"]
        self.source = "\n".join(source)
        scope = dict(self._const)
        exec(self.source, scope)
        compiled: Callable[[Iterator[tuple[Any, ...]], list[int]], list[bytes]] = scope["pack"]
        return compiled

    def _constant(self, prefix: str, number: int, value: Any) -> str:
        name = f"{prefix}{number}"
        self._const[name] = value
        return name

    def _repeats(self, column: PlannedColumn, values: Iterable[Any]) -> bool:
        values = list(values)
        if column.target.kind not in _CACHED or len(values) < 64:
            return False
        return len(set(values)) * 8 < len(values)

    def _is_plain_text(self, column: PlannedColumn, values: Iterable[Any]) -> bool:
        kind = column.target.kind
        return kind in ("text", "bytea") and column.not_null and not self._repeats(column, values)

    def _is_cached(self, column: PlannedColumn, values: Iterable[Any]) -> bool:
        return column.target.kind == "boolean" or self._repeats(column, values)

    def _add_cached(
        self, cached: list[tuple[int, PlannedColumn]], by_column: dict[str, tuple[Any, ...]]
    ) -> None:
        """Columns of few values: one look-up for several of them while few combinations occur."""
        cached.sort(key=lambda x: len(set(by_column.get(x[1].name, ()))))
        while cached:
            group = [cached.pop(0)]
            seen: list[tuple[Any, ...]] = [(v,) for v in by_column.get(group[0][1].name, ())]
            while cached:
                wider = [(*s, v) for s, v in zip(seen, by_column.get(cached[0][1].name, ()))]
                if len(set(wider)) > _COMBINATIONS:
                    break
                seen = wider
                group.append(cached.pop(0))
            encoders = []
            for _number, column in group:
                encode = encoder_of(column.target)
                encoders.append(encode if column.not_null else _or_null(encode))
                self._class_check(column, by_column.get(column.name, ()))
                self._order.append(column)
            encode = encoders[0] if len(group) == 1 else _joined(encoders)
            name = self._constant("C", group[0][0], _Cache(encode))
            self._pieces.append(f"{name}[{', '.join(f'a{number}' for number, _column in group)}]")

    def _class_check(self, column: PlannedColumn, values: Iterable[Any]) -> None:
        kind = column.target.kind
        name = quote_sqlite(column.name)
        if kind in _INTEGERS or kind in ("boolean", "double", "float4"):
            return
        blob = kind == "bytea"
        if kind == "uuid":
            known = [v for v in values if v is not None]
            blob = bool(known) and all(type(v) is bytes and len(v) == 16 for v in known)
        if blob:
            # Without a look at the value itself, which would be one more copy of it.
            self._checks.append(f"typeof({name}) NOT IN ('blob', 'null')")
        else:
            # Every text sorts before every blob.
            self._checks.append(f"{name} >= x''")

    def _add_fixed(self, number: int, column: PlannedColumn, values: Iterable[Any]) -> bool:
        if not column.not_null or self._repeats(column, values):
            return False
        kind = column.target.kind
        name = f"a{number}"
        if kind in _INTEGERS:
            code, size = _INTEGERS[kind]
            self._fixed_format += f"i{code}"
            self._fixed_values += [str(size), name]
        elif kind == "double":
            self._fixed_format += "id"
            self._fixed_values += ["8", self._double(number, column)]
        elif kind in _TIMES:
            self._lines += self._timestamp(number, column)
            self._fixed_format += "iq"
            self._fixed_values += ["8", f"t{number}"]
        else:
            return False
        self._class_check(column, values)
        self._fixed.append(column)
        return True

    def _double(self, number: int, column: PlannedColumn) -> str:
        if _real_affinity(column.declared):
            return f"a{number}"
        exact = self._constant("X", number, _exact_double)
        return f"(a{number} if a{number}.__class__ is float else {exact}(a{number}))"

    def _timestamp(self, number: int, column: PlannedColumn) -> list[str]:
        slow = self._constant("X", number, _micros(column.target))
        a, t = f"a{number}", f"t{number}"
        # timestamp(n) has fewer digits, so that each value has to be looked at.
        target = column.target
        plain = (target.kind, target.conversion) in (
            ("timestamp", None),
            ("timestamptz", "naive_utc"),
        )
        plain = plain and target.precision is None and "(" not in target.sql
        if not plain:
            return [f"{t} = {slow}({a})"]
        return [
            "try:",
            f" {t} = M[{a}[:17]] + S[{a}[17:21]] + F[{a}[21:24]] + G[{a}[24:]]",
            "except KeyError:",
            f" {t} = {slow}({a})",
        ]

    def _add(
        self, number: int, column: PlannedColumn, values: Iterable[Any], leading: bool
    ) -> None:
        kind, nullable = column.target.kind, not column.not_null
        a = f"a{number}"
        self._class_check(column, values)
        self._order.append(column)
        if kind in ("text", "loose_text", "bytea", "json", "jsonb"):
            self._add_text(number, column, leading)
        else:
            lines, value = self._value(number, column)
            if nullable:
                self._lines += [f"if {a} is None:", f" p{number} = N", "else:"]
                self._lines += [f" {line}" for line in lines] + [f" p{number} = {value}"]
                self._pieces.append(f"p{number}")
            else:
                self._lines += lines
                self._pieces.append(value)

    def _value(self, number: int, column: PlannedColumn) -> tuple[list[str], str]:
        kind, a = column.target.kind, f"a{number}"
        if kind in _INTEGERS:
            code, size = _INTEGERS[kind]
            pack = self._constant("Q", number, struct.Struct(f">i{code}").pack)
            return [], f"{pack}({size}, {a})"
        if kind == "double":
            pack = self._constant("Q", number, struct.Struct(">id").pack)
            return [], f"{pack}(8, {self._double(number, column)})"
        if kind in _TIMES:
            pack = self._constant("Q", number, _pack_q)
            return self._timestamp(number, column), f"{pack}(8, t{number})"
        encode = self._constant("X", number, encoder_of(column.target))
        if kind == "numeric":
            return self._decimal(number, column.target, encode), f"d{number}"
        if kind == "date":
            days = self._constant("C", number, _Cache(encoder_of(column.target)))
            return [], f"{days}[{a}]"
        return [], f"{encode}({a})"

    def _decimal(self, number: int, target: TargetType, slow: str) -> list[str]:
        """A number of few digits without Decimal, which would cost most of the load's time."""
        a, d, n = f"a{number}", f"d{number}", f"n{number}"
        precision, scale = numeric_limits(target)
        if precision is None or scale is None or not 0 <= scale <= 4 or precision <= scale:
            return [f"{d} = {slow}({a})"]
        fraction = 10 ** (4 - scale)
        unit = 10**scale
        lines = ["try:"]
        # One word of four digits before the point, then two.
        for words in (1, 2) if precision - scale > 4 else (1,):
            name = f"{'QR'[words - 1]}{number}"
            known = struct.pack(">iHhHH", 8 + 2 * (words + 1), words + 1, words - 1, 0, scale)
            self._const[name] = struct.Struct(f">12s{words + 1}H").pack
            self._const[f"{name}H"] = known
            parts = f"w{number}" if words == 1 else f"w{number} // 10000, w{number} % 10000"
            limit = min(10 ** (precision - scale), 10 ** (4 * words))
            lines += [
                f" {'if' if words == 1 else 'elif'} 0 <= {a} < {limit}:",
                f"  {n} = int({a} * {unit} + 0.5)",
                f"  w{number} = {n} // {unit}",
                # The double nearest to that decimal: then it is what was stored.
                f"  {d} = {name}({name}H, {parts}, ({n} - w{number} * {unit}) * {fraction}) "
                f"if {n} / {unit} == {a} and w{number} < {limit} else {slow}({a})",
            ]
        return [*lines, f" else: {d} = {slow}({a})", f"except TypeError: {d} = {slow}({a})"]

    def _add_text(self, number: int, column: PlannedColumn, leading: bool) -> None:
        kind, a, n = column.target.kind, f"a{number}", f"n{number}"
        self._large = True
        binary = kind == "jsonb"
        lengths, prefix = ("TB", b"\x01") if binary else ("T", b"")
        lines = []
        if kind in ("json", "jsonb", "loose_text"):
            number_of = _loose if kind == "loose_text" else _json_number
            plain = self._constant("X", number, number_of)
            lines.append(f"if {a}.__class__ is not bytes: {a} = {plain}({a})")
        lines.append(f"{n} = len({a})")
        length = text_length(column.target) if kind == "text" else None
        if length is not None:
            check = self._constant("V", number, _check_length)
            lines.append(f"if {n} > {length}: {check}({a}, {length})")
        if leading:
            self._fixed_format += "i"
            self._fixed_values.append(n)
            self._lines += [*lines, f"if {n} >= {_KNOWN_LENGTHS}: big.append({n})"]
            self._pieces.append(a)
            return
        name = self._constant("K", number, _long_length(prefix))
        lines.append(f"l{number} = {lengths}[{n}] if {n} < {_KNOWN_LENGTHS} else {name}({n}, big)")
        if not column.not_null:
            self._lines += [f"if {a} is None:", f" l{number} = N", f" {a} = E", "else:"]
            lines = [f" {line}" for line in lines]
        self._lines += lines
        self._pieces += [f"l{number}", a]


def _long_length(prefix: bytes) -> Callable[[int, list[int]], bytes]:
    def length(size: int, big: list[int]) -> bytes:
        big.append(size)
        return _pack_length(size + len(prefix)) + prefix

    return length


class BinaryStream:
    """What copy_expert reads from: blocks of packed rows in COPY's frame."""

    def __init__(
        self, columns: list[PlannedColumn], tick: Callable[[int, int], None] | None
    ) -> None:
        self.columns = columns
        self._tick = tick
        self._begun = False
        self._ended = False
        self.rows = 0
        self.bytes = 0
        self.failure: Exception | None = None

    def read(self, _size: int = -1) -> bytes:
        if not self._begun:
            self._begun = True
            return HEADER
        if self._ended:
            return b""
        try:
            block = self.block()
        except Exception as error:
            # psycopg2 turns this into a cancelled COPY; the cause is looked up here.
            self.failure = error
            raise
        self._ended = not block
        return block or TRAILER

    def block(self) -> bytes:
        """The next rows without the frame; nothing at the end."""
        raise NotImplementedError

    def _count(self, rows: int, size: int) -> None:
        self.rows += rows
        self.bytes += size
        if self._tick is not None:
            self._tick(rows, size)


class PackStream(BinaryStream):
    """From one cursor, a block for some hundred rows.

    A block of this size fits the socket's buffer, so that client and server work at the
    same time without a thread.
    """

    def __init__(
        self,
        cursor: sqlite3.Cursor,
        packer: Packer,
        tick: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__(packer.columns, tick)
        self._cursor = cursor
        self._packer = packer
        self._ask = 32
        self._waiting: list[bytes | memoryview] = []

    def close(self) -> None:
        """Ends the statement, which would hold a lock of the source."""
        self._cursor.close()

    def follow(self, cursor: sqlite3.Cursor) -> None:
        """Goes on with other rows, where the first cursor is at its end."""
        self._cursor = cursor

    def block(self) -> bytes:
        if self._waiting:
            return bytes(self._waiting.pop())
        return self._next()

    def _next(self) -> bytes:
        big: list[int] = []
        pieces = self._packer.pack(islice(self._cursor, self._ask), big)
        rows = len(pieces) // self._packer.width
        if not rows:
            return b""
        if big:
            return self._large(pieces, rows)
        block = b"".join(pieces)
        size = len(block)
        self._ask = min(_ROWS, max(8, rows * _BLOCK // size))
        self._count(rows, size)
        return block

    def _large(self, pieces: list[bytes], rows: int) -> bytes:
        """Long values go in slices: neither we nor libpq then need a second copy of them."""
        blocks: list[bytes | memoryview] = []
        small: list[bytes] = []
        size = 0
        for piece in pieces:
            size += len(piece)
            if len(piece) <= _SLICE:
                small.append(piece)
                continue
            blocks.append(b"".join(small))
            small = []
            view = memoryview(piece)
            blocks += [view[i : i + _SLICE] for i in range(0, len(view), _SLICE)]
        blocks.append(b"".join(small))
        pieces.clear()
        self._ask = 8
        self._count(rows, size)
        self._waiting = [block for block in reversed(blocks) if len(block)]
        return bytes(self._waiting.pop())


def sample_rows(
    connection: sqlite3.Connection, name: str, columns: list[PlannedColumn]
) -> list[tuple[Any, ...]]:
    """The first rows, without what is long: only how often values repeat matters."""
    parts = []
    for column in columns:
        quoted = quote_sqlite(column.name)
        if column.target.kind in ("text", "bpchar", "uuid"):
            quoted = f"substr({quoted}, 1, {_CACHED_LENGTH})"
        elif column.target.kind not in _CACHED and column.target.kind != "boolean":
            quoted = "NULL"
        parts.append(quoted)
    return connection.execute(
        f"SELECT {', '.join(parts)} FROM {quote_sqlite(name)} NOT INDEXED LIMIT {_SAMPLE}"
    ).fetchall()
