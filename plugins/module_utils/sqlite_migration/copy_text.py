# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLite's values as PostgreSQL's COPY text format.

Every value is checked here and written in a form that PostgreSQL can only read in
one way: it would guess at 'now', 'infinity' or 01/02/2024, cut a numeric to its
scale, and ignore an offset in a timestamp.
"""

from __future__ import annotations

# A bool is an int to isinstance, and here it must not be.
# pylint: disable=unidiomatic-typecheck
import datetime
import json
import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NoReturn

from .types import TargetType

Encoder = Callable[[Any], str]

_DATE = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6}0*)?)?"
_OFFSET = r"(?:[Zz]|[+-](?:0[0-9]|1[0-5]):?[0-5][0-9])"
_IS_DATE = re.compile(_DATE).fullmatch
_TIME = re.compile(f"({_CLOCK})( ?{_OFFSET})?").fullmatch
_STAMP = re.compile(f"({_DATE})(?:[ T]({_CLOCK})( ?{_OFFSET})?)?").fullmatch
_IS_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?").fullmatch
_IS_UUID = re.compile(
    "[0-9a-fA-F]{32}|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
).fullmatch
_LIMITS = re.compile(r"\(\s*([0-9]+)\s*(?:,\s*(-?[0-9]+)\s*)?\)").search

_DAY = 86400_000000
_UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1000, "epoch_us": 1}
# What PostgreSQL's timestamp holds, and Python's datetime too: the years 1 to 9999.
_FIRST = -62135596800_000000
_LAST = 253402300800_000000
_FIRST_ORDINAL = 719163


class BadValue(ValueError):
    """A value that the target column can't hold; the text says why, never the value."""


def _wrong(value: Any, expected: str) -> NoReturn:
    found = {
        int: "an integer",
        float: "a real",
        str: "a text",
        bytes: "a blob",
        type(None): "NULL",
    }.get(type(value), type(value).__name__)
    raise BadValue(f"{found} where {expected} is needed")


def escape(text: str) -> str:
    """COPY's text format: backslash, tab and line ends."""
    if "\x00" in text:
        raise BadValue("a text with a NUL byte, which PostgreSQL can't store")
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text:
        text = text.replace("\n", "\\n")
    if "\t" in text:
        text = text.replace("\t", "\\t")
    if "\r" in text:
        text = text.replace("\r", "\\r")
    return text


@lru_cache(maxsize=4096)
def _day_number(text: str) -> int | None:
    """Days since 1970; None if the calendar has no such day."""
    try:
        date = datetime.date(int(text[:4]), int(text[5:7]), int(text[8:10]))
    except ValueError:
        return None
    return date.toordinal() - _FIRST_ORDINAL


def _clock_micros(text: str) -> int:
    seconds = int(text[:2]) * 3600 + int(text[3:5]) * 60 + int(text[6:8] or 0)
    return seconds * 1_000_000 + int(text[9:15].ljust(6, "0"))


def offset_seconds(text: str) -> int:
    """Of 'Z' or '+HH:MM', after what has matched or may be anything."""
    text = text.strip(" ")
    if not re.fullmatch(_OFFSET, text):
        raise BadValue("a text that is no time with an offset")
    if text in "Zz":
        return 0
    seconds = int(text[1:3]) * 3600 + int(text[-2:]) * 60
    return -seconds if text[0] == "-" else seconds


def _stamp(text: str) -> tuple[int, str | None]:
    found = _STAMP(text)
    day = _day_number(text[:10]) if found else None
    if not found or day is None:
        raise BadValue("a text that is no timestamp YYYY-MM-DD HH:MM:SS[.ffffff]")
    clock = found.group(2)
    return day * _DAY + (_clock_micros(clock) if clock else 0), found.group(3)


def timestamp_micros(text: str) -> int:
    """Microseconds since 1970 of a timestamp without an offset."""
    micros, offset = _stamp(text)
    if offset:
        raise BadValue("a timestamp with a time zone offset among ones without")
    return micros


