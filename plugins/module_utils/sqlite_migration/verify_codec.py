# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What PostgreSQL must send for a value of SQLite, and the way back; for the verification only.

Nothing of the loader is used: a mistake there would agree with itself. A row is made into
the bytes of PostgreSQL's binary COPY, so that equal rows are found by comparing bytes. Only
rows that differ are looked at by value (`same`), which knows the few cases in which two
different byte strings mean the same: a decimal's trailing zeros, an interval's hours and days,
the blanks of char(n), the order of keys in jsonb.
"""

from __future__ import annotations

# A bool is an int to isinstance, and here it must not be.
# pylint: disable=unidiomatic-typecheck
import datetime
import json
import math
import re
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

NULL = b"\xff\xff\xff\xff"
HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"

_DAY = 86_400_000_000
_POSTGRES_DAY_0 = datetime.date(2000, 1, 1).toordinal()
_UNIX_TO_POSTGRES = 946_684_800_000_000
_JULIAN_DAY_0 = Fraction(4903089, 2)  # 2000-01-01 00:00 is the Julian day 2451544.5
_DATES_KEPT = 20_000
_DECIMALS_KEPT = 20_000

Row = tuple[Any, ...]
Encode = Callable[[Any], bytes]


class Text(bytes):
    """A value that SQLite stores as text."""


class Blob(bytes):
    """A value that SQLite stores as blob."""


class Unholdable(ValueError):
    """The source's value has no exact form in the target's type."""


@dataclass
class Field:
    """A column on both sides. `type` is the name of PostgreSQL's base type."""

    name: str
    target: str
    type: str
    sql_type: str
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    conversion: str | None = None
    policy: str = "fail"
    not_null: bool = False
    affinity: str = "BLOB"
    # Of the type of `expression`.
    oid: int = 0
    # The source has no such column, and reads as NULL.
    absent: bool = False
    # Whether the conversions are known, so that one that isn't named is a mistake.
    strict: bool = True

    @property
    def textual(self) -> bool:
        """Whether it is compared by its text form, as its binary form isn't known here."""
        return self.type not in _ENCODERS

    @property
    def expression(self) -> str:
        """SQL for the value in a form that has one byte string per value."""
        name = '"' + self.target.replace('"', '""') + '"'
        if self.textual:
            # By the type's own output function: inet's cast to text has another form.
            return f"CASE WHEN {name} IS NOT NULL THEN pg_catalog.format('%s', {name}) END"
        if self.type == "numeric":
            return f"pg_catalog.trim_scale({name})"
        return name

    @property
    def sent(self) -> str:
        """SQL for the bytes that PostgreSQL sends for the value."""
        return f"pg_catalog.{_SEND.get(self.type, 'textsend')}({self.expression})"


# --- dates and times ------------------------------------------------------------------------------


class _Dates(dict[bytes, int]):
    """Microseconds from 2000-01-01 to the date b'YYYY-MM-DD'."""

    _form = re.compile(rb"([0-9]{4})-([0-9]{2})-([0-9]{2})").fullmatch

    def __missing__(self, text: bytes) -> int:
        match = self._form(text)
        if match is None:
            raise Unholdable("a text that is no date")
        try:
            day = datetime.date(*(int(part) for part in match.groups()))
        except ValueError:
            raise Unholdable("a date that doesn't exist") from None
        if len(self) >= _DATES_KEPT:
            self.clear()
        value = self[bytes(text)] = (day.toordinal() - _POSTGRES_DAY_0) * _DAY
        return value


class _Clocks(dict[bytes, int]):
    """Microseconds of b' HH:MM', with a blank or a T before it; nothing is midnight."""

    _form = re.compile(rb"[ T]([0-9]{2}):([0-9]{2})").fullmatch

    def __missing__(self, text: bytes) -> int:
        value = 0
        if text:
            match = self._form(text)
            if match is None:
                raise Unholdable("a text that is no time")
            hour, minute = (int(part) for part in match.groups())
            if hour > 23 or minute > 59:
                raise Unholdable("a time that doesn't exist")
            value = (hour * 60 + minute) * 60_000_000
        self[bytes(text)] = value
        return value


