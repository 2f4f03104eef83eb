# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLite's values as PostgreSQL's COPY text format.

Every value is checked here and written in a form that PostgreSQL can only read in
one way: it would guess at 'now', 'infinity' or 01/02/2024, cut a numeric to its
scale, and ignore an offset in a timestamp.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NoReturn

from .types import TargetType

Encoder = Callable[[Any], str]

_DATE = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6}0*)?)?"
_OFFSET = r"(?:[Zz]|[+-](?:0[0-9]|1[0-5]):?[0-5][0-9])"
_IS_DATE = re.compile(_DATE).fullmatch
_IS_TIME = re.compile(_CLOCK).fullmatch
_IS_TIMESTAMP = re.compile(f"{_DATE}(?:[ T]{_CLOCK})?").fullmatch
_IS_ZONED = re.compile(f"{_DATE}[ T]{_CLOCK} ?{_OFFSET}").fullmatch
_IS_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?").fullmatch

_INT64_MAX = 2**63 - 1


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
def _real_day(text: str) -> bool:
    try:
        datetime.date(int(text[:4]), int(text[5:7]), int(text[8:10]))
    except ValueError:
        return False
    return True


def encode_bigint(value: Any) -> str:
    if type(value) is not int:
        if type(value) is float and value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        _wrong(value, "an integer")
    return str(value)


def encode_boolean(value: Any) -> str:
    if value == 1 and type(value) in (int, float):
        return "t"
    if value == 0 and type(value) in (int, float):
        return "f"
    if type(value) is int:
        raise BadValue("an integer other than 0 and 1 where a boolean is needed")
    _wrong(value, "0 or 1")


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


def encode_date(value: Any) -> str:
    if type(value) is not str:
        _wrong(value, "a date YYYY-MM-DD")
    if _IS_DATE(value) and _real_day(value):
        return value
    raise BadValue("a text that is no date YYYY-MM-DD")


def encode_time(value: Any) -> str:
    if type(value) is not str:
        _wrong(value, "a time HH:MM:SS")
    if _IS_TIME(value):
        return value
    raise BadValue("a text that is no time HH:MM:SS[.ffffff]")


def encode_timestamp(value: Any) -> str:
    if type(value) is not str:
        _wrong(value, "a timestamp")
    if _IS_TIMESTAMP(value) and _real_day(value[:10]):
        return value
    if _IS_ZONED(value):
        raise BadValue("a timestamp with a time zone offset among ones without")
    raise BadValue("a text that is no timestamp YYYY-MM-DD HH:MM:SS[.ffffff]")


def encode_timestamptz(value: Any) -> str:
    if type(value) is not str:
        _wrong(value, "a timestamp with a time zone offset")
    if _IS_ZONED(value) and _real_day(value[:10]):
        return value
    raise BadValue("a text that is no timestamp YYYY-MM-DD HH:MM:SS[.ffffff]+HH:MM")


def encode_numeric(precision: int | None, scale: int | None) -> Encoder:
    def fits(number: Decimal) -> bool:
        exponent = number.as_tuple().exponent
        assert isinstance(exponent, int)
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
    "boolean": encode_boolean,
    "double": encode_double,
    "text": encode_text,
    "loose_text": encode_loose_text,
    "bytea": encode_bytea,
    "json": encode_json,
    "jsonb": encode_json,
    "date": encode_date,
    "time": encode_time,
    "timestamp": encode_timestamp,
    "timestamptz": encode_timestamptz,
}


def encoder_for(target: TargetType) -> Encoder:
    """The encoder of one type; it never sees NULL."""
    if target.kind == "numeric":
        return encode_numeric(target.precision, target.scale)
    if target.kind == "text" and target.length is not None:
        return encode_varchar(target.length)
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


def _refuse_null(_value: Any) -> str:
    raise BadValue("NULL in a column that is NOT NULL")


def row_encoder(
    targets: list[TargetType], not_null: list[bool]
) -> Callable[[tuple[Any, ...]], str]:
    """One row as one line of COPY text."""
    encoders = [encoder_for(target) for target in targets]
    nulls = [_refuse_null if strict else (lambda _value: "\\N") for strict in not_null]
    pairs = list(zip(encoders, nulls))

    def encode(row: tuple[Any, ...]) -> str:
        return (
            "\t".join(
                [
                    encode_value(value) if value is not None else null(value)
                    for (encode_value, null), value in zip(pairs, row)
                ]
            )
            + "\n"
        )

    return encode


class CopyStream:
    """What copy_expert reads from: batches of rows, each as one block of bytes."""

    def __init__(
        self,
        batches: Iterable[list[tuple[Any, ...]]],
        encode: Callable[[tuple[Any, ...]], str],
    ) -> None:
        self._batches: Iterator[list[tuple[Any, ...]]] = iter(batches)
        self._encode = encode
        self.rows = 0
        self.bytes = 0
        self.failure: Exception | None = None

    def read(self, _size: int = -1) -> bytes:
        try:
            batch = next(self._batches, None)
            if batch is None:
                return b""
            block = "".join(map(self._encode, batch)).encode()
        except Exception as error:
            # psycopg2 turns this into a cancelled COPY; the cause is looked up here.
            self.failure = error
            raise
        self.rows += len(batch)
        self.bytes += len(block)
        return block
