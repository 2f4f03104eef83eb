# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's values as SQLite's, in the form that the original column had them."""

from __future__ import annotations

import datetime
import math
import re
import struct
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .verify_codec import Field, decimal_candidates, decode_numeric, interval_parts

_EPOCH = datetime.datetime(2000, 1, 1)
_UNIX_TO_POSTGRES = 946_684_800_000_000
_DAY = 86_400_000_000
_FORM = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)?(?P<separator>[ T])?(?P<clock>\d\d:\d\d(?P<seconds>:\d\d)?)?"
    r"(?:\.(?P<fraction>\d+))?(?P<offset> ?(?:[Zz]|[+-]\d\d:?\d\d))?"
)

Decode = Callable[[bytes], Any]


class Unwritable(ValueError):
    """SQLite can't hold the value exactly."""


@dataclass
class Form:
    """How a column's texts are written. `digits`: None means only where they aren't all zero."""

    separator: str = " "
    digits: int | None = None
    offset: str = ""
    clock: bool = True
    uuid: str = "hyphens"
    upper: bool = False
    words: tuple[Any, Any] = (0, 1)
    reals: bool = False


def learn(field: Field, samples: list[Any]) -> Form:
    """From values of the original column; the most frequent form wins."""
    form = Form()
    if field.type == "timestamptz" or field.conversion == "offset_utc":
        form.offset = "+00:00"
    if field.conversion == "uuid_hex":
        form.uuid = "hex"
    if field.conversion == "date_part":
        form.clock = True
    texts = [sample for sample in samples if isinstance(sample, str)]
    form.reals = any(isinstance(sample, float) for sample in samples)
    if field.type == "uuid" and samples:
        shape, form.upper = Counter(_uuid_shape(sample) for sample in samples).most_common(1)[0][0]
        form.uuid = shape
    elif field.type == "bool" and texts and len(texts) * 2 > len(samples):
        form.words = _words(texts)
    elif texts:
        _learn_time(form, texts)
    return form


def _uuid_shape(sample: Any) -> tuple[str, bool]:
    if isinstance(sample, bytes):
        return "bytes", False
    text = str(sample)
    return ("hyphens" if "-" in text else "hex"), text != text.lower()


def _words(texts: list[str]) -> tuple[str, str]:
    known = [("f", "t"), ("false", "true"), ("n", "y"), ("no", "yes"), ("off", "on"), ("0", "1")]
    common = Counter(texts).most_common(1)[0][0]
    for false, true in known:
        for change in (str.lower, str.upper, str.capitalize):
            if common in (change(false), change(true)):
                return change(false), change(true)
    return "0", "1"


def _learn_time(form: Form, texts: list[str]) -> None:
    found = [match for match in map(_FORM.fullmatch, texts) if match]
    if not found:
        return
    form.separator = Counter(m["separator"] or " " for m in found).most_common(1)[0][0]
    fractions = {len(m["fraction"] or "") for m in found}
    form.digits = fractions.pop() if len(fractions) == 1 else None
    form.clock = any(m["clock"] for m in found)
    offsets = [m["offset"] for m in found if m["offset"]]
    if offsets and form.offset or len(offsets) * 2 > len(found):
        text = Counter(offsets).most_common(1)[0][0]
        blank = " " if text[0] == " " else ""
        zero = text[-1] if text[-1] in "Zz" else "+00:00" if ":" in text else "+0000"
        form.offset = blank + zero
    elif not offsets:
        form.offset = ""


def _with_fraction(text: str, micros: int, form: Form) -> str:
    digits = form.digits
    if digits is None:
        digits = 6 if micros else 0
    elif micros % 10 ** (6 - min(digits, 6)):
        # The column's usual form has too few digits for this value.
        digits = 6
    if not digits:
        return text
    return f"{text}.{f'{micros:06}'.ljust(digits, '0')[:digits]}"


def _stamp(micros: int, form: Form) -> str:
    try:
        moment = _EPOCH + datetime.timedelta(microseconds=micros)
    except OverflowError:
        raise Unwritable("a time outside of the years 1 to 9999") from None
    text = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
    if not form.clock and not micros % _DAY:
        return text
    text += f"{form.separator}{moment.hour:02}:{moment.minute:02}:{moment.second:02}"
    return _with_fraction(text, moment.microsecond, form) + form.offset


def _clock(micros: int, form: Form) -> str:
    seconds, rest = divmod(micros, 1_000_000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return _with_fraction(text, rest, form)


def _number(micros: int, field: Field, form: Form) -> int | float:
    """A time as the number that the original had."""
    if field.conversion == "julian":
        value = float(Fraction(micros, _DAY) + Fraction(4903089, 2))
        return value
    unit = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}[str(field.conversion)]
    micros += _UNIX_TO_POSTGRES
    whole, rest = divmod(micros, unit)
    if not rest and not form.reals:
        return whole
    value = float(Fraction(micros, unit))
    if round(Fraction(value) * unit) != micros:
        raise Unwritable("a time whose number isn't exact in a double")
    return value