class _Seconds(dict[bytes, int]):
    """Microseconds of b':SS'; nothing is none, but only where a time has no fraction either."""

    def __missing__(self, text: bytes) -> int:
        raise Unholdable("a text that is no time")


_DATES = _Dates()
_CLOCKS = _Clocks()
_SECONDS = _Seconds({b":%02d" % n: n * 1_000_000 for n in range(60)} | {b"": 0})
_POWERS = (0, 100_000, 10_000, 1_000, 100, 10, 1)
_OFFSET = re.compile(rb"(.{5}.*?) ?(?:[Zz]|([+-])([0-9]{2}):?([0-9]{2}))", re.DOTALL).fullmatch


def _fraction(text: bytes) -> int:
    if not text:
        return 0
    digits = text[1:]
    if text[:1] != b"." or not digits.isdigit():
        raise Unholdable("a text that is no time")
    if len(digits) > 6:
        if digits[6:].strip(b"0"):
            raise Unholdable("a time with parts of a microsecond")
        digits = digits[:6]
    return int(digits) * _POWERS[len(digits)]


def naive(text: bytes) -> int:
    """Microseconds from 2000-01-01 00:00 to b'YYYY-MM-DD HH:MM:SS.ffffff'."""
    return _DATES[text[:10]] + _CLOCKS[text[10:16]] + _SECONDS[text[16:19]] + _fraction(text[19:])


def _split_offset(text: bytes) -> tuple[bytes, int] | None:
    """The text before a zone offset, and the offset's seconds east of Greenwich."""
    match = _OFFSET(text[10:]) if len(text) > 15 else None
    if match is None:
        return None
    clock, sign, hours, minutes = match.groups()
    seconds = 0
    if sign is not None:
        if int(hours) > 15 or int(minutes) > 59:
            raise Unholdable("a zone offset that doesn't exist")
        seconds = (int(hours) * 60 + int(minutes)) * 60 * (-1 if sign == b"-" else 1)
    return text[:10] + clock, seconds


def zoned(text: bytes) -> int:
    """Like `naive`, in UTC, for a text that must end in an offset."""
    parts = _split_offset(text)
    if parts is None:
        raise Unholdable("a time without a zone offset")
    return naive(parts[0]) - parts[1] * 1_000_000


def _either(text: bytes) -> int:
    return zoned(text) if _split_offset(text) else naive(text)


def _from_number(value: Any, unit: str) -> int:
    """Microseconds since 2000-01-01 of an epoch number or a Julian day."""
    number = type(value) is int or (type(value) is float and math.isfinite(value))
    if not number:
        raise Unholdable("no number to be taken as a time")
    exact = Fraction(value)
    if unit == "julian":
        # SQLite itself keeps no more than milliseconds of a Julian day.
        return math.floor((exact - _JULIAN_DAY_0) * 86_400_000 + Fraction(1, 2)) * 1000
    scale = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}[unit]
    micros = round(exact * scale)
    if Fraction(micros, scale) != exact and float(Fraction(micros, scale)) != value:
        raise Unholdable("an epoch number with parts of a microsecond")
    return micros - _UNIX_TO_POSTGRES


def _instant(field: Field) -> Callable[[Any], int]:
    """Value of SQLite -> microseconds, for timestamp, timestamptz and date."""
    conversion = field.conversion
    if conversion in ("epoch_s", "epoch_ms", "epoch_us", "julian"):
        unit = conversion
        return lambda value: _from_number(value, unit)
    parse = naive
    if field.type == "timestamptz":
        parse = naive if conversion == "naive_utc" else (zoned if field.strict else _either)
        if conversion == "naive_utc":
            parse = _either
    elif conversion == "offset_utc" or not field.strict and field.type == "timestamp":
        parse = _either

    def from_text(value: Any) -> int:
        if not isinstance(value, bytes) or type(value) is Blob:
            raise Unholdable("no text")
        return parse(value)

    return from_text


# --- one value ------------------------------------------------------------------------------------

