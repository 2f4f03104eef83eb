# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of PostgreSQL in the form that the original column had."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.reverse_schema import (  # noqa: E501
    declared_type,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.reverse_values import (  # noqa: E501
    Unwritable,
    decoder,
    learn,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.verify_codec import (
    Field,
    encoder,
)

STAMP = b"2024-05-06 07:08:09.120000"
SECONDS = "2024-05-06 07:08:09"

FORMS = [
    ("timestamp", None, ["2024-01-01 00:00:00.000000"], STAMP, "2024-05-06 07:08:09.120000"),
    ("timestamp", None, ["2024-01-01T00:00:00"], STAMP, "2024-05-06T07:08:09.120000"),
    ("timestamp", None, ["2024-01-01 00:00:00", "2024-01-01 00:00:00.5"], STAMP[:19], SECONDS),
    ("timestamp", None, ["2024-01-01 00:00:00.123"], STAMP, "2024-05-06 07:08:09.120"),
    ("timestamp", None, [], STAMP[:19], "2024-05-06 07:08:09"),
    ("timestamp", None, ["2024-01-01"], b"2024-05-06", "2024-05-06"),
    ("timestamp", None, ["2024-01-01"], STAMP[:19], "2024-05-06 07:08:09"),
    ("timestamptz", None, ["2024-01-01 00:00:00Z"], STAMP + b"Z", "2024-05-06 07:08:09.120000Z"),
    ("timestamptz", None, [], STAMP[:19] + b"+02:00", "2024-05-06 05:08:09+00:00"),
    ("timestamptz", "naive_utc", ["2024-01-01 00:00:00"], STAMP[:19], "2024-05-06 07:08:09"),
    ("timestamp", "offset_utc", ["2024-01-01 00:00:00+0200"], STAMP[:19] + b"Z", SECONDS + "+0000"),
    ("timestamptz", "epoch_s", [1, 2], 1700000000, 1700000000),
    ("timestamptz", "epoch_s", [1.5], 1700000000.25, 1700000000.25),
    ("timestamp", "epoch_ms", [1], 1700000000123, 1700000000123),
    ("timestamp", "julian", [2451544.5], 2460000.25, 2460000.25),
    ("date", None, ["2024-01-01"], b"2024-02-29", "2024-02-29"),
    (
        "date",
        "date_part",
        ["2024-01-01 00:00:00.000000"],
        b"2024-02-29 00:00:00",
        "2024-02-29 00:00:00.000000",
    ),
    ("time", None, ["01:02:03.000000"], b"04:05:06", "04:05:06.000000"),
    ("timetz", None, [], b"04:05:06-03:30", "04:05:06-03:30"),
    ("interval", "interval_us", [5], -90061000001, -90061000001),
    (
        "interval",
        "interval_epoch",
        ["1970-01-01 00:00:00.000000"],
        b"1970-01-02 00:00:01",
        "1970-01-02 00:00:01.000000",
    ),
    ("uuid", None, ["A" * 32], b"ab" * 16, "AB" * 16),
    ("uuid", "uuid_hex", [], b"ab" * 16, "ab" * 16),
    ("uuid", None, [bytes(16)], b"x" * 16, b"x" * 16),
    ("bool", None, ["True", "False"], b"t", "True"),
    ("bool", None, [1, 0], 1, 1),
    ("numeric", None, [], 12.5, 12.5),
    ("numeric", None, [], 2**60, 2**60),
    ("json", None, [], b'{"a": 1}', '{"a": 1}'),
    ("bytea", None, [], b"\x00", b"\x00"),
]


@pytest.mark.parametrize(("kind", "conversion", "samples", "value", "written"), FORMS)
def test_form(kind: str, conversion: Any, samples: list[Any], value: Any, written: Any) -> None:
    field = Field("c", "c", kind, kind, conversion=conversion, affinity="NUMERIC")
    found = decoder(field, learn(field, samples))(encoder(field)(value))
    assert found == written and type(found) is type(written)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("float8", bytes.fromhex("7ff8000000000000")),
        ("float8", bytes.fromhex("8000000000000000")),
        ("timestamp", bytes.fromhex("7fffffffffffffff")),
        ("date", bytes.fromhex("7fffffff")),
        ("timestamp", bytes.fromhex("7ffffffffffffffe")),
        ("time", (86_400_000_000).to_bytes(8, "big")),
        ("interval", bytes(16)),
        ("numeric", bytes.fromhex("00000000c0000000")),
    ],
)
def test_unwritable(kind: str, body: bytes) -> None:
    field = Field("c", "c", kind, kind)
    with pytest.raises(Unwritable):
        decoder(field, learn(field, []))(body)


def test_declared_type() -> None:
    assert declared_type(Field("c", "c", "varchar", "", length=5)) == "VARCHAR(5)"
    assert declared_type(Field("c", "c", "numeric", "", precision=5, scale=2)) == "NUMERIC(5, 2)"
    assert declared_type(Field("c", "c", "mood", "")) == "TEXT"
