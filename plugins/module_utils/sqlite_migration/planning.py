# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the caller asks for to a plan: reads the source's schema, and the target's if asked.

`make_plan` is the only way to a plan; `make_room` says what must leave the target first.
Both change nothing: the statements are run by the load, inside its one transaction.
"""

from __future__ import annotations

from typing import Any, Protocol

from . import target as pg
from .errors import MigrationError
from .existing import build_existing_plan, pair_up, read_target
from .expressions import quote_identifier
from .plan import Chosen, Plan, PlannedTable, Statement, Wishes, build_plan, split_override
from .schema import (
    ANY_BLOB,
    NAIVE_TEXT,
    Column,
    Profile,
    Schema,
    Table,
    has_value,
    measure_tables,
    profile_columns,
    read_schema,
)
from .source import SourceDatabase
from .types import TargetType, is_blob, is_temporal, may_be_uuid, needs_profile, postgres_type

# Sequences that belong to a table's column go with it.
_OCCUPANTS = """
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                      WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE 'table' END,
       c.relname, owner.relname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_depend d
       ON c.relkind = 'S' AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND d.objid = c.oid AND d.deptype = 'a' AND d.refobjsubid > 0
LEFT JOIN pg_catalog.pg_class owner ON owner.oid = d.refobjid
WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND NOT c.relispartition
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend e
      WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND e.objid = c.oid AND e.deptype IN ('e', 'i'))
ORDER BY 1, 2
"""


class PlanRequest(Protocol):
    """The part of a load's request that decides about the plan."""

    schema: str
    include: list[str]
    exclude: list[str]
    check_mode: bool
    target_schema_mode: str
    type_overrides: dict[str, str]
    rename: dict[str, str]
    on_bad_value: str
    bad_value_columns: dict[str, str]
    replace: list[str]


def make_plan(source: SourceDatabase, request: PlanRequest, connection: Any = None) -> Plan:
    """Without a connection (check mode on a bare host) the target isn't looked at."""
    schema = read_schema(source, request.include, request.exclude)
    wishes = Wishes(
        request.type_overrides, request.rename, request.on_bad_value, request.bad_value_columns
    )
    if request.check_mode:
        measure_tables(source, schema)
    if request.target_schema_mode != "existing":
        return _made(source, request, schema, wishes, connection)
    if connection is None:
        return _unknown(schema, request)
    return _existing(source, request, schema, wishes, connection)


def _unknown(schema: Schema, request: PlanRequest) -> Plan:
    """Check mode before the target is there: what would be read, and nothing about its types."""
    if not request.check_mode:
        raise MigrationError(
            "With schema_mode existing the plan needs the target's tables, and the target can't "
            "be reached yet. Start it, let the application's own migrations make its tables, and "
            "run this again."
        )
    tables = [
        PlannedTable(t.name, t.rows, t.row_label, [], [c.name for c in t.primary_key], "",
                     next_id=t.sequence, bytes=t.bytes)
        for t in schema.tables
    ]  # fmt: skip
    text = (
        "with schema_mode existing the types are the target's, which can't be reached yet; so no "
        "value was checked"
    )
    return Plan(request.schema, tables, list(schema.left_out), [text], mode="existing")


def _made(
    source: SourceDatabase, request: PlanRequest, schema: Schema, wishes: Wishes, connection: Any
) -> Plan:
    chosen = Chosen(schema, wishes)
    kinds: dict[tuple[str, str], TargetType] = {}
    for (table, column), wanted in chosen.types.items():
        try:
            kinds[table, column] = postgres_type(split_override(wanted)[0], "")
            if connection is not None:
                _check_type(connection, kinds[table, column])
        except MigrationError as error:
            raise MigrationError(f"type_overrides, {table}.{column}: {error.message}") from None
    _profile(source, schema, kinds, request.check_mode)
    plan = build_plan(schema, request.schema, wishes)
    if connection is not None and request.replace:
        plan.room = make_room(connection, request)
    _check_precision(source, schema, plan)
    return plan


def _existing(
    source: SourceDatabase, request: PlanRequest, schema: Schema, wishes: Wishes, connection: Any
) -> Plan:
    if request.on_bad_value == "text":
        raise MigrationError(
            "on_bad_value text can't change the columns of an existing schema. Set it to fail, "
            "null or quarantine; bad_value_columns may say text for columns that are texts."
        )
    chosen = Chosen(schema, wishes)
    place = f"The schema {request.schema} of the target"
    pairs = pair_up(schema, read_target(connection, request.schema), chosen, place)
    kinds = {
        (pair.source.name, column.name): target.type
        for pair in pairs
        for column, target in pair.columns
    }
    _profile(source, schema, kinds, request.check_mode)
    plan = build_existing_plan(
        source, connection, schema, pairs, chosen, request.schema, request.replace
    )
    _check_precision(source, schema, plan)
    return plan


