# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a value arrived, judged by code that shares nothing with the migration's."""

from __future__ import annotations

import datetime
import json
import math
import re
import struct
import uuid
from decimal import Decimal
from typing import Any

STAMP = re.compile(r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d)?)(?:\.(\d+))?)?(Z|[+-]\d\d:\d\d)?")
UNITS = {"epoch_s": 1, "epoch_ms": 1000, "epoch_us": 10**6}
EPOCH = datetime.datetime(1970, 1, 1)


def same_number(here: float, there: Any) -> bool:
    if isinstance(there, bool):
        return here == there
    if isinstance(there, float):
        if isinstance(here, int):
            return there.is_integer() and int(there) == here
        return struct.pack(">d", here) == struct.pack(">d", there)
    if isinstance(there, int):
        return here == there and float(here).is_integer()
    if isinstance(there, Decimal):
        if isinstance(here, int):
            return Decimal(here) == there
        # A double that stands for a decimal has fifteen digits of it.
        return math.isfinite(here) and there in (Decimal(repr(here)), Decimal(f"{here:.15g}"))
    return isinstance(there, str) and there == repr(here)


def moment(text: str) -> tuple[datetime.datetime, int] | None:
    """A timestamp in UTC and its microseconds, read without rounding."""
    match = STAMP.fullmatch(text)
    if not match:
        return None
    day, clock, fraction, offset = match.groups()
    digits = (fraction or "").rstrip("0")
    if len(digits) > 6:
        return None
    try:
        found = datetime.datetime.fromisoformat(f"{day} {clock or '00:00'}")
    except ValueError:
        return None
    if offset and offset != "Z":
        hours, minutes = int(offset[:3]), int(offset[0] + offset[4:])
        found -= datetime.timedelta(hours=hours, minutes=minutes)
    return found, int(digits.ljust(6, "0"))


def same(here: Any, there: Any) -> bool:
    """Whether PostgreSQL's value is SQLite's own; a comparison that knows nothing of ours."""
    if here is None or there is None:
        return here is there
    if isinstance(here, bytes):
        return isinstance(there, (memoryview, bytes)) and bytes(there) == here
    if isinstance(here, (int, float)):
        return same_number(here, there)
    if isinstance(there, datetime.datetime):
        if there.tzinfo is not None:
            there = there.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        return moment(here) == (there.replace(microsecond=0), there.microsecond)
    if isinstance(there, datetime.date):
        return bool(here == there.isoformat())
    if isinstance(there, datetime.time):
        return same(
            f"2000-01-01 {here}", datetime.datetime.combine(datetime.date(2000, 1, 1), there)
        )
    return bool(here == there)


def original(here: Any) -> bytes:
    """What the quarantine keeps: the bytes of texts and blobs, numbers as Python writes them."""
    if isinstance(here, (int, float)):
        return repr(here).encode()
    return here.encode() if isinstance(here, str) else bytes(here)


class BadText(bytes):
    """A text that is no UTF-8."""


def text_of(raw: bytes) -> str | BadText:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return BadText(raw)


def storage_class(value: Any) -> str:
    if isinstance(value, (str, BadText)):
        return "text"
    return {bytes: "blob", int: "integer", float: "real"}[type(value)]


def same_converted(here: Any, there: Any, kind: str, conversion: str | None) -> bool:
    """The same for the types of an existing schema, where the form may change, but no meaning."""
    if here is None or there is None:
        return here is there
    if isinstance(there, datetime.timedelta):
        if isinstance(here, int):
            return conversion == "interval_us" and there == datetime.timedelta(microseconds=here)
        found = moment(here) if isinstance(here, str) else None
        return found is not None and EPOCH + there == found[0].replace(microsecond=found[1])
    if kind == "uuid":
        text = here.hex() if isinstance(here, bytes) else here
        return uuid.UUID(there).hex == text.replace("-", "").lower()
    if kind == "real":
        # The server writes the shortest digits that lead back to the same 32 bits.
        single = struct.unpack(">f", struct.pack(">f", there))[0]
        return struct.pack(">d", float(here)) == struct.pack(">d", single)
    if kind == "jsonb":
        text = here if isinstance(here, str) else repr(here)
        return bool(json.loads(text, parse_float=Decimal) == json.loads(there, parse_float=Decimal))
    if conversion in UNITS and isinstance(here, (int, float)):
        if isinstance(there, datetime.datetime):
            plain = there.astimezone(datetime.timezone.utc).replace(tzinfo=None)
        else:
            plain = datetime.datetime.combine(there, datetime.time())
        micros = (plain - EPOCH) // datetime.timedelta(microseconds=1)
        return micros * UNITS[conversion] == Decimal(repr(here)) * 10**6
    if conversion == "date_part":
        found = moment(here)
        return found == (datetime.datetime.combine(there, datetime.time()), 0)
    if isinstance(there, str) and isinstance(here, int):
        return there == str(here)
    return same(here, there)