_q = struct.Struct(">q").pack
_i = struct.Struct(">i").pack
_h = struct.Struct(">h").pack
_d = struct.Struct(">d").pack
_f = struct.Struct(">f").pack
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]*)").fullmatch
_DECIMAL = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?").fullmatch
_FLOAT_WORD = re.compile(rb"([+-]?)(nan|inf|infinity)", re.IGNORECASE).fullmatch
_TRUE = (b"t", b"true", b"y", b"yes", b"on", b"1")
_FALSE = (b"f", b"false", b"n", b"no", b"off", b"0")


def _is_text(value: Any, field: Field) -> bool:
    """With an affinity to numbers SQLite stores no text that is one, but it may be a blob."""
    return (
        isinstance(value, bytes)
        and type(value) is not Blob
        and (type(value) is Text or field.affinity in ("TEXT", "BLOB"))
    )


def _whole(pack: Callable[[int], bytes]) -> Callable[[Field], Encode]:
    def make(field: Field) -> Encode:
        def encode(value: Any) -> bytes:
            if _is_text(value, field) and _INTEGER(value):
                value = int(value)
            elif type(value) is float and value.is_integer():
                value = int(value)
            if type(value) is not int:
                raise Unholdable("no integer")
            try:
                return pack(value)
            except struct.error:
                raise Unholdable("an integer out of range") from None

        return encode

    return make


def _boolean(_field: Field) -> Encode:
    def encode(value: Any) -> bytes:
        if type(value) is Blob:
            raise Unholdable("a blob")
        if isinstance(value, bytes):
            value = value.lower()
        if value in (1, *_TRUE):
            return b"\x01"
        if value in (0, *_FALSE):
            return b"\x00"
        raise Unholdable("no boolean")

    return encode


def _real(pack: Callable[[float], bytes], unpack: Callable[[bytes], Row]) -> Any:
    def make(_field: Field) -> Encode:
        def encode(value: Any) -> bytes:
            if isinstance(value, bytes) and type(value) is not Blob and _FLOAT_WORD(value):
                value = float(value)
            if type(value) is int and abs(value) < 2**1023 and int(float(value)) == value:
                value = float(value)
            if type(value) is not float:
                raise Unholdable("no number that a double holds")
            try:
                packed = pack(value)
            except OverflowError:
                raise Unholdable("a number out of range") from None
            # A NaN is not equal to itself.
            if not math.isnan(value) and unpack(packed)[0] != value:
                raise Unholdable("a number with more digits than the type holds")
            return packed

        return encode

    return make


def _text(field: Field) -> Encode:
    blank_padded = field.type == "bpchar"

    def encode(value: Any) -> bytes:
        if type(value) is int:
            value = b"%d" % value
        elif type(value) is float:
            value = repr(value).encode()
        elif type(value) is Blob:
            if field.policy != "text":
                raise Unholdable("a blob")
            value = b"\\x" + value.hex().encode()
        if not isinstance(value, bytes):
            raise Unholdable("no text")
        if b"\x00" in value:
            raise Unholdable("a text with a NUL byte")
        try:
            characters = len(value.decode())
        except UnicodeDecodeError:
            raise Unholdable("a text that is no UTF-8") from None
        if field.length is not None and characters > field.length:
            raise Unholdable("a text longer than its column")
        if blank_padded:
            return bytes(value) + b" " * ((field.length or 1) - characters)
        return bytes(value)

    return encode


def _bytea(_field: Field) -> Encode:
    def encode(value: Any) -> bytes:
        if type(value) is Text or not isinstance(value, bytes):
            raise Unholdable("no blob")
        return bytes(value)

    return encode


def _json(_field: Field) -> Encode:
    def encode(value: Any) -> bytes:
        if type(value) is int:
            return b"%d" % value
        if type(value) is float and math.isfinite(value):
            return repr(value).encode()
        if type(value) is Blob or not isinstance(value, bytes):
            raise Unholdable("no JSON text")
        # A json column of PostgreSQL holds nothing but JSON: equal text is enough.
        return bytes(value)

    return encode


