# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Binary COPY: the bytes of each type, strictness, and memory that stays small."""

from __future__ import annotations

import sqlite3
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.copy_text import (
    encoder_for,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.pack import (
    HEADER,
    TRAILER,
    Packer,
    PackStream,
    Rows,
    can_pack,
    sample_rows,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.plan import (
    PlannedColumn,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.types import (
    TargetType,
)

EPOCH_2000 = 946684800_000000


def kind(name: str, **more: Any) -> TargetType:
    return TargetType(name, more.pop("sql", name), "", **more)


def packed(
    target: TargetType,
    values: list[Any],
    not_null: bool = False,
    declared: str = "",
) -> list[bytes | None]:
    """The fields that PostgreSQL would see, read back by COPY's own rules."""
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE t (n INTEGER PRIMARY KEY, v {declared})")
    connection.executemany("INSERT INTO t (v) VALUES (?)", [(v,) for v in values])
    columns = [
        PlannedColumn("n", "INTEGER", kind("bigint"), True),
        PlannedColumn("v", declared, target, not_null),
    ]
    connection.text_factory = bytes
    packer = Packer("t", columns, sample_rows(connection, "t", columns))
    stream = PackStream(Rows(connection, packer), packer)
    assert stream.read() == HEADER
    blocks = []
    while (block := stream.read()) != TRAILER:
        blocks.append(block)
    assert stream.read() == b"" and stream.rows == len(values)
    data, at, fields = b"".join(blocks), 0, []
    order = [column.name for column in packer.columns]
    for number in range(1, len(values) + 1):
        assert data[at : at + 2] == b"\x00\x02"
        at += 2
        row: dict[str, bytes | None] = {}
        for name in order:
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            row[name] = None if length == -1 else data[at : at + length]
            at += max(0, length)
        assert row["n"] == struct.pack(">q", number)
        fields.append(row["v"])
    assert at == len(data)
    return fields


def micros(text: str) -> bytes:
    import datetime

    moment = datetime.datetime.fromisoformat(text)
    since = moment - datetime.datetime(2000, 1, 1)
    return struct.pack(">q", since // datetime.timedelta(microseconds=1))


NINE = kind("numeric", precision=9, scale=2)
HEX = "0123456789abcdef"
CASES: list[tuple[TargetType, str, Any, bytes]] = [
    (kind("bigint"), "INTEGER", -(2**63), struct.pack(">q", -(2**63))),
    (kind("int4"), "INTEGER", -5, struct.pack(">i", -5)),
    (kind("int2"), "INTEGER", 7, struct.pack(">h", 7)),
    (kind("boolean"), "BOOLEAN", 1, b"\x01"),
    (kind("boolean"), "BOOLEAN", 0, b"\x00"),
    (kind("boolean", conversion="words"), "BOOLEAN", "Yes", b"\x01"),
    (kind("boolean", conversion="words"), "BOOLEAN", "f", b"\x00"),
    (kind("boolean", conversion="words"), "BOOLEAN", 0, b"\x00"),
    (kind("double"), "REAL", -1e-300, struct.pack(">d", -1e-300)),
    (kind("double"), "", 5, struct.pack(">d", 5)),
    (kind("float4"), "", 0.5, struct.pack(">f", 0.5)),
    (kind("text"), "TEXT", "ü" * 5000, ("ü" * 5000).encode()),
    (kind("text"), "TEXT", "", b""),
    (kind("text", length=3), "TEXT", "äöü", "äöü".encode()),
    (kind("bpchar", length=3, sql="character(3)"), "TEXT", "ab", b"ab"),
    (kind("loose_text"), "", 2**62, str(2**62).encode()),
    (kind("loose_text"), "", 0.1, b"0.1"),
    (kind("loose_text"), "", "x", b"x"),
    (kind("bytea"), "BLOB", b"\x00\xff", b"\x00\xff"),
    (kind("json"), "JSON", '{"a": 1}', b'{"a": 1}'),
    (kind("json"), "JSON", "12", b"12"),
    (kind("jsonb"), "JSON", "1.5", b"\x011.5"),
    (kind("jsonb"), "JSON", "[" + "1," * 9000 + "1]", b"\x01[" + b"1," * 9000 + b"1]"),
    (kind("date"), "DATE", "1999-12-31", struct.pack(">i", -1)),
    (kind("date", conversion="date_part"), "", "2000-01-02 00:00:00", struct.pack(">i", 1)),
    (kind("time"), "", "01:02:03.4", struct.pack(">q", 3723400000)),
    (kind("timetz"), "", "01:00:00+02:00", struct.pack(">qi", 3600000000, -7200)),
    (kind("timestamptz"), "", "2024-01-02 03:04:05+02:00", micros("2024-01-02 01:04:05")),
    (kind("timestamptz", conversion="epoch_s"), "", 946684801, struct.pack(">q", 10**6)),
    (kind("interval", conversion="interval_us"), "", -1, struct.pack(">qii", 86399999999, -1, 0)),
    (kind("uuid"), "", HEX + HEX.upper(), bytes.fromhex(HEX * 2)),
    (kind("uuid"), "", "01234567-89ab-cdef-0123-456789abcdef", bytes.fromhex(HEX * 2)),
    (kind("uuid"), "", b"\xff" * 16, b"\xff" * 16),
    (kind("numeric"), "", "-12345.678", struct.pack(">HhHHHHH", 3, 1, 0x4000, 3, 1, 2345, 6780)),
    (NINE, "", 12345.25, struct.pack(">HhHH3H", 3, 1, 0, 2, 1, 2345, 2500)),
    (kind("numeric", precision=5, scale=2), "", 7.25, struct.pack(">HhHH2H", 2, 0, 0, 2, 7, 2500)),
]  # fmt: skip


@pytest.mark.parametrize("not_null", [False, True])
@pytest.mark.parametrize("repeat", [1, 200])
@pytest.mark.parametrize(("target", "declared", "value", "body"), CASES)
def test_bytes(
    target: TargetType, declared: str, value: Any, body: bytes, repeat: int, not_null: bool
) -> None:
    assert can_pack(target)
    values = [value] * repeat if not_null else [value, None] * repeat
    expected = [body] * repeat if not_null else [body, None] * repeat
    assert packed(target, values, not_null, declared) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-29 23:59:59.999999",
        "1999-12-31 00:00:00.000001",
        "0001-01-01 00:00:00",
        "9999-12-31 23:59:59.9",
        "2024-01-02T03:04:05.12",
        "2024-01-02 03:04",
        "2024-01-02",
        "2024-01-02 03:04:05.1000000",
    ],
)
@pytest.mark.parametrize("conversion", [None, "naive_utc"])
def test_timestamps(text: str, conversion: str | None) -> None:
    target = kind("timestamptz" if conversion else "timestamp", conversion=conversion)
    fraction = text.partition(".")[2]
    short = text[: len(text) - len(fraction)] + fraction[:6].ljust(6, "0") if fraction else text
    assert packed(target, [text], True) == [micros(short)]


@given(st.datetimes())
def test_any_timestamp(moment: Any) -> None:
    text = moment.isoformat(" ")
    assert packed(kind("timestamp"), [text]) == [micros(text)]


FORMS = st.sampled_from([(" ", "seconds"), ("T", "milliseconds"), (" ", "microseconds")])


@given(st.lists(st.none() | st.datetimes(), max_size=150), FORMS, FORMS)
def test_timestamps_that_are_read_together(moments: list[Any], usual: Any, other: Any) -> None:
    texts = [
        None if moment is None else moment.isoformat(*(other if number % 40 == 39 else usual))
        for number, moment in enumerate(moments)
    ]
    expected = [None if text is None else micros(text) for text in texts]
    assert packed(kind("timestamp"), texts) == expected


@given(st.dates(), st.lists(st.none() | st.times(), min_size=8, max_size=150), FORMS)
def test_timestamps_of_one_day(day: Any, times: list[Any], form: Any) -> None:
    import datetime

    texts = [
        None if time is None else datetime.datetime.combine(day, time).isoformat(*form)
        for time in times
    ]
    expected = [None if text is None else micros(text) for text in texts]
    assert packed(kind("timestamp"), texts) == expected


@pytest.mark.parametrize(
    ("place", "characters"),
    [
        *((place, "/:- a\x00") for place in (0, 3, 5, 9, 11, 12, 14, 15, 17, 18, 20, 25)),
        (10, "0x-+"),
        *((place, "0. -") for place in (13, 16)),
        (19, "0:+"),
        (11, "3"),
        (14, "6"),
        (17, "6"),
        (5, "9"),
        (8, "4"),
    ],
)
@pytest.mark.parametrize("length", [19, 23, 26])
def test_one_wrong_timestamp_among_many(place: int, characters: str, length: int) -> None:
    good = "2024-01-02 13:44:55.123456"[:length]
    for character in characters:
        wrong = good[:place] + character + good[place + 1 :]
        if place < length:
            with pytest.raises((ValueError, TypeError, KeyError)):
                packed(kind("timestamp"), [good] * 20 + [wrong] + [good] * 20)


@pytest.mark.parametrize("value", [float("inf"), 1e308, 12345678.0, 0.001, "a"])
def test_decimals_that_do_not_fit(value: Any) -> None:
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        packed(NINE, [value], True)


@given(st.integers(-(10**10), 10**10), st.integers(0, 4))
def test_decimals_agree_with_the_text_form(digits: int, scale: int) -> None:
    """The short way through doubles, against the text that the careful way writes."""
    from decimal import Decimal

    target = kind("numeric", precision=14, scale=scale)
    value = digits / 10**scale
    body = packed(target, [value], True)[0] or b""
    count, weight, sign, dscale = struct.unpack_from(">HhHH", body)
    words = struct.unpack_from(f">{count}H", body, 8)
    number = sum(Decimal(w) * Decimal(10000) ** (weight - i) for i, w in enumerate(words))
    assert dscale <= max(scale, 1)
    assert (-number if sign else number) == Decimal(encoder_for(target)(value))


@pytest.mark.parametrize(
    ("target", "declared", "value"),
    [
        (kind("bigint"), "", "5"),
        (kind("bigint"), "", 1.5),
        (kind("bigint"), "", b"5"),
        (kind("int4"), "", 2**31),
        (kind("boolean"), "", 2),
        (kind("boolean"), "", "1"),
        (kind("boolean", conversion="words"), "", "maybe"),
        (kind("boolean", conversion="words"), "", b"t"),
        (kind("double"), "", 2**53 + 1),
        (kind("double"), "", "1.0"),
        (kind("text"), "", b"blob"),
        (kind("text"), "", 5),
        (kind("text", length=3), "TEXT", "abcd"),
        (kind("text", length=3), "TEXT", "abc "),
        (kind("bytea"), "", "text"),
        (kind("timestamp"), "", "2024-01-02+03:04:05"),
        (kind("timestamp"), "", "2024-01-02-03:04:05.5"),
        (kind("timestamp"), "", "2024-01-02x03:04:05.123456"),
        (kind("timestamp"), "", "2024-01-02 24:00:00"),
        (kind("timestamp"), "", "2024-02-30 03:04:05"),
        (kind("bytea"), "", 5),
        (kind("json"), "", b"{}"),
        (kind("json"), "", float("inf")),
        (kind("date"), "", "2023-02-29"),
        (kind("date"), "", b"2023-02-28"),
        (kind("timestamp"), "", b"2024-01-02 03:04:05"),
        (kind("timestamp"), "", "2024-01-02 03:04:05."),
        (kind("timestamp"), "", "2024-01-02 03:04:"),
        (kind("timestamp"), "", "2024-01-02 03:04:05.+1"),
        (kind("timestamp"), "", "2024-01-02 03:04:05.1_1"),
        (kind("timestamp"), "", "2024-01-02 24:00:00"),
        (kind("timestamp"), "", "2024-01-02 03:04:05+02:00"),
        (kind("timestamp"), "", "now"),
        (kind("timestamp"), "", 5),
        (kind("timestamp", precision=0), "", "2024-01-02 03:04:05.5"),
        (kind("timestamptz"), "", "2024-01-02 03:04:05"),
        (kind("numeric", precision=5, scale=2), "", 1000),
        (kind("numeric", precision=5, scale=2), "", 999.999),
        (kind("numeric", precision=5, scale=2), "", b"1"),
        (kind("uuid"), "", "x" * 16),
        (kind("uuid"), "", "0" * 31),
    ],
)
@pytest.mark.parametrize("not_null", [False, True])
@pytest.mark.parametrize("repeat", [1, 200])
def test_refused(
    target: TargetType, declared: str, value: Any, not_null: bool, repeat: int
) -> None:
    with pytest.raises(
        (ValueError, TypeError, KeyError, ArithmeticError, struct.error, sqlite3.Error)
    ):
        packed(target, [value] * repeat, not_null, declared)


@pytest.mark.parametrize(
    "name", ["bigint", "double", "text", "timestamp", "boolean", "date", "uuid"]
)
def test_null_in_not_null_is_refused(name: str) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, struct.error)):
        packed(kind(name), [None], not_null=True)


