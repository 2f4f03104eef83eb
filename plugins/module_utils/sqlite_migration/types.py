# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which PostgreSQL type a SQLite column gets, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from .errors import MigrationError
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

# PostgreSQL's own names, of which `kind` has one encoder each; any other type is `other`.
_POSTGRES_KINDS = {
    "BIGINT": "bigint",
    "INT8": "bigint",
    "INTEGER": "int4",
    "INT": "int4",
    "INT4": "int4",
    "SMALLINT": "int2",
    "INT2": "int2",
    "BOOLEAN": "boolean",
    "BOOL": "boolean",
    "DOUBLE PRECISION": "double",
    "FLOAT8": "double",
    "FLOAT": "double",
    "REAL": "float4",
    "FLOAT4": "float4",
    "TEXT": "text",
    "VARCHAR": "text",
    "CHARACTER VARYING": "text",
    "CHAR": "bpchar",
    "CHARACTER": "bpchar",
    "BPCHAR": "bpchar",
    "BYTEA": "bytea",
    "JSON": "json",
    "JSONB": "jsonb",
    "DATE": "date",
    "TIME": "time",
    "TIME WITHOUT TIME ZONE": "time",
    "TIMETZ": "timetz",
    "TIME WITH TIME ZONE": "timetz",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITHOUT TIME ZONE": "timestamp",
    "TIMESTAMPTZ": "timestamptz",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "INTERVAL": "interval",
    "UUID": "uuid",
    "NUMERIC": "numeric",
    "DECIMAL": "numeric",
}
# Names that PostgreSQL writes in lower case without a schema; what a type name may look like.
_TYPE_NAME = re.compile(
    r"""
    (?: (?: [a-z_][a-z0-9_$]* | "(?:[^"\x00]|"")+" ) \. )?
    (?: [a-z_][a-z0-9_$]* (?: [ ](?:precision|varying) )? | "(?:[^"\x00]|"")+" )
    (?: [ ]?\( [ ]?[0-9]+[ ]? (?: ,[ ]?-?[0-9]+[ ]? )? \) )?
    (?: [ ](?:with|without)[ ]time[ ]zone )?
    (?: \[\] )*
    """,
    re.VERBOSE | re.IGNORECASE,
).fullmatch

CONVERSIONS = {
    "epoch_s": "seconds since 1970-01-01 in UTC",
    "epoch_ms": "milliseconds since 1970-01-01 in UTC",
    "epoch_us": "microseconds since 1970-01-01 in UTC",
    "julian": "Julian day numbers",
    "naive_utc": "texts without a time zone offset, taken as UTC",
    "offset_utc": "texts with a time zone offset, turned to UTC",
    "interval_us": "integers of microseconds, as Django's DurationField has them",
    "interval_epoch": "timestamps counted from 1970-01-01, as SQLAlchemy's Interval has them",
    "uuid_hex": "UUIDs as 32 hexadecimal digits, as Django and SQLAlchemy have them",
    "date_part": "timestamps whose time is 00:00:00",
    "words": "words such as 't', 'false', 'yes' or 'off', or 0 and 1",
}
_CONVERSIONS_OF = {
    "timestamp": ("epoch_s", "epoch_ms", "epoch_us", "julian", "offset_utc"),
    "timestamptz": ("epoch_s", "epoch_ms", "epoch_us", "julian", "naive_utc"),
    "date": ("epoch_s", "epoch_ms", "epoch_us", "julian", "date_part"),
    "interval": ("interval_us", "interval_epoch"),
    "uuid": ("uuid_hex",),
    "boolean": ("words",),
}
# 1990 to 2100, the years in which a number is believed to be a point in time.
_EPOCH_SECONDS = (631152000, 4102444800)
_JULIAN_DAYS = (2447892.5, 2488069.5)

INTEGER_KINDS = ("bigint", "int4", "int2")

_VARCHAR_LIMIT = 10485760
_NUMERIC_LIMIT = 1000


@dataclass(frozen=True)
class TargetType:
    """A PostgreSQL type: `kind` selects the encoder, `sql` stands in the CREATE TABLE.

    `conversion` names how a value changes its form on the way; see CONVERSIONS.
    """

    kind: str
    sql: str
    reason: str
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    warning: str | None = None
    conversion: str | None = None


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


def is_temporal(column: Column) -> bool:
    name = parse_declared(column.declared)[0]
    return name in _TIMESTAMPS | _ZONED | _TIMES or name == "DATE"


def is_blob(column: Column) -> bool:
    return parse_declared(column.declared)[0] in _BLOBS


def may_be_uuid(column: Column) -> bool:
    return column.declared.upper().replace(" ", "") in ("CHAR(32)", "UUID", "GUID")


def has_text_affinity(declared: str) -> bool:
    """SQLite's rule: such a column turns every number into text when it is stored."""
    name = declared.upper()
    return "INT" not in name and any(word in name for word in ("CHAR", "CLOB", "TEXT"))


def epoch_unit(profile: Profile) -> str | None:
    """The conversion that puts all of a column's numbers into the years 1990 to 2100."""
    low, high = profile.lowest, profile.highest
    if low is None or high is None:
        return None
    for unit, factor in (("epoch_s", 1), ("epoch_ms", 10**3), ("epoch_us", 10**6)):
        if _EPOCH_SECONDS[0] * factor <= low and high <= _EPOCH_SECONDS[1] * factor:
            return unit
    return "julian" if _JULIAN_DAYS[0] <= low and high <= _JULIAN_DAYS[1] else None