def _jsonb(_field: Field) -> Encode:
    def encode(value: Any) -> bytes:
        if type(value) in (int, float):
            value = repr(value).encode()
        if type(value) is Blob or not isinstance(value, bytes):
            raise Unholdable("no JSON text")
        return b"\x01" + canonical_json(value)

    return encode


def _date(field: Field) -> Encode:
    micros = _instant(field)
    whole_only = field.conversion is None and field.strict

    def encode(value: Any) -> bytes:
        if whole_only and isinstance(value, bytes) and len(value) != 10:
            raise Unholdable("a text that is no date")
        days, rest = divmod(micros(value), _DAY)
        if rest:
            raise Unholdable("a time in a column of dates")
        return _i(days)

    return encode


def _timestamp(field: Field) -> Encode:
    micros = _instant(field)
    return lambda value: _q(micros(value))


def _clock(value: Any) -> int:
    if not isinstance(value, bytes) or type(value) is Blob or value[:1] in (b" ", b"T", b""):
        raise Unholdable("no time")
    text = b" " + value
    return _CLOCKS[text[:6]] + _SECONDS[text[6:9]] + _fraction(text[9:])


def _time(_field: Field) -> Encode:
    return lambda value: _q(_clock(value))


def _timetz(_field: Field) -> Encode:
    def encode(value: Any) -> bytes:
        if not isinstance(value, bytes) or type(value) is Blob:
            raise Unholdable("no time")
        parts = _split_offset(b"2000-01-01 " + value)
        if parts is None:
            raise Unholdable("a time without a zone offset")
        return _q(_clock(parts[0][11:])) + _i(-parts[1])

    return encode


def _interval(field: Field) -> Encode:
    def encode(value: Any) -> bytes:
        if field.conversion == "interval_us" and type(value) is int:
            micros = value
        elif field.conversion == "interval_epoch" and isinstance(value, bytes):
            micros = naive(value) + _UNIX_TO_POSTGRES
        else:
            raise Unholdable("no interval")
        try:
            return _q(micros) + bytes(8)
        except struct.error:
            raise Unholdable("an interval out of range") from None

    return encode


def _uuid(_field: Field) -> Encode:
    def encode(value: Any) -> bytes:
        if not isinstance(value, bytes):
            raise Unholdable("no UUID")
        if len(value) == 16 and type(value) is not Text:
            return bytes(value)
        try:
            return uuid.UUID(value.decode("ascii")).bytes
        except ValueError:
            raise Unholdable("no UUID") from None

    return encode


def decimal_candidates(value: Any) -> list[Decimal]:
    """The decimals that a value may stand for, the exact one first.

    A decimal goes through SQLite as a double, which holds fifteen digits of it: 0.1 + 0.2 is
    0.30000000000000004 there, and 0.3 in numeric(5,2).
    """
    if type(value) is int:
        return [Decimal(value)]
    if type(value) is float and math.isfinite(value):
        return [Decimal(repr(value)), Decimal(f"{value:.15g}")]
    if isinstance(value, bytes) and type(value) is not Blob and _DECIMAL(value):
        with_limit = Decimal(value.decode())
        return [with_limit]
    raise Unholdable("no decimal number")


def _fits(number: Decimal, field: Field) -> bool:
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        raise AssertionError("exponent is of a number that is not finite")
    if field.precision is None:
        return number.adjusted() < 131072 and exponent >= -16383
    scale = field.scale or 0
    return (not number or number.adjusted() < field.precision - scale) and exponent >= -scale


def _trimmed(number: Decimal) -> Decimal:
    """Without trailing zeros after the point; no rounding, whatever the context."""
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise AssertionError("exponent is of a number that is not finite")
    while exponent < 0 and len(digits) > 1 and digits[-1] == 0:
        digits, exponent = digits[:-1], exponent + 1
    if exponent < 0 and digits == (0,):
        exponent = 0
    return Decimal((sign, digits, exponent))


