# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expected bytes are PostgreSQL's own, as its *send() functions give them."""

from __future__ import annotations

import ast
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import verify_codec
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.verify_codec import (
    Blob,
    Field,
    Text,
    Unholdable,
    canonical_json,
    compile_packer,
    decode_numeric,
    encoder,
    join_row,
    numeric_bytes,
    record_bytes,
    same,
    split_row,
    whole_row_size,
)

FOLDER = Path(verify_codec.__file__).parent


def made(kind: str, **more: Any) -> Field:
    return Field("c", "c", kind, kind, **more)


# From SELECT encode(int8send(...), 'hex') and so on, PostgreSQL 15.
SENT = [
    ("int8", None, -2, "fffffffffffffffe"),
    ("int8", None, b"12", "000000000000000c"),
    ("int4", None, 2.0, "00000002"),
    ("bool", None, 1, "01"),
    ("bool", None, b"False", "00"),
    ("float8", None, 1.5, "3ff8000000000000"),
    ("float8", None, b"NaN", "7ff8000000000000"),
    ("float8", None, 3, "4008000000000000"),
    ("float4", None, 1.5, "3fc00000"),
    ("text", None, "é".encode(), "c3a9"),
    ("text", None, 1.5, "312e35"),
    ("bytea", None, b"\x00\xff", "00ff"),
    ("date", None, b"2000-01-02", "00000001"),
    ("date", None, b"1999-12-31", "ffffffff"),
    ("date", None, b"0001-01-01", "fff4dbf9"),
    ("date", "date_part", b"2000-01-02 00:00:00.000000", "00000001"),
    ("date", "epoch_s", 946684800, "00000000"),
    ("time", None, b"00:00:01.5", "000000000016e360"),
    ("timetz", None, b"00:00:00+02:00", "0000000000000000ffffe3e0"),
    ("timestamp", None, b"2000-01-01 00:00:01", "00000000000f4240"),
    ("timestamp", None, b"1999-12-31T23:59:59.999999", "ffffffffffffffff"),
    ("timestamp", None, b"2000-01-01", "0000000000000000"),
    ("timestamp", None, b"2000-01-01 00:00", "0000000000000000"),
    ("timestamp", "offset_utc", b"2000-01-01 02:00:00+02:00", "0000000000000000"),
    ("timestamptz", None, b"2000-01-01 00:00:01Z", "00000000000f4240"),
    ("timestamptz", None, b"2000-01-01 00:00:01.000001 -0030", "000000006b591441"),
    ("timestamptz", "naive_utc", b"2000-01-01 00:00:01", "00000000000f4240"),
    ("timestamptz", "epoch_s", 946684801, "00000000000f4240"),
    ("timestamptz", "epoch_s", 946684801.25, "00000000001312d0"),
    ("timestamptz", "epoch_ms", 946684801000, "00000000000f4240"),
    ("timestamptz", "epoch_us", 946684801000000, "00000000000f4240"),
    ("timestamptz", "julian", 2451544.5, "0000000000000000"),
    ("interval", "interval_us", 1, "00000000000000010000000000000000"),
    ("interval", "interval_epoch", b"1970-01-01 00:00:00.000001", "0" * 15 + "1" + "0" * 16),
    ("uuid", None, b"00000000-0000-0000-0000-0000000000FF", "0" * 30 + "ff"),
    ("uuid", None, b"000000000000000000000000000000ff", "0" * 30 + "ff"),
    ("uuid", None, bytes(15) + b"\xff", "0" * 30 + "ff"),
    ("numeric", None, 1, "0001000000000000" + "0001"),
    ("numeric", None, 0, "0000000000000000"),
    ("numeric", None, 12345.678, "0003000100000003" + "0001" + "0929" + "1a7c"),
    ("numeric", None, -0.005, "0001ffff40000003" + "0032"),
    ("numeric", None, 10000, "0001000100000000" + "0001"),
    ("numeric", None, 1e-7, "0001fffe00000007" + "000a"),
    ("jsonb", None, b'{"b": 1.0, "a": [1e2, -0]}', "01" + b'{"a": [100, 0], "b": 1.0}'.hex()),
]


@pytest.mark.parametrize(("kind", "conversion", "value", "sent"), SENT)
def test_sent(kind: str, conversion: str | None, value: Any, sent: str) -> None:
    field = made(kind, conversion=conversion)
    assert encoder(field)(value).hex() == sent
    for record in (False, True):
        field.oid = 7
        (row,) = compile_packer([field], record=record)([(value,)]) if ok(field, value) else [None]
        if row is not None:
            body = bytes.fromhex(sent)
            head = b"\x00\x00\x00\x01\x00\x00\x00\x07" if record else b"\x00\x01"
            assert row == head + struct.pack(">i", len(body)) + body


def ok(field: Field, value: Any) -> bool:
    """Whether the compiled packer takes the value itself, and not the careful way."""
    try:
        compile_packer([field])([(value,)])
    except Exception:
        return False
    return True