def _number_micros(value: Any, conversion: str) -> int:
    """A count of days or seconds, if microseconds hold it exactly."""
    if type(value) is int and conversion in _UNITS:
        return value * _UNITS[conversion]
    if type(value) not in (int, float):
        _wrong(value, "a number")
    if type(value) is float and not math.isfinite(value):
        raise BadValue("an infinite number where a time is needed")
    if conversion == "julian":
        # SQLite itself counts Julian days in whole milliseconds.
        millis = int(round(value * 86400_000))
        if millis / 86400_000 == value:
            return (millis - 210866760000_000) * 1000
    else:
        unit = _UNITS[conversion]
        micros = int(round(value * unit))
        if micros / unit == value and abs(micros) < 2**53:
            return micros
    raise BadValue("a number that isn't a whole count of microseconds")


def exact_micros(value: Any, target: TargetType) -> int:
    """Microseconds since 1970 of what becomes a timestamp or timestamptz."""
    conversion = target.conversion
    if conversion in _UNITS or conversion == "julian":
        micros = _number_micros(value, conversion or "")
    elif type(value) is not str:
        _wrong(value, "a timestamp")
    else:
        micros, offset = _stamp(value)
        if offset:
            if target.kind == "timestamp" and conversion != "offset_utc":
                raise BadValue("a timestamp with a time zone offset among ones without")
            micros -= offset_seconds(offset) * 1_000_000
        elif conversion == "offset_utc":
            raise BadValue("a timestamp without a time zone offset among ones with one")
        elif target.kind == "timestamptz" and conversion != "naive_utc":
            raise BadValue("a text that is no timestamp YYYY-MM-DD HH:MM:SS[.ffffff]+HH:MM")
    return _in_range(_whole(micros, target))


def _whole(micros: int, target: TargetType) -> int:
    """PostgreSQL would round to the digits of timestamp(n) without a word."""
    limits = _LIMITS(target.sql)
    digits = target.precision
    if digits is None:
        digits = int(limits.group(1)) if limits else 6
    if micros % 10 ** max(0, 6 - digits):
        raise BadValue(f"a time with a finer fraction than {target.sql} has")
    return micros


def _in_range(micros: int) -> int:
    if _FIRST <= micros < _LAST:
        return micros
    raise BadValue("a time before the year 1 or after 9999")


def days_of(value: Any, target: TargetType) -> int:
    """Days since 1970 of what becomes a date."""
    conversion = target.conversion
    if conversion in _UNITS or conversion == "julian":
        micros = _in_range(_number_micros(value, conversion or ""))
    elif type(value) is not str:
        _wrong(value, "a date YYYY-MM-DD")
    elif conversion == "date_part":
        micros = timestamp_micros(value)
    else:
        day = _day_number(value) if _IS_DATE(value) else None
        if day is None:
            raise BadValue("a text that is no date YYYY-MM-DD")
        return day
    if micros % _DAY:
        raise BadValue("a time of day, which a date can't hold")
    return micros // _DAY


def interval_parts(value: Any, target: TargetType) -> tuple[int, int]:
    """Days and microseconds, as Python's timedelta has them."""
    if target.conversion == "interval_us":
        if type(value) is not int:
            _wrong(value, "an integer")
        micros = value
    elif type(value) is not str:
        _wrong(value, "a timestamp")
    else:
        micros = timestamp_micros(value)
    days, rest = divmod(_whole(micros, target), _DAY)
    if abs(days) > 10**9:
        raise BadValue("an interval of more than 999999999 days")
    return days, rest


def encode_bigint(value: Any) -> str:
    if type(value) is not int:
        if type(value) is float and value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        _wrong(value, "an integer")
    return str(value)


def encode_integer(bits: int) -> Encoder:
    limit = 1 << (bits - 1)

    def encode(value: Any) -> str:
        text = encode_bigint(value)
        if not -limit <= int(text) < limit:
            raise BadValue(f"an integer of more than {bits} bits")
        return text

    return encode


# What PostgreSQL itself reads as a boolean.
_WORDS = {
    **dict.fromkeys(("t", "true", "y", "yes", "on", "1"), True),
    **dict.fromkeys(("f", "false", "n", "no", "off", "0"), False),
}


def boolean_of(value: Any, words: bool = False) -> bool:
    """0 and 1 as they are; `words`: texts in any case too."""
    if type(value) in (int, float) and value in (0, 1):
        return bool(value)
    if type(value) is int:
        raise BadValue("an integer other than 0 and 1 where a boolean is needed")
    if type(value) is str and value.lower() in _WORDS:
        if words:
            return _WORDS[value.lower()]
        raise BadValue(
            "a word such as 't' or 'false' where 0 or 1 is needed; "
            "'boolean using words' in type_overrides takes them"
        )
    _wrong(value, "0 or 1, or a word for them," if words else "0 or 1")