def numeric_bytes(number: Decimal) -> bytes:
    """PostgreSQL's binary form: groups of four digits, without trailing zeros."""
    sign, digits, exponent = _trimmed(number).as_tuple()
    if not isinstance(exponent, int):
        raise AssertionError("exponent is of a number that is not finite")
    text = "".join(map(str, digits)).lstrip("0")
    if not text:
        return struct.pack(">hhHh", 0, 0, 0, 0)
    if exponent > 0:
        text, exponent = text + "0" * exponent, 0
    scale = -exponent
    text += "0" * (-scale % 4)
    text = "0" * (-len(text) % 4) + text
    groups = [int(text[n : n + 4]) for n in range(0, len(text), 4)]
    weight = len(groups) - 1 - (scale + 3) // 4
    while groups and groups[-1] == 0:
        groups.pop()
    return struct.pack(
        f">hhHh{len(groups)}h", len(groups), weight, 0x4000 if sign else 0, scale, *groups
    )


def _numeric(field: Field) -> Encode:
    kept: dict[Any, bytes] = {}

    def encode(value: Any) -> bytes:
        # 1 and 1.0 are the same key, and the same decimal.
        found = kept.get(value)
        if found is not None and type(value) is not Blob:
            return found
        for number in decimal_candidates(value):
            number = _trimmed(number)
            if _fits(number, field):
                if len(kept) >= _DECIMALS_KEPT:
                    kept.clear()
                found = kept[value] = numeric_bytes(number)
                return found
        raise Unholdable("a number that doesn't fit")

    return encode


def _by_text(field: Field) -> Encode:
    def encode(value: Any) -> bytes:
        if type(value) is int:
            return b"%d" % value
        if type(value) is float:
            return repr(value).encode()
        if type(value) is Blob or not isinstance(value, bytes):
            raise Unholdable("no text")
        return bytes(value)

    return encode


_ENCODERS: dict[str, Callable[[Field], Encode]] = {
    "int8": _whole(_q),
    "int4": _whole(_i),
    "int2": _whole(_h),
    "bool": _boolean,
    "float8": _real(_d, struct.Struct(">d").unpack),
    "float4": _real(_f, struct.Struct(">f").unpack),
    "text": _text,
    "varchar": _text,
    "bpchar": _text,
    "bytea": _bytea,
    "json": _json,
    "jsonb": _jsonb,
    "date": _date,
    "timestamp": _timestamp,
    "timestamptz": _timestamp,
    "time": _time,
    "timetz": _timetz,
    "interval": _interval,
    "uuid": _uuid,
    "numeric": _numeric,
}
_SEND = {
    "int8": "int8send",
    "int4": "int4send",
    "int2": "int2send",
    "bool": "boolsend",
    "float8": "float8send",
    "float4": "float4send",
    "text": "textsend",
    "varchar": "varcharsend",
    "bpchar": "bpcharsend",
    "bytea": "byteasend",
    "json": "json_send",
    "jsonb": "jsonb_send",
    "date": "date_send",
    "timestamp": "timestamp_send",
    "timestamptz": "timestamptz_send",
    "time": "time_send",
    "timetz": "timetz_send",
    "interval": "interval_send",
    "uuid": "uuid_send",
    "numeric": "numeric_send",
}


def encoder(field: Field) -> Encode:
    """Value of SQLite, which isn't NULL -> the bytes that PostgreSQL sends for it."""
    return _ENCODERS.get(field.type, _by_text)(field)


# --- JSON -----------------------------------------------------------------------------------------


class _Duplicates(Exception):
    pass


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise Unholdable("no JSON text") from None


def _refuse_constant(_name: str) -> Any:
    raise Unholdable("no JSON text")