def _check_type(connection: Any, target: TargetType) -> None:
    """Asks the server whether it knows the type, and takes its modifier."""
    import psycopg2

    pg.execute(connection, "SAVEPOINT type_check")
    try:
        pg.execute(connection, f"SELECT NULL::{target.sql}")
    except psycopg2.Error as error:
        pg.execute(connection, "ROLLBACK TO SAVEPOINT type_check")
        raise MigrationError(
            f"PostgreSQL has no such type: {error.diag.message_primary}. A type that isn't "
            "PostgreSQL's own needs its schema before the name, such as public.citext."
        ) from None
    pg.execute(connection, "RELEASE SAVEPOINT type_check")


def _profile(
    source: SourceDatabase,
    schema: Schema,
    given: dict[tuple[str, str], TargetType],
    everything: bool,
) -> None:
    """Looks at the values of those columns whose type or conversion depends on them.

    One text without an offset settles what a column of times is, and one blob what a BLOB
    column is; only columns without one are read to the end.
    """
    for table in schema.tables:
        names = []
        closely = set()
        for column in table.columns:
            target = given.get((table.name, column.name))
            decides = needs_profile(column) if target is None else target.kind in _PROFILED_KINDS
            if not everything and _settled(source, table, column, target):
                continue
            if decides or everything:
                names.append(column.name)
            if target is not None and decides or is_temporal(column) or may_be_uuid(column):
                closely.add(column.name)
        profile_columns(source, table, names, closely)


_PROFILED_KINDS = ("timestamp", "timestamptz", "date", "interval", "uuid")


def _settled(
    source: SourceDatabase, table: Table, column: Column, target: TargetType | None
) -> bool:
    temporal = is_temporal(column) if target is None else target.kind.startswith("timestamp")
    if temporal and has_value(source, table, column.name, NAIVE_TEXT):
        column.profile = Profile(texts=1, partial=True)
        return True
    if target is None and is_blob(column) and has_value(source, table, column.name, ANY_BLOB):
        column.profile = Profile(blobs=1, partial=True)
        return True
    return False


def _check_precision(source: SourceDatabase, schema: Schema, plan: Plan) -> None:
    """PostgreSQL rounds to a type's fractional digits without a word.

    The encoders see timestamp(0), and list the rows; here are the domains, whose name says less.
    """
    by_name = {table.name: table for table in schema.tables}
    found = []
    for table in plan.tables:
        for column in table.columns:
            kind, digits = column.target.kind, column.target.precision
            if digits is None or digits >= 6 or kind in ("numeric", "other") or column.generated:
                continue
            if f"({digits})" in column.target.sql:
                continue
            fraction = "[0-9]" * digits
            condition = (
                f"(typeof({{q}}) = 'text' AND {{q}} GLOB '*.{fraction}*[1-9]*') "
                "OR typeof({q}) = 'real'"
            )
            if column.target.conversion in ("epoch_ms", "epoch_us", "interval_us"):
                unit = 1000 if column.target.conversion == "epoch_ms" else 10**6
                condition += f" OR (typeof({{q}}) = 'integer' AND {{q}} % {unit} <> 0)"
            if has_value(source, by_name[table.name], column.name, condition):
                found.append(f"{table.name}.{column.name} ({column.target.sql})")
    if found:
        raise MigrationError(
            "PostgreSQL would round times in these columns, whose types keep fewer digits than "
            f"the values have: {', '.join(found)}. Make the type one without a number, such as "
            "timestamptz. Nothing was migrated."
        )


def make_room(connection: Any, request: PlanRequest) -> list[Statement]:
    """What is in the way in the target, or a MigrationError that names it; see `replace`.

    The statements are run before anything is made. Mode existing gives none: there the plan's
    `before` statements empty the tables.
    """
    if request.target_schema_mode == "existing":
        return []
    objects = pg.fetch(connection, _OCCUPANTS, (request.schema,))
    everything = request.replace == ["*"]
    kept = [
        (kind, name)
        for kind, name, owner in objects
        if not everything and name not in request.replace and owner not in request.replace
    ]
    if kept:
        shown = ", ".join(f"{kind} {name}" for kind, name in kept[:20])
        more = f" and {len(kept) - 20} more" if kept[20:] else ""
        raise MigrationError(
            f"The schema {request.schema} of the target isn't empty and has no record of a "
            f"migration: {shown}{more}. Nothing was changed. Set replace to the names of what may "
            "be dropped, or set schema or login_db to an empty one.",
            existing=[f"{kind} {name}" for kind, name in kept],
        )
    statements = []
    for kind in ("view", "materialized view", "foreign table", "table", "sequence"):
        names = [
            f"{quote_identifier(request.schema)}.{quote_identifier(name)}"
            for found, name, owner in objects
            if found == kind and owner is None
        ]
        if names:
            statements.append(
                Statement(
                    f"drop {kind}", ", ".join(names), f"DROP {kind.upper()} {', '.join(names)}"
                )
            )
    return statements
