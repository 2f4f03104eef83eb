# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL types by name and from the catalog, and the conversions that values need."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import types
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.schema import (
    Column,
    Profile,
)


@pytest.mark.parametrize(
    ("sql", "kind", "given"),
    [
        ("bigint", "bigint", {}),
        ("INT8", "bigint", {}),
        ("integer", "int4", {}),
        ("smallint", "int2", {}),
        ("double precision", "double", {}),
        ("float", "double", {}),
        ("float(24)", "float4", {}),
        ("float(25)", "double", {}),
        ("real", "float4", {}),
        ("varchar(80)", "text", {"length": 80}),
        ("character varying", "text", {}),
        ("char", "bpchar", {"length": 1}),
        ("char(5)", "bpchar", {"length": 5}),
        ("numeric", "numeric", {}),
        ("numeric(12)", "numeric", {"precision": 12, "scale": 0}),
        ("numeric(12, 3)", "numeric", {"precision": 12, "scale": 3}),
        ("numeric(5,-2)", "numeric", {"precision": 5, "scale": -2}),
        ("timestamp(3) with time zone", "timestamptz", {"precision": 3}),
        ("timestamp without time zone", "timestamp", {}),
        ("time with time zone", "timetz", {}),
        ("interval", "interval", {}),
        ("uuid", "uuid", {}),
        ("jsonb", "jsonb", {}),
        ("text[]", "other", {}),
        ("inet", "other", {}),
        ("public.citext", "other", {}),
        ('"Odd Schema"."Odd ""Type"""', "other", {}),
    ],
)
def test_types_by_name(sql: str, kind: str, given: dict[str, Any]) -> None:
    found = types.postgres_type(sql, "why")
    assert (found.kind, found.sql, found.reason) == (kind, sql, "why")
    shown = {n: getattr(found, n) for n in ("length", "precision", "scale")}
    assert {n: v for n, v in shown.items() if v is not None} == given


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "text; DROP TABLE t",
        "text) --",
        "a b c",
        "'text'",
        "text DEFAULT 5",
        "a.b.c",
        'x"y',
        "1",
    ],
)
def test_no_types(sql: str) -> None:
    with pytest.raises(MigrationError, match="isn't written like a PostgreSQL type"):
        types.postgres_type(sql, "")


@pytest.mark.parametrize(
    ("name", "modifier", "kind", "given"),
    [
        ("int8", -1, "bigint", {}),
        ("varchar", 84, "text", {"length": 80}),
        ("bpchar", 9, "bpchar", {"length": 5}),
        ("char", -1, "other", {}),
        ("numeric", (10 << 16 | 2) + 4, "numeric", {"precision": 10, "scale": 2}),
        ("numeric", (5 << 16 | (-2 & 0x7FF)) + 4, "numeric", {"precision": 5, "scale": -2}),
        ("timestamptz", 0, "timestamptz", {"precision": 0}),
        ("interval", 0x7FFF << 16 | 0xFFFF, "interval", {}),
        ("interval", 0x7FFF << 16 | 3, "interval", {"precision": 3}),
        ("_int4", -1, "other", {}),
        ("", -1, "other", {}),
    ],
)
def test_types_from_the_catalog(name: str, modifier: int, kind: str, given: dict[str, int]) -> None:
    found = types.catalog_type(name, modifier, "sql", "")
    assert found.kind == kind
    shown = {n: getattr(found, n) for n in ("length", "precision", "scale")}
    assert {n: v for n, v in shown.items() if v is not None} == given


@pytest.mark.parametrize(
    ("low", "high", "unit"),
    [
        (631152000, 4102444800, "epoch_s"),
        (631151999, 1700000000, None),
        (1700000000, 4102444801, None),
        (1700000000000, 1700000000123, "epoch_ms"),
        (1700000000000000, 1700000000123456, "epoch_us"),
        (1700000000, 1700000000000, None),
        (2460000.5, 2460001, "julian"),
        (0, 1700000000, None),
    ],
)
def test_units_of_time(low: float, high: float, unit: str | None) -> None:
    assert types.epoch_unit(Profile(integers=2, lowest=low, highest=high)) == unit


def test_no_unit_without_numbers() -> None:
    assert types.epoch_unit(Profile()) is None


def column(declared: str, **profile: Any) -> Column:
    return Column("c", declared, False, None, 0, profile=Profile(**profile))


@pytest.mark.parametrize(
    ("declared", "profile", "wanted", "conversion"),
    [
        ("DATETIME", {"texts": 3, "with_offset": 1}, "timestamptz", "naive_utc"),
        ("DATETIME", {"texts": 3, "with_offset": 3}, "timestamptz", None),
        ("DATETIME", {"texts": 3, "with_offset": 1}, "timestamp", None),
        ("DATETIME", {"texts": 1, "with_offset": 1}, "timestamp", "offset_utc"),
        ("DATETIME", {}, "timestamptz", None),
        ("DATETIME", {"texts": 1, "integers": 1}, "timestamptz", "naive_utc"),
        ("BIGINT", {"integers": 1}, "interval", "interval_us"),
        ("DATETIME", {"texts": 1, "timestamps": 1}, "interval", "interval_epoch"),
        ("TEXT", {"texts": 1}, "interval", None),
        ("CHAR(32)", {"texts": 2, "hex32": 1}, "uuid", "uuid_hex"),
    ],
)
def test_conversions(
    declared: str, profile: dict[str, int], wanted: str, conversion: str | None
) -> None:
    found = types.adapt(column(declared, **profile), types.postgres_type(wanted, ""))
    assert found.conversion == conversion and found.warning is None
    assert bool(conversion) == bool(found.reason)


def test_numbers_in_no_unit_are_told() -> None:
    found = types.adapt(
        column("INTEGER", integers=2, lowest=0, highest=5), types.postgres_type("timestamp", "")
    )
    assert found.conversion is None and "timestamp using epoch_s" in str(found.warning)


@pytest.mark.parametrize(
    ("declared", "text"),
    [("VARCHAR(5)", True), ("CLOB", True), ("CHARINT", False), ("BLOB", False), ("", False)],
)
def test_text_affinity(declared: str, text: bool) -> None:
    assert types.has_text_affinity(declared) is text
    found = types.adapt(column(declared), types.postgres_type("text", ""))
    assert found.kind == ("text" if text else "loose_text")


def test_every_conversion_is_described_and_leads_somewhere() -> None:
    leading = {name for names in types._CONVERSIONS_OF.values() for name in names}
    assert leading == set(types.CONVERSIONS)