def parse_json(text: bytes) -> Any:
    """With exact numbers; of a key that stands twice, the last one counts."""
    try:
        return json.loads(
            text, parse_float=_number, parse_int=_number, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise Unholdable("no JSON text") from None


def has_duplicate_keys(text: bytes) -> bool:
    def pairs(found: list[tuple[str, Any]]) -> None:
        if len({key for key, _value in found}) != len(found):
            raise _Duplicates

    try:
        json.loads(text, object_pairs_hook=pairs)
    except _Duplicates:
        return True
    except (ValueError, RecursionError):
        pass
    return False


_ESCAPES = {ord(c): e for c, e in zip('\b\f\n\r\t"\\', ("\\b", "\\f", "\\n", "\\r", "\\t"))}
_ESCAPES |= {0x22: '\\"', 0x5C: "\\\\"}
_ESCAPES |= {n: f"\\u{n:04x}" for n in range(32) if n not in _ESCAPES}


def _json_string(text: str) -> str:
    return '"' + text.translate(_ESCAPES) + '"'


def _json_text(value: Any) -> str:
    if isinstance(value, str):
        return _json_string(value)
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text[1:] if not value and text[0] == "-" else text
    if isinstance(value, dict):
        keys = sorted((key.encode(), key) for key in value)
        keys.sort(key=lambda pair: len(pair[0]))
        return "{" + ", ".join(f"{_json_string(k)}: {_json_text(value[k])}" for _b, k in keys) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_json_text, value)) + "]"
    return {None: "null", True: "true", False: "false"}[value]


def canonical_json(text: bytes) -> bytes:
    """As jsonb is written: keys by length and bytes, one blank after colon and comma."""
    try:
        return _json_text(parse_json(text)).encode()
    except (UnicodeEncodeError, RecursionError):
        raise Unholdable("no JSON text that jsonb holds") from None


# --- equality by value ----------------------------------------------------------------------------


def decode_numeric(body: bytes) -> Decimal:
    count, weight, sign, _scale = struct.unpack(">hhHh", body[:8])
    if sign not in (0, 0x4000):
        return Decimal({0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}[sign])
    groups = struct.unpack(f">{count}h", body[8:])
    digits = "".join(f"{group:04}" for group in groups) or "0"
    exponent = (weight - count + 1) * 4 if count else 0
    return _trimmed(Decimal((1 if sign else 0, tuple(map(int, digits)), exponent)))


def interval_parts(body: bytes) -> tuple[int, int]:
    """Months and microseconds; a day is 24 hours."""
    micros, days, months = struct.unpack(">qii", body)
    return months, days * _DAY + micros


def same(field: Field, encode: Encode, value: Any, body: bytes | None) -> bool:
    """Whether both sides hold the same, whatever its form. Raises nothing."""
    if value is None or body is None:
        return value is None and body is None
    try:
        expected = encode(value)
    except Unholdable:
        return False
    if expected == body:
        return True
    if field.type == "numeric":
        if len(body) < 8 or body[4:6] not in (b"\x00\x00", b"\x40\x00"):
            return False
        held = decode_numeric(body)
        return any(number == held for number in decimal_candidates(value))
    if field.type == "bpchar":
        return expected.rstrip(b" ") == body.rstrip(b" ")
    if field.type == "interval":
        return interval_parts(expected) == interval_parts(body)
    if field.type in ("json", "jsonb"):
        if field.type == "json" and isinstance(value, bytes):
            return False
        try:
            there = parse_json(body[1:] if field.type == "jsonb" else body)
            here = parse_json(expected[1:] if field.type == "jsonb" else expected)
            return bool(there == here)
        except Unholdable:
            return False
    if field.conversion == "julian" and len(body) == 8:
        (micros,) = struct.unpack(">q", body)
        return float(Fraction(micros, _DAY) + _JULIAN_DAY_0) == float(value)
    return False


def may_be_refused(field: Field, encode: Encode, value: Any) -> bool:
    """Whether a careful loader may have refused the value, although it can be understood."""
    try:
        encode(value)
    except Unholdable:
        return True
    if isinstance(value, bytes) and field.type in ("json", "jsonb"):
        try:
            parse_json(value)
        except Unholdable:
            return True
        return False
    numbers = ("bool", "int8", "int4", "int2", "float8", "float4", "numeric")
    if isinstance(value, bytes):
        return field.type in numbers or field.textual
    return field.textual or field.type in ("text", "varchar", "bpchar")


# --- whole rows -----------------------------------------------------------------------------------


def split_row(message: bytes) -> list[bytes | None]:
    """The fields of one row of a binary COPY."""
    (count,) = struct.unpack_from(">h", message)
    position = 2
    bodies: list[bytes | None] = []
    for _unused in range(count):
        (size,) = struct.unpack_from(">i", message, position)
        position += 4
        if size < 0:
            bodies.append(None)
        else:
            bodies.append(message[position : position + size])
            position += size
    if position != len(message):
        raise ValueError("a row of the binary COPY has another length than its fields")
    return bodies