def encode_boolean(target: TargetType) -> Encoder:
    words = target.conversion == "words"
    return lambda value: "t" if boolean_of(value, words) else "f"


def encode_double(value: Any) -> str:
    if type(value) is float:
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return repr(value)
    if type(value) is int:
        try:
            if int(float(value)) == value:
                return str(value)
        except OverflowError:
            pass
        raise BadValue("an integer that a double can't hold exactly")
    _wrong(value, "a number")


def float4_of(value: Any) -> float:
    """A number that four bytes hold exactly."""
    if type(value) not in (int, float):
        _wrong(value, "a number")
    try:
        if struct.unpack(">f", struct.pack(">f", value))[0] == value:
            return float(value)
    except (OverflowError, struct.error):
        pass
    raise BadValue("a number that real can't hold exactly")


def encode_float4(value: Any) -> str:
    return encode_double(float4_of(value))


def encode_text(value: Any) -> str:
    if type(value) is not str:
        _wrong(value, "a text")
    return escape(value)


def encode_loose_text(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return repr(value)
    return encode_text(value)


def encode_text_or_blob(value: Any) -> str:
    """For a column that takes everything, because its policy says so."""
    if type(value) is bytes:
        return "\\\\x" + value.hex()
    return encode_loose_text(value)


def check_bpchar(text: str, length: int) -> None:
    if len(text) > length:
        raise BadValue(f"a text longer than {length} characters")
    if text.endswith(" ") and len(text) < length:
        raise BadValue("a text that ends with spaces, which char(n) doesn't keep")


def encode_bpchar(length: int) -> Encoder:
    def encode(value: Any) -> str:
        if type(value) is not str:
            _wrong(value, "a text")
        check_bpchar(value, length)
        return escape(value)

    return encode


def encode_other(value: Any) -> str:
    """Whatever the type's own input function makes of it."""
    if type(value) is bytes:
        _wrong(value, "a text")
    return encode_loose_text(value)


def encode_uuid(value: Any) -> str:
    if type(value) is bytes and len(value) == 16:
        return value.hex()
    if type(value) is str and _IS_UUID(value):
        return value
    raise BadValue("a value that is no UUID of 32 digits, 36 characters or 16 bytes")


def encode_varchar(length: int) -> Encoder:
    def encode(value: Any) -> str:
        if type(value) is not str:
            _wrong(value, "a text")
        if len(value) > length:
            raise BadValue(f"a text longer than {length} characters")
        return escape(value)

    return encode


def encode_bytea(value: Any) -> str:
    if type(value) is not bytes:
        _wrong(value, "a blob")
    return "\\\\x" + value.hex()


def encode_json(value: Any) -> str:
    # JSON columns have numeric affinity: SQLite stores the text '12' as an integer.
    if type(value) is str:
        return escape(value)
    if type(value) is int:
        return str(value)
    if type(value) is float and math.isfinite(value):
        return repr(value)
    _wrong(value, "a JSON text")


def encode_date(target: TargetType) -> Encoder:
    def encode(value: Any) -> str:
        number = days_of(value, target) + _FIRST_ORDINAL
        return datetime.date.fromordinal(number).isoformat()

    return encode


def encode_time(target: TargetType) -> Encoder:
    zoned = target.kind == "timetz"

    def encode(value: Any) -> str:
        if type(value) is not str:
            _wrong(value, "a time HH:MM:SS")
        found = _TIME(value)
        if not found or bool(found.group(2)) != zoned:
            expected = "HH:MM:SS[.ffffff]" + ("+HH:MM" if zoned else "")
            raise BadValue(f"a text that is no time {expected}")
        _whole(_clock_micros(found.group(1)), target)
        return value

    return encode


def encode_timestamp(target: TargetType) -> Encoder:
    zone = "+00" if target.kind == "timestamptz" else ""

    def encode(value: Any) -> str:
        micros = exact_micros(value, target)
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=micros)
        return moment.isoformat(" ") + zone

    return encode


def encode_interval(target: TargetType) -> Encoder:
    if target.conversion is None:
        return encode_other

    def encode(value: Any) -> str:
        days, micros = interval_parts(value, target)
        return f"{days} days {micros // 1_000_000}.{micros % 1_000_000:06} seconds"

    return encode