def test_a_blob_among_repeated_texts_is_noticed() -> None:
    with pytest.raises(sqlite3.Error):
        packed(kind("text"), ["a"] * 500 + [b"a"])


def test_long_values_go_in_slices() -> None:
    rows = [b"x" * 3_000_000, b"", None, b"y" * 300_000, b"z"] * 2
    assert packed(kind("bytea"), rows) == rows
    assert packed(kind("bytea"), [b"", b"v" * 3_000_000], not_null=True)[1] == b"v" * 3_000_000


class WithoutLimits(sqlite3.Connection):
    """As Python before 3.11 has it."""

    @property
    def setlimit(self) -> Any:
        raise AttributeError


@pytest.mark.parametrize("factory", [sqlite3.Connection, WithoutLimits])
def test_long_values_come_alone(factory: type[sqlite3.Connection]) -> None:
    """So that memory is bounded by the longest, not by a batch of them."""
    connection = sqlite3.connect(":memory:", factory=factory)
    connection.execute("CREATE TABLE t (n INTEGER, v BLOB)")
    connection.execute(
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 700) "
        "INSERT INTO t SELECT n, zeroblob(iif(n > 500 AND n < 640, 2000000, 10)) FROM c"
    )
    columns = [
        PlannedColumn("n", "INTEGER", kind("bigint"), True),
        PlannedColumn("v", "BLOB", kind("bytea"), False),
    ]
    connection.text_factory = bytes
    packer = Packer("t", columns, sample_rows(connection, "t", columns))
    stream = PackStream(Rows(connection, packer), packer)
    length, highest = 0, 0
    tracemalloc.start()
    while block := stream.read():
        length += len(block)
        highest = max(highest, tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert stream.rows == 700
    assert length == len(HEADER) + len(TRAILER) + 700 * 18 + 139 * 2000000 + 561 * 10
    assert highest < 9_000_000
    stream.close()
    assert connection.execute("SELECT length(randomblob(1000000))").fetchone() == (1000000,)


def test_blocks_stay_small() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (v BLOB)")
    connection.executemany(
        "INSERT INTO t VALUES (?)", [(b"x" * n,) for n in [9] * 999 + [200000] * 99]
    )
    columns = [PlannedColumn("v", "BLOB", kind("bytea"), False)]
    connection.text_factory = bytes
    packer = Packer("t", columns, sample_rows(connection, "t", columns))
    stream = PackStream(Rows(connection, packer), packer)
    sizes = []
    while block := stream.read():
        sizes.append(len(block))
    assert max(sizes) < 1_000_000 and stream.rows == 1098


def test_what_cannot_be_packed() -> None:
    assert not can_pack(kind("other")) and not can_pack(kind("interval"))