def join_row(bodies: list[bytes | None]) -> bytes:
    parts = [_h(len(bodies))]
    for body in bodies:
        parts += [NULL] if body is None else [_i(len(body)), body]
    return b"".join(parts)


def whole_row_size(message: bytes) -> int | None:
    """How many bytes the first row has; None if it isn't all there."""
    if len(message) < 2:
        return None
    (count,) = struct.unpack_from(">h", message)
    position = 2
    for _unused in range(max(count, 0)):
        if position + 4 > len(message):
            return None
        (size,) = struct.unpack_from(">i", message, position)
        position += 4 + max(size, 0)
    return position if position <= len(message) else None


_DIRECT_TEXT = ("text", "varchar")


def compile_packer(
    fields: list[Field], extra: int = 0, record: bool = False
) -> Callable[[list[Row]], list[bytes]]:
    """Rows of SQLite (texts as bytes) -> rows of PostgreSQL's binary COPY.

    The code is made for the table, so that a row costs one join. It raises on the first value
    that isn't what its column usually holds; the caller then goes value by value. `extra`
    columns at the end of each row aren't packed. With `record`, the bytes are those of
    PostgreSQL's record_send(), which has each column's type before its length.
    """
    scope: dict[str, Any] = {"E": b"", "J": b"".join}
    parts: list[str] = []
    layout = ">i" if record else ">h"
    arguments = [str(len(fields))]
    structs = 0

    def flush() -> None:
        nonlocal layout, arguments, structs
        if arguments:
            scope[f"S{structs}"] = struct.Struct(layout).pack
            parts.append(f"S{structs}({', '.join(arguments)})")
            structs += 1
        layout, arguments = ">", []

    for number, field in enumerate(fields):
        name = f"v{number}"
        prefix = _i(field.oid) if record else b""
        before = [str(field.oid)] if record else []
        mark = "i" * len(before)
        scope[f"N{number}"] = prefix + NULL
        fixed = _fixed(field, number, scope)
        direct = field.type in ("json", "bytea")
        direct = direct or field.type in _DIRECT_TEXT and field.affinity == "TEXT"
        if fixed is not None:
            code, size, expression = fixed
            given = [*before, str(size), expression]
            if field.not_null:
                layout += f"{mark}i{code}"
                arguments += given
            else:
                flush()
                scope[f"F{number}"] = struct.Struct(f">{mark}i{code}").pack
                parts.append(f"N{number} if {name} is None else F{number}({', '.join(given)})")
        elif field.type == "bool":
            flush()
            scope[f"B{number}"] = _boolean_table(field, prefix)
            parts.append(f"B{number}[{name}]")
        elif direct and field.not_null:
            layout += f"{mark}i"
            arguments += [*before, f"len({name})"]
            flush()
            parts.append(name)
        elif direct:
            flush()
            scope[f"L{number}"] = struct.Struct(f">{mark}i").pack
            given = [*before, f"len({name})"]
            parts.append(f"N{number} if {name} is None else L{number}({', '.join(given)})")
            parts.append(f"{name} or E")
        else:
            flush()
            scope[f"X{number}"] = _framed(field, prefix)
            parts.append(f"X{number}({name})")
    flush()
    names = ", ".join(f"v{number}" for number in range(len(fields) + extra))
    source = f"lambda rows: [J(({', '.join(parts)},)) for {names}, in rows]"
    pack: Callable[[list[Row]], list[bytes]] = eval(source, scope)
    return pack


def _fixed(field: Field, number: int, scope: dict[str, Any]) -> tuple[str, int, str] | None:
    """Struct code, size and expression, where struct itself refuses all that is no such value."""
    name = f"v{number}"
    whole = {"int8": ("q", 8), "int4": ("i", 4), "int2": ("h", 2)}
    if field.type in whole:
        return (*whole[field.type], name)
    if field.type == "float8" and field.affinity == "REAL":
        return "d", 8, name
    if field.type in ("timestamp", "timestamptz"):
        scope[f"T{number}"] = _usual_first(field)
        return "q", 8, f"T{number}({name})"
    if field.type == "time":
        scope[f"T{number}"] = _clock
        return "q", 8, f"T{number}({name})"
    return None


