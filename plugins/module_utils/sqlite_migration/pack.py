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
import functools
import math
import re
import sqlite3
import struct
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Any

from .copy_text import (
    BadValue,
    boolean_of,
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
# Rows that are fetched, then packed: taking turns row by row, SQLite and the packer would push
# each other out of the processor's caches.
_BATCH = 128
# A batch with a longer value is fetched again row by row, so that memory stays small.
_LONG = 16 << 10
_KNOWN_LENGTHS = 4096
_CACHE = 4096
_CACHED_LENGTH = 256
_COMBINATIONS = 100
_SURE_COMBINATIONS = 2048
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


class _Cache:
    """Encoded values of some columns: dicts of dicts, as no tuple is hashed then.

    It forgets all when full, so that it stays small.
    """

    def __init__(self, encoders: list[Encode]) -> None:
        self.known: dict[Any, Any] = {}
        self._encoders = encoders
        self._count = 0

    def learn(self, *values: Any) -> bytes:
        encoded = b"".join([e(v) for e, v in zip(self._encoders, values)])
        if len(encoded) <= _CACHED_LENGTH:
            if self._count >= _CACHE:
                self.known.clear()
                self._count = 0
            self._count += 1
            inner = self.known
            for value in values[:-1]:
                inner = inner.setdefault(value, {})
            inner[values[-1]] = encoded
        return encoded


def _or_null(encode: Encode) -> Encode:
    return lambda value: _NULL if value is None else encode(value)


class _Days(dict[bytes, int]):
    """Microseconds since 2000 of 'YYYY-MM-DD'."""

    def __missing__(self, text: bytes) -> int:
        # As a whole timestamp, so that it is checked as one.
        micros = timestamp_micros(text.decode("ascii", "replace") + " 00:00") - _EPOCH
        if len(self) >= _CACHE:
            self.clear()
        self[text] = micros
        return micros


_CLOCK = {
    f"{hour:02}:{minute:02}".encode(): (hour * 60 + minute) * 60_000_000
    for hour in range(24)
    for minute in range(60)
}
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


_CLOCK_FORM = b" 00:00:00.000000"
_CUTS = {
    length: struct.Struct(f"10s{length - 10}s" * _BATCH).unpack
    for length in (19, 23, 26)
}  # fmt: skip
_ALL_ZERO = bytes.maketrans(b"123456789", b"000000000")
# Of a whole batch, by what stands between date and clock: as bytes and as a number.
_FORMS = {
    between: (form, int.from_bytes(form, "big"))
    for between in (b" ", b"T")
    for form in [(between + _CLOCK_FORM[1:]) * _BATCH]
}
_CLOCKS = struct.Struct(">" + "8xq" * _BATCH).unpack
# A batch's lanes of 16 bytes: a clock in each, later the number that it is.
_ONES = sum(1 << (128 * lane) for lane in range(_BATCH))
_BYTE = 0xFF * _ONES
# Where the second digits of hours, minutes, seconds and each two of the fraction are.
_HOURS, _MINUTES, _SECOND = 104, 80, 56
_PAIRS = sum(_BYTE << at for at in (_HOURS, _MINUTES, _SECOND, 32, 16, 0))
# Added to what is too large, it sets the highest bit of a byte.
_TOO_LARGE = sum(
    ((0x80 - limit) * _ONES) << at for at, limit in ((_HOURS, 24), (_MINUTES, 60), (_SECOND, 60))
)
_HIGHEST = sum((0x80 * _ONES) << at for at in (_HOURS, _MINUTES, _SECOND))
# Hours, minutes and seconds, 24 bits apart; times this, their sum in seconds is in the third.
_CLOCKS_APART = 0xFF0000FF0000FF * _ONES
_IN_SECONDS = 3600 | 60 << 24 | 1 << 48
_24_BITS = 0xFFFFFF * _ONES
_FEW = 8


class _Moments:
    """Microseconds since 2000 of a batch's timestamps; only those without an offset.

    Those of one length are read all at once: their clocks stand side by side in one large
    number, sixteen bytes each, and each step is done to all of them.
    """

    def __init__(self, exact: Callable[[Any], int]) -> None:
        self._exact = exact
        self._days = _Days()

    def __call__(self, values: list[bytes | None]) -> Sequence[int | None]:
        try:
            found = self._together(values)  # type: ignore[arg-type]
        except TypeError:
            # One is NULL, or a number.
            found = None
        if found is not None:
            return found
        known = [value for value in values if value is not None]
        found = self._together(known) or [self._one(value) for value in known]
        if len(known) == len(values):
            return found
        following = iter(found)
        return [None if value is None else next(following) for value in values]

    def _together(self, values: list[bytes]) -> Sequence[int] | None:
        """None if they differ in form, one isn't of the usual form, or they are few."""
        count = len(values)
        if not _FEW <= count <= _BATCH:
            return None
        length = len(values[0])
        if length not in _CUTS or set(map(len, values)) != {length}:
            return None
        filled = values if count == _BATCH else values + values[:1] * (_BATCH - count)
        parts = _CUTS[length](b"".join(filled))
        missing = _CLOCK_FORM[length - 10 :]
        clocks = missing.join(parts[1::2]) + missing
        form = _FORMS.get(clocks[:1])
        if form is None or clocks.translate(_ALL_ZERO) != form[0]:
            return None
        lanes = int.from_bytes(clocks, "big") - form[1]
        # Each second digit becomes the number of two digits; none is larger than 99.
        pairs = lanes + (lanes >> 8) * 10 & _PAIRS
        if pairs + _TOO_LARGE & _HIGHEST:
            return None
        micros = (
            (((pairs >> _SECOND & _CLOCKS_APART) * _IN_SECONDS) >> 48 & _24_BITS) * 1_000_000
            + (pairs >> 32 & _BYTE) * 10_000
            + (pairs >> 16 & _BYTE) * 100
            + (pairs & _BYTE)
        )
        dates = parts[::2]
        days = self._days
        if b"".join(dates) == dates[0] * _BATCH:
            # Of 64 bits, so that one before 2000 doesn't reach into the next lane.
            micros += (days[dates[0]] & 0xFFFFFFFFFFFFFFFF) * _ONES
            found = _CLOCKS(micros.to_bytes(16 * _BATCH, "big"))
            return found if count == _BATCH else found[:count]
        clock = _CLOCKS(micros.to_bytes(16 * _BATCH, "big"))
        return [days[day] + time for day, time in zip(dates[:count], clock)]

    def _one(self, value: bytes) -> int:
        # With less, a fraction would be taken for an offset.
        if value[10:11] in b" T" and value[16:17] == b":":
            try:
                micros: int = _SECONDS[value[17:21]] + _FRACTION[value[21:24]] + _REST[value[24:]]
                return self._days[value[:10]] + _CLOCK[value[11:16]] + micros
            except KeyError:
                pass
        return self._exact(value)


_pack_length = struct.Struct(">i").pack
_EIGHT = _pack_length(8)
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


def _numeric_head(words: int, scale: int) -> bytes:
    """Of a positive number with this many words before the point and one after it."""
    return struct.pack(">iHhHH", 8 + 2 * (words + 1), words + 1, words - 1, 0, scale)


@functools.cache
def _heads(scale: int) -> tuple[bytes, ...]:
    """All up to the point of the numbers below 10000."""
    head = _numeric_head(1, scale)
    return tuple(head + word.to_bytes(2, "big") for word in range(10000))


@functools.cache
def _fractions(scale: int) -> tuple[bytes, ...]:
    """The word after the point, of four digits."""
    return tuple((digits * 10 ** (4 - scale)).to_bytes(2, "big") for digits in range(10**scale))


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


def _boolean(target: TargetType) -> Encode:
    words = target.conversion == "words"

    def encode(value: Any) -> bytes:
        true = boolean_of(_given(value), words)
        return b"\x00\x00\x00\x01\x01" if true else b"\x00\x00\x00\x01\x00"

    return encode


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
        return _boolean(target)
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
        }
        self._lines: list[str] = []
        # Timestamps, which are worked out for a whole batch before its rows.
        self._moments: dict[int, PlannedColumn] = {}
        self._fixed: list[PlannedColumn] = []
        # Bytes that are always the same go into the struct as one.
        self._fixed_format = ">"
        self._fixed_values: list[str] = []
        self._same = struct.pack(">h", len(columns))
        self._checks: list[str] = []
        self.unbounded = False
        self._order: list[PlannedColumn] = []
        self._pieces: list[str] = []
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
        self.pack = self._compile(arguments)

    def _compile(self, arguments: str) -> Callable[[list[tuple[Any, ...]], list[int]], list[bytes]]:
        if self._fixed_values:
            self._const["P"] = struct.Struct(self._fixed_format).pack
            head = f"P({', '.join(self._fixed_values)})"
        else:
            self._const["H"] = self._same
            head = "H"
        pieces = "".join(f", {piece}" for piece in self._pieces)
        row, rows = f"{arguments},", "rows"
        for number, column in self._moments.items():
            value = itemgetter(self.columns.index(column))
            moments = self._constant("X", number, _Moments(_micros(column.target)))
            each = self._constant("G", number, value)
            row = f"({row}), t{number}" if number == min(self._moments) else f"{row}, t{number}"
            rows += f", {moments}(list(map({each}, rows)))"
        if self._moments:
            rows = f"zip({rows})"
        source = [
            f"def pack(rows, big, {', '.join(f'{n}={n}' for n in self._const)}):",
            " out = []",
            " put = out.extend",
            f" for {row} in {rows}:",
            *(f"  {line}" for line in self._lines),
            f"  put(({head}{pieces},))",
            " return out",
        ]
        self.source = "\n".join(source)
        scope = dict(self._const)
        exec(self.source, scope)
        compiled: Callable[[list[tuple[Any, ...]], list[int]], list[bytes]] = scope["pack"]
        return compiled

    def _fix(self, code: str, value: str, same: bytes = b"") -> None:
        """One more number in the row's struct; `same` comes before it."""
        same = self._same + same
        self._same = b""
        if same:
            self._fixed_format += f"{len(same)}s"
            self._fixed_values.append(self._constant("B", len(self._fixed_values), same))
        self._fixed_format += code
        self._fixed_values.append(value)

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
            most = len(set(seen))
            while cached:
                more = by_column.get(cached[0][1].name, ())
                wider = [(*s, v) for s, v in zip(seen, more)]
                most *= max(1, len(set(more)))
                if len(set(wider)) > _COMBINATIONS and most > _SURE_COMBINATIONS:
                    break
                seen = wider
                group.append(cached.pop(0))
            encoders = []
            for _number, column in group:
                encode = encoder_of(column.target)
                encoders.append(encode if column.not_null else _or_null(encode))
                self._class_check(column, by_column.get(column.name, ()))
                self._order.append(column)
            lines, pieces = self._look_up(encoders, [number for number, _column in group])
            self._lines += lines
            self._pieces += pieces

    def _look_up(self, encoders: list[Encode], numbers: list[int]) -> tuple[list[str], list[str]]:
        cache, number = _Cache(encoders), numbers[0]
        known = self._constant("C", number, cache.known)
        learn = self._constant("L", number, cache.learn)
        keys = "".join(f"[a{n}]" for n in numbers)
        lines = _indented("try:", [f"c{number} = {known}{keys}"])
        values = ", ".join(f"a{n}" for n in numbers)
        return [*lines, f"except KeyError: c{number} = {learn}({values})"], [f"c{number}"]

    def _class_check(self, column: PlannedColumn, values: Iterable[Any]) -> None:
        kind = column.target.kind
        name = quote_sqlite(column.name)
        if kind in _INTEGERS or kind in ("double", "float4"):
            return
        if kind == "boolean" and column.target.conversion is None:
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
            self._fix(code, name, _pack_length(size))
        elif kind == "double":
            self._fix("d", self._double(number, column), _EIGHT)
        elif kind in _TIMES:
            self._lines += self._timestamp(number, column)
            self._fix("q", f"t{number}", _EIGHT)
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
        exact = _micros(column.target)
        # timestamp(n) has fewer digits, so that each value has to be looked at.
        target = column.target
        plain = (target.kind, target.conversion) in (
            ("timestamp", None),
            ("timestamptz", "naive_utc"),
        )
        plain = plain and target.precision is None and "(" not in target.sql
        if not plain:
            return [f"t{number} = {self._constant('X', number, exact)}(a{number})"]
        self._moments[number] = column
        return []

    def _add(
        self, number: int, column: PlannedColumn, values: Iterable[Any], leading: bool
    ) -> None:
        kind, nullable = column.target.kind, not column.not_null
        a = f"a{number}"
        self._class_check(column, values)
        self._order.append(column)
        if kind in ("text", "loose_text", "bytea", "json", "jsonb"):
            self._add_text(number, column, leading)
        elif kind != "numeric" or not self._add_decimal(number, column):
            lines, value = self._value(number, column)
            if nullable:
                lines = _indented("else:", [*lines, f"p{number} = {value}"])
                self._lines += [f"if {a} is None: p{number} = N", *lines]
                self._pieces.append(f"p{number}")
            else:
                self._lines += lines
                self._pieces.append(value)

    def _value(self, number: int, column: PlannedColumn) -> tuple[list[str], str]:
        """Statements, and the expression that they are for."""
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
        encode = encoder_of(column.target)
        if kind == "date":
            lines, (piece,) = self._look_up([encode], [number])
            return lines, piece
        return [], f"{self._constant('X', number, encode)}({a})"

    def _add_decimal(self, number: int, column: PlannedColumn) -> bool:
        """A number of few digits without Decimal, which would cost most of the load's time.

        Two pieces: all up to the point, and the digits after it.
        """
        precision, scale = numeric_limits(column.target)
        if precision is None or scale is None or not 0 <= scale <= 4 or precision <= scale:
            return False
        a, d, f, n, w = (f"{letter}{number}" for letter in "adfnw")
        self._const["floor"] = math.floor
        slow = f"{self._constant('X', number, encoder_of(column.target))}({a})"
        unit, digits = 10**scale, min(precision - scale, 8)
        heads = self._constant("H", number, _heads(scale))
        fractions = self._constant("F", number, _fractions(scale))
        # The double nearest to that decimal: then it is what was stored.
        same = f"and {n} / {unit} == {a}:"
        lines = [
            f"{n} = floor({a} * {unit}.0 + 0.5)",
            f"if 0 <= {n} < {10 ** min(digits, 4) * unit} {same}",
            f" {d} = {heads}[{n} // {unit}]",
            f" {f} = {fractions}[{n} % {unit}]",
        ]
        if digits > 4:
            pack = self._constant("R", number, struct.Struct(">12s2H").pack)
            head = self._constant("I", number, _numeric_head(2, scale))
            lines += [
                f"elif 0 <= {n} < {10**digits * unit} {same}",
                f" {w} = {n} // {unit}",
                f" {d} = {pack}({head}, {w} // 10000, {w} % 10000)",
                f" {f} = {fractions}[{n} % {unit}]",
            ]
        lines = _indented("try:", [*lines, "else:", f" {d} = {slow}", f" {f} = E"])
        # A text, or infinite.
        lines += ["except (TypeError, OverflowError):", f" {d} = {slow}", f" {f} = E"]
        if not column.not_null:
            lines = [f"if {a} is None:", f" {d} = N", f" {f} = E", *_indented("else:", lines)]
        self._lines += lines
        self._pieces += [d, f]
        return True

    def _add_text(self, number: int, column: PlannedColumn, leading: bool) -> None:
        kind, a, n = column.target.kind, f"a{number}", f"n{number}"
        self.unbounded = True
        binary = kind == "jsonb"
        lengths, prefix = ("TB", b"\x01") if binary else ("T", b"")
        lines = []
        if kind in ("json", "jsonb", "loose_text"):
            number_of = _loose if kind == "loose_text" else _json_number
            plain = self._constant("X", number, number_of)
            # Of a number; it has no length.
            lines += _indented("try:", [f"{n} = len({a})"])
            lines += _indented("except TypeError:", [f"{a} = {plain}({a})", f"{n} = len({a})"])
        else:
            lines.append(f"{n} = len({a})")
        length = text_length(column.target) if kind == "text" else None
        if length is not None:
            check = self._constant("V", number, _check_length)
            lines.append(f"if {n} > {length}: {check}({a}, {length})")
        if leading:
            self._fix("i", n)
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