BAD = [
    ("int8", None, b"abc"),
    ("int8", None, b"007"),
    ("int8", None, 2**63),
    ("int8", None, 1e19),
    ("int4", None, 2**31),
    ("int8", None, Blob(b"1")),
    ("bool", None, 2),
    ("bool", None, b"maybe"),
    ("float8", None, 2**53 + 1),
    ("float4", None, 0.1),
    ("text", None, b"a\x00b"),
    ("text", None, b"\xff"),
    ("text", None, Blob(b"abc")),
    ("bytea", None, Text(b"abc")),
    ("date", None, b"2023-02-29"),
    ("date", None, b"2024-01-01 00:00:00"),
    ("date", "date_part", b"2024-01-01 00:00:01"),
    ("date", None, b"0000-00-00"),
    ("time", None, b"24:00:00"),
    ("time", None, b" 10:00"),
    ("timestamp", None, b"2024-01-01 00:00:00Z"),
    ("timestamp", None, b"2024-01-01 00:00:60"),
    ("timestamp", None, b"2024-01-01 00:00:00.1234567"),
    ("timestamp", None, b"2024-01-01 00:00.5"),
    ("timestamp", None, b"now"),
    ("timestamp", None, b"01/02/2024"),
    ("timestamp", None, 1700000000),
    ("timestamptz", None, b"2024-01-01 00:00:00"),
    ("timestamptz", "epoch_us", 0.5),
    ("interval", None, 5),
    ("uuid", None, b"00000000"),
    ("numeric", None, float("inf")),
    ("numeric", None, b"1,5"),
    ("jsonb", None, b'{"a": NaN}'),
    ("jsonb", None, b"{"),
]


@pytest.mark.parametrize(("kind", "conversion", "value"), BAD)
def test_unholdable(kind: str, conversion: str | None, value: Any) -> None:
    with pytest.raises(Unholdable):
        encoder(made(kind, conversion=conversion))(value)


def test_text_limits() -> None:
    short = made("varchar", length=2)
    assert encoder(short)("éé".encode()) == "éé".encode()
    with pytest.raises(Unholdable):
        encoder(short)(b"abc")
    assert encoder(made("bpchar", length=3))(b"a") == b"a  "
    assert encoder(made("text", policy="text"))(Blob(b"\x00\xff")) == b"\\x00ff"


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0.1 + 0.2, "0.3"),
        (1e15 + 0.5, "1000000000000000.5"),
        (99999999.99, "99999999.99"),
        (5, "5"),
    ],
)
def test_decimal_with_a_scale(value: Any, number: str) -> None:
    field = made("numeric", precision=18, scale=2)
    assert decode_numeric(encoder(field)(value)) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    ["0", "-1", "10000", "0.0001", "123456789.987654321", "1E+20", "-0.00000001", "9999.9999"],
)
def test_numeric_both_ways(text: str) -> None:
    assert decode_numeric(numeric_bytes(Decimal(text))) == Decimal(text)
    (row,) = compile_packer([made("numeric")])([(float(text),)])
    assert split_row(row) == [numeric_bytes(Decimal(repr(float(text))))]


def test_equal_by_value() -> None:
    def equal(field: Field, value: Any, body: bytes | None) -> bool:
        return same(field, encoder(field), value, body)

    interval = made("interval", conversion="interval_us")
    day = struct.pack(">qii", 0, 1, 0)
    assert equal(interval, 86_400_000_000, day) and not equal(interval, 1, day)
    assert not equal(interval, 30 * 86_400_000_000, struct.pack(">qii", 0, 0, 1))
    assert equal(made("json"), 12, b"12.0") and not equal(made("json"), b"[1]", b"[1 ]")
    assert equal(made("jsonb"), b'{"a":1,"a":2}', b'\x01{"a": 2}')
    assert not equal(made("jsonb"), b'{"a": 10000000000000000000001}', b'\x01{"a": 1e22}')
    assert equal(made("text"), None, None) and not equal(made("text"), b"", None)
    assert not equal(made("text"), None, b"")
    assert equal(made("bpchar", length=3), b"a ", b"a  ")


def test_rows() -> None:
    row = join_row([b"ab", None, b""])
    assert split_row(row) == [b"ab", None, b""] and whole_row_size(row) == len(row)
    for end in range(len(row)):
        assert whole_row_size(row[:end]) is None
    fields = [made("int8", not_null=True, oid=20), made("text", affinity="TEXT", oid=25)]
    assert compile_packer(fields, 1)([(1, b"x", "label")]) == [
        join_row([b"\x00" * 7 + b"\x01", b"x"])
    ]
    assert compile_packer(fields, record=True)([(1, None)]) == [
        record_bytes(fields, [b"\x00" * 7 + b"\x01", None])
    ]
    for bad in ((None, b"x"), (1.5, b"x"), (1, 2)):
        with pytest.raises((struct.error, TypeError)):
            compile_packer(fields)([bad])


def test_canonical_json() -> None:
    text = b'{"bb": "\\u0001\\t\\/\\u00e9", "b": {}, "a": [], "c": [true, null, 1.50, 1e-3]}'
    assert canonical_json(text) == (
        '{"a": [], "b": {}, "c": [true, null, 1.50, 0.001], "bb": "\\u0001\\t/é"}'.encode()
    )
    with pytest.raises(Unholdable):
        canonical_json(b'"\\ud800"')


@pytest.mark.parametrize(
    "name", ["verify_codec", "compare_rows", "compare_checksums", "compare_structure", "verify"]
)
def test_nothing_of_the_loader(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not used & {"pack", "copy_text", "careful", "load", "plan", "planning", "types"}