def _usual_first(field: Field) -> Callable[[Any], int]:
    slowly = _instant(field)
    takes_naive = (
        field.conversion == "naive_utc"
        or field.conversion in (None, "offset_utc")
        and (field.type == "timestamp" or not field.strict)
    )
    if not takes_naive:
        return slowly
    dates, clocks, seconds = _DATES, _CLOCKS, _SECONDS

    def micros(text: Any) -> int:
        # Texts only: that no blob is among them was looked at before. Others raise.
        size = len(text)
        if size == 26 and text[19] == 46:
            digits = text[20:]
            if digits.isdigit():
                return dates[text[:10]] + clocks[text[10:16]] + seconds[text[16:19]] + int(digits)
        elif size == 19:
            return dates[text[:10]] + clocks[text[10:16]] + seconds[text[16:]]
        return slowly(text)

    return micros


def _boolean_table(field: Field, prefix: bytes) -> dict[Any, bytes]:
    table: dict[Any, bytes] = {n: prefix + _i(1) + bytes([n]) for n in (0, 1)}
    if not field.not_null:
        table[None] = prefix + NULL
    return table


# Digits after the point of n / 10000, without trailing zeros.
_SCALES = bytes(
    4 if n % 10 else 3 if n % 100 else 2 if n % 1000 else 1 if n else 0 for n in range(10000)
)


def _framed_numeric(field: Field, prefix: bytes) -> Callable[[Any], bytes]:
    """Numbers below 10^8 with at most four digits after the point, without Decimal."""
    slowly = _framed_by_value(field, prefix)
    one = struct.Struct(">ihhHhh").pack
    two = struct.Struct(">ihhHhhh").pack
    three = struct.Struct(">ihhHhhhh").pack
    scales = _SCALES

    def framed(value: Any) -> bytes:
        if value.__class__ is float:
            # Below 10^12 a double tells all decimals of four digits after the point apart, so
            # the one that divides back to the value is the one that it stands for.
            number = int(value * 10000.0 + 0.5)
            if number / 10000.0 == value and 10000 < number < 100_000_000:
                part = number % 10000
                if part:
                    return prefix + two(12, 2, 0, 0, scales[part], number // 10000, part)
        return others(value)

    def others(value: Any) -> bytes:
        if type(value) is not float or not -1e8 < value < 1e8:
            return slowly(value)
        number = round(value * 10000.0)
        if number / 10000.0 != value or not number:
            return slowly(value)
        sign = 0
        if number < 0:
            sign, number = 0x4000, -number
        whole, part = divmod(number, 10000)
        if whole >= 10000:
            if not part:
                return slowly(value)
            return prefix + three(14, 3, 1, sign, scales[part], *divmod(whole, 10000), part)
        if not whole:
            return prefix + one(10, 1, -1, sign, scales[part], part)
        if not part:
            return prefix + one(10, 1, 0, sign, 0, whole)
        return prefix + two(12, 2, 0, sign, scales[part], whole, part)

    return framed


def _framed(field: Field, prefix: bytes) -> Callable[[Any], bytes]:
    if field.type == "numeric" and (field.scale is None or field.scale >= 0):
        return _framed_numeric(field, prefix)
    return _framed_by_value(field, prefix)


def _framed_by_value(field: Field, prefix: bytes) -> Callable[[Any], bytes]:
    encode = encoder(field)

    def framed(value: Any) -> bytes:
        if value is None:
            return prefix + NULL
        body = encode(value)
        return prefix + _i(len(body)) + body

    return framed


def record_bytes(fields: list[Field], bodies: list[bytes | None]) -> bytes:
    """What record_send() gives for a row of these bodies."""
    parts = [_i(len(bodies))]
    for field, body in zip(fields, bodies):
        parts += [_i(field.oid), NULL if body is None else _i(len(body)), body or b""]
    return b"".join(parts)