def _indented(head: str, lines: list[str]) -> list[str]:
    return [head, *(f" {line}" for line in lines)]


def _long_length(prefix: bytes) -> Callable[[int, list[int]], bytes]:
    def length(size: int, big: list[int]) -> bytes:
        big.append(size)
        return _pack_length(size + len(prefix)) + prefix

    return length


def sum_64(one: int | None, other: int) -> int:
    """Wrapped into 64 bits: right at the end if that fits, whatever is between."""
    return ((one or 0) + other + 2**63) % 2**64 - 2**63


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
        # Of the rows so far, in 64 bits, as SQLite sums them; None if no column is the rowid.
        self.rowid_sum: int | None = None
        # How many of them PostgreSQL says it has stored, once all are through.
        self.stored = 0
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


class Rows:
    """The rows of a statement in batches; where a value is long, one by one.

    While it is open, nothing else may run on the connection.
    """

    def __init__(
        self, connection: sqlite3.Connection, packer: Packer, more: str = "", values: Any = ()
    ) -> None:
        self._connection = connection
        self._select, self._values = packer.select + more, values
        self._given = 0
        self._limit: int | None = None
        self._one_by_one = False
        # Python before 3.11 can't set SQLite's limits.
        if hasattr(connection, "setlimit"):
            self._limit = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONG)
        else:
            self._one_by_one = packer.unbounded
        self._cursor = connection.cursor()
        self._begin("")

    def _begin(self, rest: str) -> None:
        try:
            self._cursor.execute(self._select + rest, self._values)
        except sqlite3.DataError as error:
            self._go_one_by_one(error)
        except BaseException:
            self.close()
            raise

    def _go_one_by_one(self, error: sqlite3.DataError) -> None:
        if self._limit is None or "too big" not in str(error):
            self.close()
            raise error
        self._lift()
        self._one_by_one = True
        # The same snapshot in the same order.
        self._begin(f" LIMIT -1 OFFSET {self._given}")

    def _lift(self) -> None:
        if self._limit is not None:
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._limit)
            self._limit = None

    def take(self, most: int) -> list[tuple[Any, ...]]:
        """The next rows, `most` at most; none at the end."""
        if not self._one_by_one:
            try:
                rows = self._cursor.fetchmany(min(most, _BATCH))
                self._given += len(rows)
                return rows
            except sqlite3.DataError as error:
                self._go_one_by_one(error)
        return self._cursor.fetchmany(1)

    def close(self) -> None:
        """Ends the statement, which would hold a lock of the source."""
        self._cursor.close()
        self._lift()