def postgres_type(sql: str, reason: str) -> TargetType:
    """A type by its name in PostgreSQL."""
    words = " ".join(sql.split())
    if not _TYPE_NAME(words):
        raise MigrationError(
            f"{sql!r} isn't written like a PostgreSQL type. Set it as in CREATE TABLE, such as "
            'timestamptz, varchar(80), numeric(12,2), public.citext or "Odd Type".'
        )
    name, first, second = parse_declared(words)
    kind = "other" if words.endswith("]") else _POSTGRES_KINDS.get(name, "other")
    if kind == "bpchar":
        return TargetType(kind, words, reason, length=1 if first is None else first)
    if kind == "text":
        return TargetType(kind, words, reason, length=first)
    if kind == "numeric":
        scale = None if first is None else second or 0
        return TargetType(kind, words, reason, precision=first, scale=scale)
    if name == "FLOAT" and first is not None and first <= 24:
        kind = "float4"
    if kind in ("time", "timetz", "timestamp", "timestamptz", "interval"):
        return TargetType(kind, words, reason, precision=first)
    return TargetType(kind, words, reason)


def catalog_type(name: str, modifier: int, sql: str, reason: str) -> TargetType:
    """A type as pg_attribute has it: the base type's name, its modifier, and the whole name."""
    kind = _POSTGRES_KINDS.get(name.upper(), "other")
    if kind == "bpchar" and name != "bpchar":
        kind = "other"
    if modifier < 0:
        return TargetType(kind, sql, reason)
    if kind in ("text", "bpchar"):
        return TargetType(kind, sql, reason, length=modifier - 4)
    if kind == "numeric":
        scale = ((modifier - 4) & 0x7FF ^ 0x400) - 0x400
        return TargetType(kind, sql, reason, precision=(modifier - 4) >> 16 & 0xFFFF, scale=scale)
    if kind == "interval":
        digits = modifier & 0xFFFF
        return TargetType(kind, sql, reason, precision=None if digits == 0xFFFF else digits)
    if kind in ("time", "timetz", "timestamp", "timestamptz"):
        return TargetType(kind, sql, reason, precision=modifier)
    return TargetType(kind, sql, reason)


def adapt(column: Column, target: TargetType, conversion: str | None = None) -> TargetType:
    """The conversion that a column's values need for a type that was given, not chosen."""
    if conversion is not None:
        allowed = _CONVERSIONS_OF.get(target.kind, ())
        if conversion not in allowed:
            raise MigrationError(
                f"{conversion} doesn't lead to {target.sql}. "
                + (f"Use one of {', '.join(allowed)}." if allowed else "Leave it out.")
            )
        return _converted(target, conversion)
    if target.kind == "text":
        if has_text_affinity(column.declared):
            return target
        return replace(target, kind="loose_text")
    profile = column.profile or Profile()
    if target.kind in ("timestamp", "timestamptz", "date"):
        return _temporal_conversion(target, profile)
    if target.kind == "interval":
        if profile.integers:
            return _converted(target, "interval_us")
        return _converted(target, "interval_epoch") if profile.timestamps else target
    if target.kind == "uuid" and profile.hex32:
        return _converted(target, "uuid_hex")
    return target


def _converted(target: TargetType, conversion: str) -> TargetType:
    return replace(
        target, conversion=conversion, reason=f"{target.reason}; {CONVERSIONS[conversion]}"
    )


def _temporal_conversion(target: TargetType, profile: Profile) -> TargetType:
    if (profile.integers or profile.reals) and not profile.texts:
        unit = epoch_unit(profile)
        if unit is not None:
            return _converted(target, unit)
        return replace(
            target,
            warning="its numbers are in no one unit of time between 1990 and 2100, so none of "
            "them is converted; name the unit with type_overrides, such as "
            f"'{target.sql} using epoch_s'",
        )
    if target.kind == "timestamptz" and profile.texts > profile.with_offset:
        return _converted(target, "naive_utc")
    if target.kind == "timestamp" and profile.texts and profile.with_offset == profile.texts:
        return _converted(target, "offset_utc")
    if target.kind == "date" and profile.timestamps:
        return _converted(target, "date_part")
    return target


def choose_type(column: Column, keyed: bool, holds_json: bool = False) -> TargetType:
    """`keyed`: the column is in an index or key, which PostgreSQL's json can't be.

    `holds_json`: a CHECK says that all of its texts are JSON.
    """
    name, first, second = parse_declared(column.declared)
    why = f"declared {column.declared}"
    if holds_json and name in _TEXTS and not keyed:
        return TargetType("json", "json", why + " with CHECK (json_valid()); the exact text")
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
            return TargetType(
                "jsonb",
                "jsonb",
                why + "; jsonb because it is in an index or key",
                warning="jsonb keeps the values, but not spaces, the order of keys or repeated "
                "keys; type_overrides may make it text",
            )
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


def _unit(profile: Profile) -> str:
    unit = epoch_unit(profile)
    return f" ({CONVERSIONS[unit]}, 1990 to 2100)" if unit else ""


def _temporal(name: str, why: str, profile: Profile) -> TargetType:
    if profile.integers and not (profile.texts or profile.reals or profile.blobs):
        return TargetType(
            "bigint",
            "bigint",
            f"{why}, but every value is an integer{_unit(profile)}; kept as it is",
            warning=f"{why}, but holds only integers{_unit(profile)}: it becomes bigint, not a "
            "time, unless type_overrides makes it timestamptz",
        )
    if profile.reals and not (profile.texts or profile.blobs):
        return TargetType(
            "double",
            "double precision",
            f"{why}, but every value is a number{_unit(profile)}; kept as it is",
            warning=f"{why}, but holds only numbers{_unit(profile)}: it becomes double "
            "precision, not a time, unless type_overrides makes it timestamptz",
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