def _limited(micros: int) -> int:
    if micros in (-(1 << 63), (1 << 63) - 1):
        raise Unwritable("an infinite time")
    return micros


def decoder(field: Field, form: Form) -> Decode:
    """The bytes that PostgreSQL sends -> a value of SQLite, or Unwritable."""
    kind = field.type
    numbers = field.conversion in ("epoch_s", "epoch_ms", "epoch_us", "julian")

    def moment(micros: int) -> Any:
        micros = _limited(micros)
        return _number(micros, field, form) if numbers else _stamp(micros, form)

    if kind in ("int8", "int4", "int2"):
        if field.affinity == "TEXT":
            return lambda body: str(int.from_bytes(body, "big", signed=True))
        return lambda body: int.from_bytes(body, "big", signed=True)
    if kind == "bool":
        return lambda body: form.words[body[0]]
    if kind in ("float8", "float4"):
        return _real(struct.Struct(">d" if kind == "float8" else ">f"), field)
    if kind in ("text", "varchar"):
        return lambda body: body.decode()
    if kind == "bpchar":
        return lambda body: body.decode().rstrip(" ")
    if kind == "bytea":
        return lambda body: body
    if kind == "json":
        return lambda body: body.decode()
    if kind == "jsonb":
        return lambda body: body[1:].decode()
    if kind == "uuid":
        return lambda body: _uuid(body, form)
    if kind == "numeric":
        return lambda body: _decimal(body, field)
    if kind in ("timestamp", "timestamptz"):
        return lambda body: moment(int.from_bytes(body, "big", signed=True))
    if kind == "date":
        whole = form if field.conversion == "date_part" else Form(clock=False)

        def day(body: bytes) -> Any:
            days = int.from_bytes(body, "big", signed=True)
            if abs(days) >= (1 << 31) - 1:
                raise Unwritable("an infinite date")
            return moment(days * _DAY) if numbers else _stamp(days * _DAY, whole)

        return day
    if kind == "time":
        return lambda body: _clock(_within_day(int.from_bytes(body, "big")), form)
    if kind == "timetz":
        return lambda body: _zoned_clock(body, form)
    if kind == "interval":
        return lambda body: _interval(body, field, form)
    return lambda body: body.decode()


def _within_day(micros: int) -> int:
    if micros >= _DAY:
        raise Unwritable("the time 24:00")
    return micros


def _zoned_clock(body: bytes, form: Form) -> str:
    micros, west = struct.unpack(">qi", body)
    if west % 60:
        raise Unwritable("a zone offset with seconds")
    sign, minutes = "-" if west > 0 else "+", abs(west) // 60
    zone = f"{sign}{minutes // 60:02}:{minutes % 60:02}"
    if not minutes and form.offset.strip() in ("Z", "z"):
        zone = form.offset
    return _clock(_within_day(micros), form) + zone


def _real(packing: struct.Struct, field: Field) -> Decode:
    def decode(body: bytes) -> Any:
        (value,) = packing.unpack(body)
        if math.isnan(value):
            raise Unwritable("NaN, which SQLite stores as NULL")
        if value == 0 and math.copysign(1, value) < 0:
            raise Unwritable("a negative zero, which SQLite stores as zero")
        return repr(value) if field.affinity == "TEXT" else value

    return decode


def _uuid(body: bytes, form: Form) -> Any:
    if form.uuid == "bytes":
        return body
    value = uuid.UUID(bytes=body)
    text = value.hex if form.uuid == "hex" else str(value)
    return text.upper() if form.upper else text


def _decimal(body: bytes, field: Field) -> Any:
    number = decode_numeric(body)
    if not number.is_finite():
        raise Unwritable("a decimal that is NaN or infinite")
    if field.affinity == "TEXT":
        return f"{number:f}"
    if number == int(number) and abs(number) < 1 << 63 and field.affinity != "REAL":
        return int(number)
    value = float(number)
    if not math.isfinite(value) or all(held != number for held in decimal_candidates(value)):
        raise Unwritable("a decimal with more digits than a double holds")
    return value


def _interval(body: bytes, field: Field, form: Form) -> Any:
    months, micros = interval_parts(body)
    if months:
        raise Unwritable("an interval with months")
    if field.conversion == "interval_us":
        return micros
    if field.conversion == "interval_epoch":
        return _stamp(micros - _UNIX_TO_POSTGRES, form)
    raise Unwritable("an interval, for which no form is known")