class PackStream(BinaryStream):
    """From one statement, a block for some hundred rows.

    A block of this size fits the socket's buffer, so that client and server work at the
    same time without a thread.
    """

    def __init__(
        self,
        rows: Rows | None,
        packer: Packer,
        tick: Callable[[int, int], None] | None = None,
        rowid: str | None = None,
    ) -> None:
        """`rowid` names the column that is SQLite's rowid, if there is one."""
        super().__init__(packer.columns, tick)
        self._rows = rows
        self._rowid: Callable[[tuple[Any, ...]], int] | None = None
        if rowid is not None:
            self._rowid = itemgetter([column.name for column in packer.columns].index(rowid))
            self.rowid_sum = 0
        self._packer = packer
        self._ask = 32
        self._waiting: list[bytes | memoryview] = []

    def close(self) -> None:
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def follow(self, rows: Rows) -> None:
        """Goes on with other rows, where the first are at their end."""
        self.close()
        self._rows = rows

    def block(self) -> bytes:
        if self._waiting:
            return bytes(self._waiting.pop())
        return self._next()

    def _next(self) -> bytes:
        big: list[int] = []
        pieces: list[bytes] = []
        count = 0
        while self._rows is not None and count < self._ask and sum(big) <= _SLICE:
            rows = self._rows.take(self._ask - count)
            if not rows:
                break
            pieces += self._packer.pack(rows, big)
            if self._rowid is not None:
                self.rowid_sum = sum_64(self.rowid_sum, sum(map(self._rowid, rows)))
            count += len(rows)
        if not count:
            return b""
        if big:
            return self._large(pieces, count)
        block = b"".join(pieces)
        size = len(block)
        self._ask = min(_ROWS, max(8, count * _BLOCK // size))
        self._count(count, size)
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