def encode_numeric(precision: int | None, scale: int | None) -> Encoder:
    def fits(number: Decimal) -> bool:
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int):
            raise AssertionError("exponent is of a number that is not finite")
        if precision is None or scale is None:
            return number.adjusted() < 131072 and exponent > -16383
        if number and number.adjusted() + 1 > precision - scale:
            return False
        return exponent >= -scale or number == number.quantize(Decimal(1).scaleb(-scale))

    whole_digits = (precision or 0) - (scale or 0)

    def encode(value: Any) -> str:
        if type(value) is float and whole_digits > 0:
            # The usual case without Decimal, which would cost most of the load's time.
            text = repr(value)
            whole, _dot, fraction = text.lstrip("-").partition(".")
            if (
                whole.isdigit()
                and fraction.isdigit()
                and len(whole) <= whole_digits
                and (len(fraction) <= (scale or 0) or fraction == "0")
            ):
                return text
        if type(value) is int:
            number = Decimal(value)
        elif type(value) is float:
            if not math.isfinite(value):
                raise BadValue("an infinite number where a decimal is needed")
            number = Decimal(repr(value))
            if not fits(number):
                # Decimals go through SQLite as doubles: 0.1 + 0.2 is 0.30000000000000004.
                # Fifteen digits are what a double holds of a decimal; no more is dropped.
                number = Decimal(f"{value:.15g}")
        elif type(value) is str and _IS_DECIMAL(value):
            number = Decimal(value)
        else:
            _wrong(value, "a decimal number")
        try:
            if fits(number):
                return str(number)
        except InvalidOperation:
            pass
        raise BadValue(f"a number that doesn't fit numeric({precision},{scale}) exactly")

    return encode


_BY_KIND: dict[str, Encoder] = {
    "bigint": encode_bigint,
    "int4": encode_integer(32),
    "int2": encode_integer(16),
    "double": encode_double,
    "float4": encode_float4,
    "text": encode_text,
    "loose_text": encode_loose_text,
    "bytea": encode_bytea,
    "json": encode_json,
    "jsonb": encode_json,
    "uuid": encode_uuid,
    "other": encode_other,
}
_BY_TARGET: dict[str, Callable[[TargetType], Encoder]] = {
    "boolean": encode_boolean,
    "date": encode_date,
    "time": encode_time,
    "timetz": encode_time,
    "timestamp": encode_timestamp,
    "timestamptz": encode_timestamp,
    "interval": encode_interval,
}


def text_length(target: TargetType) -> int | None:
    """Of varchar(n) and char(n); a bare char is char(1)."""
    limits = _LIMITS(target.sql)
    if target.length is None and limits and target.kind in ("text", "bpchar"):
        return int(limits.group(1))
    if target.length is None and target.kind == "bpchar" and target.sql != "bpchar":
        return 1
    return target.length


def numeric_limits(target: TargetType) -> tuple[int | None, int | None]:
    limits = _LIMITS(target.sql)
    if target.precision is None and limits:
        return int(limits.group(1)), int(limits.group(2) or 0)
    return target.precision, target.scale


def encoder_for(target: TargetType, blobs: bool = False) -> Encoder:
    """The encoder of one type; it never sees NULL. `blobs`: a loose text takes them too."""
    if target.kind == "numeric":
        return encode_numeric(*numeric_limits(target))
    if target.kind == "text" and text_length(target) is not None:
        return encode_varchar(text_length(target) or 0)
    if target.kind == "bpchar":
        length = text_length(target)
        return encode_text if length is None else encode_bpchar(length)
    if target.kind == "loose_text" and blobs:
        return encode_text_or_blob
    if target.kind in _BY_TARGET:
        return _BY_TARGET[target.kind](target)
    return _BY_KIND[target.kind]


def check_json(value: Any, binary: bool) -> None:
    """What PostgreSQL would say about a JSON text; only used to find bad rows."""
    if type(value) is not str:
        return

    def constant(name: str) -> NoReturn:
        raise BadValue(f"JSON with {name}, which is no JSON")

    try:
        json.loads(value, parse_constant=constant)
    except BadValue:
        raise
    except (ValueError, RecursionError) as error:
        raise BadValue("a text that is no JSON") from error
    if binary and "\\u0000" in value:
        raise BadValue("JSON with \\u0000, which jsonb can't store")
