# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as COPY text: what is written, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import copy_text
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.copy_text import (
    BadValue,
    check_json,
    encoder_for,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.types import (
    TargetType,
)


def kind(name: str, **more: Any) -> TargetType:
    return TargetType(name, name, "", **more)


def via(name: str, conversion: str) -> TargetType:
    return kind(name, conversion=conversion)


def unescape(text: str) -> str:
    """COPY's own rules, written apart from the encoder."""
    out, index = [], 0
    while index < len(text):
        if text[index] == "\\":
            index += 1
            out.append({"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}[text[index]])
        else:
            assert text[index] not in "\n\t\r"
            out.append(text[index])
        index += 1
    return "".join(out)


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_any_text_comes_back_and_breaks_no_line(text: str) -> None:
    assert unescape(copy_text.escape(text)) == text


@given(st.floats(allow_nan=False))
def test_doubles_are_exact(value: float) -> None:
    back = float(copy_text.encode_double(value))
    assert back == value and math.copysign(1, back) == math.copysign(1, value)


@pytest.mark.parametrize(
    ("target", "value", "expected"),
    [
        (kind("bigint"), -(2**63), "-9223372036854775808"),
        (kind("bigint"), 3.0, "3"),
        (kind("boolean"), 1, "t"),
        (kind("boolean"), 0, "f"),
        (via("boolean", "words"), 1, "t"),
        (via("boolean", "words"), "TRUE", "t"),
        (via("boolean", "words"), "y", "t"),
        (via("boolean", "words"), "off", "f"),
        (via("boolean", "words"), "0", "f"),
        (kind("double"), 2**53, "9007199254740992"),
        (kind("double"), math.inf, "Infinity"),
        (kind("text"), "a\tb\\c\nd\r", "a\\tb\\\\c\\nd\\r"),
        (kind("text"), "\\N", "\\\\N"),
        (kind("text"), "\\.", "\\\\."),
        (kind("text"), "", ""),
        (kind("text", length=3), "äöü", "äöü"),
        (kind("loose_text"), 5, "5"),
        (kind("bytea"), b"\x00\xff", "\\\\x00ff"),
        (kind("json"), '{"a": "b\\n"}', '{"a": "b\\\\n"}'),
        (kind("json"), 12, "12"),
        (kind("json"), 1.5, "1.5"),
        (kind("date"), "2024-02-29", "2024-02-29"),
        (kind("time"), "23:59:59.123", "23:59:59.123"),
        (kind("timestamp"), "2024-01-02 03:04:05.678901", "2024-01-02 03:04:05.678901"),
        (kind("timestamp"), "2024-01-02T03:04", "2024-01-02 03:04:00"),
        (kind("timestamp"), "2024-01-02", "2024-01-02 00:00:00"),
        (kind("timestamp"), "0001-01-01 00:00:00", "0001-01-01 00:00:00"),
        (kind("timestamp", precision=3), "2024-01-02 03:04:05.678", "2024-01-02 03:04:05.678000"),
        (kind("timestamptz"), "2024-01-02 03:04:05+00:00", "2024-01-02 03:04:05+00"),
        (kind("timestamptz"), "2024-01-02 03:04:05-05:30", "2024-01-02 08:34:05+00"),
        (kind("timestamptz"), "2024-01-02T03:04:05Z", "2024-01-02 03:04:05+00"),
        (via("timestamptz", "naive_utc"), "2024-01-02 03:04:05", "2024-01-02 03:04:05+00"),
        (via("timestamp", "offset_utc"), "2024-01-02 01:04:05+02:00", "2024-01-01 23:04:05"),
        (via("timestamptz", "epoch_s"), 1700000000, "2023-11-14 22:13:20+00"),
        (via("timestamptz", "epoch_s"), 1700000000.125, "2023-11-14 22:13:20.125000+00"),
        (via("timestamp", "epoch_s"), -1, "1969-12-31 23:59:59"),
        (via("timestamp", "epoch_ms"), 1700000000123, "2023-11-14 22:13:20.123000"),
        (via("timestamp", "epoch_us"), 1700000000123456, "2023-11-14 22:13:20.123456"),
        (via("timestamp", "julian"), 2451545.0, "2000-01-01 12:00:00"),
        (via("date", "julian"), 2451544.5, "2000-01-01"),
        (via("date", "epoch_s"), 86400, "1970-01-02"),
        (via("date", "date_part"), "2024-01-02 00:00:00.000", "2024-01-02"),
        (via("interval", "interval_us"), -1, "-1 days 86399.999999 seconds"),
        (via("interval", "interval_epoch"), "1970-01-02 00:00:01.5", "1 days 1.500000 seconds"),
        (kind("uuid"), b"\x01" * 16, "01" * 16),
        (kind("uuid"), "0" * 32, "0" * 32),
        (kind("int4"), 2**31 - 1, "2147483647"),
        (kind("int2"), -(2**15), "-32768"),
        (kind("float4"), 0.5, "0.5"),
        (kind("timetz"), "10:00:00+01:00", "10:00:00+01:00"),
        (kind("other"), "happy", "happy"),
        (kind("other"), 5, "5"),
        (kind("bpchar", length=3), "abc", "abc"),
        (kind("numeric", precision=5, scale=2), 19.99, "19.99"),
        (kind("numeric", precision=5, scale=2), 0.1 + 0.2, "0.3"),
        (kind("numeric", precision=5, scale=2), 100, "100"),
        (kind("numeric", precision=5, scale=2), 7.0, "7.0"),
        (kind("numeric", precision=2, scale=2), 0.25, "0.25"),
        (kind("numeric", precision=5, scale=2), "1.50", "1.50"),
        (kind("numeric"), 1e300, "1E+300"),
    ],
)
def test_written(target: TargetType, value: object, expected: str) -> None:
    assert encoder_for(target)(value) == expected


@pytest.mark.parametrize(
    ("target", "value"),
    [
        (kind("bigint"), "12"),
        (kind("bigint"), 1.5),
        (kind("bigint"), 1e300),
        (kind("bigint"), b"1"),
        (kind("boolean"), 2),
        (kind("boolean"), "true"),
        (via("boolean", "words"), "maybe"),
        (via("boolean", "words"), ""),
        (via("boolean", "words"), "t "),
        (via("boolean", "words"), b"t"),
        (via("boolean", "words"), 2),
        (kind("double"), "1.0"),
        (kind("double"), 2**53 + 1),
        (kind("double"), 2**62 + 1),
        (kind("text"), "a\x00b"),
        (kind("text"), b"blob"),
        (kind("text"), 5),
        (kind("text", length=3), "abcd"),
        (kind("loose_text"), b"x"),
        (kind("bytea"), "secret words"),
        (kind("json"), b"{}"),
        (kind("json"), math.inf),
        (kind("date"), "2023-02-29"),
        (kind("date"), "2024-1-2"),
        (kind("date"), "2024-01-02 10:00:00"),
        (kind("date"), "now"),
        (kind("date"), "0000-01-01"),
        (kind("date"), "２０２４-01-01"),
        (kind("time"), "24:00:00"),
        (kind("time"), "10:00:60"),
        (kind("time"), "10:00:00.1234567"),
        (kind("timestamp"), "now"),
        (kind("timestamp"), "infinity"),
        (kind("timestamp"), "01/02/2024"),
        (kind("timestamp"), "2024-01-02 03:04:05+02:00"),
        (kind("timestamp"), "2024-01-02 24:00:00"),
        (kind("timestamp"), "2024-01-02 03:04:05.1234567"),
        (kind("timestamp"), "2024-01-02 03:04:05\n"),
        (kind("timestamp"), "2024-02-30 00:00:00"),
        (kind("timestamp"), 1700000000),
        (kind("timestamptz"), "2024-01-02 03:04:05"),
        (kind("numeric", precision=5, scale=2), 1000),
        (kind("numeric", precision=5, scale=2), 1000.5),
        (kind("numeric", precision=5, scale=2), 1.005),
        (kind("numeric", precision=5, scale=2), "NaN"),
        (kind("numeric", precision=5, scale=2), "1,50"),
        (kind("numeric"), math.inf),
        (kind("timestamp", precision=0), "2024-01-02 03:04:05.5"),
        (kind("time", precision=3), "03:04:05.1234"),
        (via("timestamptz", "epoch_s"), 1700000000.1234567),
        (via("timestamptz", "epoch_s"), "1700000000"),
        (via("timestamptz", "epoch_s"), math.inf),
        (via("timestamp", "epoch_s"), 10**15),
        (via("timestamp", "julian"), 2451545.0000001),
        (via("timestamp", "offset_utc"), "2024-01-02 01:04:05"),
        (via("date", "epoch_s"), 86401),
        (via("date", "date_part"), "2024-01-02 00:00:01"),
        (via("interval", "interval_us"), 1.5),
        (via("interval", "interval_epoch"), "1 day"),
        (kind("uuid"), "0" * 31 + "g"),
        (kind("uuid"), b"x" * 15),
        (kind("int4"), 2**31),
        (kind("int2"), -(2**15) - 1),
        (kind("float4"), 0.1),
        (kind("float4"), 1e300),
        (kind("timetz"), "10:00:00"),
        (kind("other"), b"blob"),
        (kind("bpchar", length=3), "a "),
        (kind("bpchar", length=3), "abcd"),
    ],
)
def test_refused_without_showing_the_value(target: TargetType, value: object) -> None:
    with pytest.raises(BadValue) as caught:
        encoder_for(target)(value)
    if isinstance(value, str) and len(value) > 3:
        assert value not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "NaN", "[1,]", "'a'", ""])
def test_no_json(text: str) -> None:
    with pytest.raises(BadValue):
        check_json(text, binary=False)


def test_json_with_nul_escape_only_in_json() -> None:
    check_json('"\\u0000"', binary=False)
    with pytest.raises(BadValue):
        check_json('"\\u0000"', binary=True)


def test_a_text_column_by_policy_takes_blobs() -> None:
    assert encoder_for(kind("loose_text"), blobs=True)(b"\x00\xff") == "\\\\x00ff"
