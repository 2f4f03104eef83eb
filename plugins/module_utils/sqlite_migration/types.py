# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which PostgreSQL type a SQLite column gets, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .schema import Column, Profile

_DECLARED = re.compile(r"^\s*([^()]*?)\s*(?:\(\s*([+-]?\d+)\s*(?:,\s*([+-]?\d+)\s*)?\)\s*(.*))?$")

_INTEGERS = {
    "INTEGER",
    "INT",
    "BIGINT",
    "SMALLINT",
    "TINYINT",
    "MEDIUMINT",
    "INT2",
    "INT4",
    "INT8",
    "UNSIGNED BIG INT",
    "INTEGER UNSIGNED",
    "BIGINT UNSIGNED",
    "SMALLINT UNSIGNED",
    "INT UNSIGNED",
    "BIG INTEGER",
    "BIGINTEGER",
    "SERIAL",
    "BIGSERIAL",
}
_VARCHARS = {
    "VARCHAR",
    "CHARACTER VARYING",
    "VARYING CHARACTER",
    "NVARCHAR",
    "VARCHAR2",
    "CHAR",
    "CHARACTER",
    "NCHAR",
    "NATIVE CHARACTER",
}
_TEXTS = {"TEXT", "CLOB", "STRING", "TINYTEXT", "MEDIUMTEXT", "LONGTEXT", "NTEXT", "CITEXT"}
_FLOATS = {"REAL", "FLOAT", "DOUBLE", "DOUBLE PRECISION", "FLOAT4", "FLOAT8"}
_NUMERICS = {"NUMERIC", "DECIMAL", "DEC", "NUMBER"}
_BOOLEANS = {"BOOLEAN", "BOOL"}
_TIMESTAMPS = {"DATETIME", "TIMESTAMP", "TIMESTAMP WITHOUT TIME ZONE"}
_ZONED = {"TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"}
_TIMES = {"TIME", "TIME WITHOUT TIME ZONE"}
_BLOBS = {"BLOB", "BYTEA", "BINARY", "VARBINARY", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB"}
_UUIDS = {"UUID", "GUID"}

_VARCHAR_LIMIT = 10485760
_NUMERIC_LIMIT = 1000


@dataclass(frozen=True)
class TargetType:
    """A PostgreSQL type: `kind` selects the encoder, `sql` stands in the CREATE TABLE."""

    kind: str
    sql: str
    reason: str
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    warning: str | None = None


def parse_declared(declared: str) -> tuple[str, int | None, int | None]:
    """Upper-cased type name and its one or two numbers."""
    match = _DECLARED.match(declared)
    if not match:
        return " ".join(declared.upper().split()), None, None
    name, first, second, rest = match.groups()
    words = " ".join(f"{name} {rest or ''}".upper().split())
    return words, int(first) if first else None, int(second) if second else None


def _declares_enough(name: str) -> bool:
    return name in (
        _INTEGERS | _VARCHARS | _TEXTS | _FLOATS | _NUMERICS | _BOOLEANS | _UUIDS
    ) or name in ("JSON", "JSONB")


def needs_profile(column: Column) -> bool:
    """Whether the stored values have a say, because the declared type says too little."""
    return not _declares_enough(parse_declared(column.declared)[0])


def choose_type(column: Column, keyed: bool) -> TargetType:
    """`keyed`: the column is in an index or key, which PostgreSQL's json can't be."""
    name, first, second = parse_declared(column.declared)
    why = f"declared {column.declared}"
    if name in _INTEGERS:
        return TargetType("bigint", "bigint", why + "; SQLite's integers have 64 bits")
    if name in _BOOLEANS:
        return TargetType("boolean", "boolean", why)
    if name in _VARCHARS:
        if first is not None and 0 < first <= _VARCHAR_LIMIT:
            return TargetType("text", f"varchar({first})", why, length=first)
        return TargetType("text", "text", why + ", without a usable length")
    if name in _TEXTS:
        return TargetType("text", "text", why)
    if name in _FLOATS:
        return TargetType("double", "double precision", why + "; SQLite's reals have 64 bits")
    if name in _NUMERICS:
        scale = second or 0
        if first is not None and 0 < first <= _NUMERIC_LIMIT and 0 <= scale <= first:
            return TargetType(
                "numeric", f"numeric({first},{scale})", why, precision=first, scale=scale
            )
        return TargetType("numeric", "numeric", why)
    if name in ("JSON", "JSONB"):
        if keyed:
            return TargetType("jsonb", "jsonb", why + "; jsonb because it is in an index or key")
        return TargetType("json", "json", why + "; json keeps the exact text")
    if name in _UUIDS:
        return TargetType("text", "varchar(36)", why + "; kept as the text it is", length=36)
    profile = column.profile or Profile()
    if name in _TIMESTAMPS | _ZONED | _TIMES | {"DATE"}:
        return _temporal(name, why, profile)
    if name in _BLOBS and (profile.blobs or not profile.texts):
        return TargetType("bytea", "bytea", why)
    label = f"{why}, which is no known type" if name and name not in _BLOBS else why
    return _by_values(profile, label if name else "no declared type")


def _temporal(name: str, why: str, profile: Profile) -> TargetType:
    if profile.integers and not (profile.texts or profile.reals or profile.blobs):
        return TargetType(
            "bigint",
            "bigint",
            why + ", but every value is an integer (epoch); kept as it is",
            warning=f"{why}, but holds only integers: it becomes bigint, not a time",
        )
    if profile.reals and not (profile.texts or profile.blobs):
        return TargetType(
            "double",
            "double precision",
            why + ", but every value is a number (epoch or Julian day); kept as it is",
            warning=f"{why}, but holds only numbers: it becomes double precision, not a time",
        )
    if name == "DATE":
        return TargetType("date", "date", why)
    if name in _TIMES:
        return TargetType("time", "time", why)
    if name in _ZONED:
        return TargetType("timestamptz", "timestamptz", why)
    if profile.texts and profile.with_offset == profile.texts:
        return TargetType(
            "timestamptz", "timestamptz", why + ", and every value has a time zone offset"
        )
    return TargetType("timestamp", "timestamp", why)


def _by_values(profile: Profile, why: str) -> TargetType:
    numbers = profile.integers + profile.reals
    if profile.blobs:
        return TargetType("bytea", "bytea", why + "; holds blobs")
    if profile.texts and numbers:
        return TargetType(
            "loose_text",
            "text",
            why + "; holds texts and numbers",
            warning=f"{why}: {numbers} numbers among texts become text",
        )
    if profile.texts:
        return TargetType("text", "text", why + "; holds only text")
    if profile.reals:
        return TargetType("double", "double precision", why + "; holds only numbers")
    if profile.integers:
        return TargetType("bigint", "bigint", why + "; holds only integers")
    return TargetType("text", "text", why + "; holds nothing")
