# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loading into tables that the application's own migrations made in the target.

The target's types, defaults and constraints stand. Its foreign keys, and the keys and indexes of
large tables, are dropped and made again inside the load's transaction, with the same names and
definitions; its triggers are off meanwhile. So the tables' order doesn't matter, cycles are no
obstacle, and every key is checked over all rows at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from . import target as pg
from .errors import MigrationError
from .expressions import quote_identifier, quote_literal
from .plan import (
    Chosen,
    Plan,
    PlannedColumn,
    PlannedTable,
    Statement,
    rowid_column,
    split_override,
)
from .schema import Column, LeftOut, Schema, Table
from .source import SourceDatabase, quote_sqlite
from .types import INTEGER_KINDS, TargetType, adapt, catalog_type, has_text_affinity

# Below this an index costs nothing worth the time of making it again.
_LARGE = 20_000
# For tables that a session of the application holds; without it the load would wait for ever.
_LOCK_WAIT = "60s"
_NAME_BYTES = 63
_SHOWN = 20

_TABLES = """
SELECT c.oid, c.relname, c.relkind = 'p' OR c.relispartition,
       pg_catalog.pg_has_role(c.relowner, 'USAGE'), pg_catalog.pg_get_userbyid(c.relowner)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind IN ('r', 'p')
ORDER BY 2
"""
_COLUMNS = """
SELECT a.attrelid, a.attname, a.attnotnull, a.attidentity, a.attgenerated,
       pg_catalog.pg_get_expr(d.adbin, d.adrelid),
       a.atttypid, a.atttypmod, pg_catalog.format_type(a.atttypid, a.atttypmod)
FROM pg_catalog.pg_attribute a
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""
_TYPES = """
SELECT t.oid, t.typname, t.typtype, t.typbasetype, t.typtypmod, t.typnotnull, n.nspname,
       EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.contypid = t.oid AND c.contype = 'c')
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid = ANY (%s)
"""
# By ownership (serial, identity) or by a default that asks it.
_SEQUENCES = """
SELECT d.refobjid, a.attname, s.oid, n.nspname, s.relname, q.seqmax, q.seqincrement > 0, d.deptype
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.deptype IN ('a', 'i') AND d.refobjid = ANY (%(tables)s)
UNION
SELECT x.adrelid, a.attname, s.oid, n.nspname, s.relname, q.seqmax, q.seqincrement > 0, 'n'
FROM pg_catalog.pg_attrdef x
JOIN pg_catalog.pg_depend d
     ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = x.oid
    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
JOIN pg_catalog.pg_attribute a ON a.attrelid = x.adrelid AND a.attnum = x.adnum
WHERE x.adrelid = ANY (%(tables)s)
ORDER BY 1, 2, 8
"""
_FOREIGN_KEYS = """
SELECT c.conname, c.conrelid, c.confrelid, n.nspname, r.relname,
       pg_catalog.pg_get_constraintdef(c.oid),
       pg_catalog.obj_description(c.oid, 'pg_constraint'),
       pg_catalog.pg_has_role(r.relowner, 'USAGE'), pg_catalog.pg_get_userbyid(r.relowner)
FROM pg_catalog.pg_constraint c
JOIN pg_catalog.pg_class r ON r.oid = c.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
WHERE c.contype = 'f' AND c.conparentid = 0
  AND (c.conrelid = ANY (%(tables)s) OR c.confrelid = ANY (%(tables)s))
ORDER BY n.nspname, r.relname, c.conname
"""
# Without those that something else needs, or that CREATE INDEX alone couldn't make again.
_INDEXES = """
SELECT i.indrelid, x.relname, i.indisprimary, con.conname, con.condeferrable,
       CASE WHEN con.oid IS NULL THEN pg_catalog.pg_get_indexdef(i.indexrelid)
            ELSE pg_catalog.pg_get_constraintdef(con.oid) END,
       pg_catalog.obj_description(COALESCE(con.oid, i.indexrelid),
           CASE WHEN con.oid IS NULL THEN 'pg_class' ELSE 'pg_constraint' END)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
LEFT JOIN pg_catalog.pg_constraint con
       ON con.conindid = i.indexrelid AND con.contype IN ('p', 'u', 'x')
WHERE i.indrelid = ANY (%(tables)s)
  AND i.indisvalid AND NOT i.indisreplident AND NOT i.indisclustered
  AND x.relkind = 'i' AND NOT x.relispartition AND x.reltablespace = 0
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      WHERE d.refclassid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
        AND d.refobjid = con.oid AND d.deptype = 'n'
        AND d.classid <> 'pg_catalog.pg_constraint'::pg_catalog.regclass)
  AND (con.oid IS NULL OR pg_catalog.obj_description(i.indexrelid, 'pg_class') IS NULL)
ORDER BY i.indrelid, NOT i.indisprimary, con.oid IS NULL, x.relname
"""
_TRIGGERS = """
SELECT t.tgrelid, t.tgname, t.tgenabled
FROM pg_catalog.pg_trigger t
WHERE t.tgrelid = ANY (%s) AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgparentid = 0
ORDER BY t.tgrelid, t.tgname
"""
_ENABLE = {"O": "ENABLE TRIGGER", "A": "ENABLE ALWAYS TRIGGER", "R": "ENABLE REPLICA TRIGGER"}


@dataclass
class TargetColumn:
    """One column as the target's catalog has it."""

    name: str
    not_null: bool
    identity: str
    generated: bool
    default: str | None
    type: TargetType

    @property
    def fills_itself(self) -> bool:
        return bool(not self.not_null or self.identity or self.generated or self.default)


@dataclass
class TargetTable:
    oid: int
    name: str
    partitioned: bool
    owned: bool
    owner: str
    columns: list[TargetColumn] = field(default_factory=list)


@dataclass
class Pair:
    """A table of the source and its counterpart in the target, with their columns."""

    source: Table
    target: TargetTable
    columns: list[tuple[Column, TargetColumn]]


def _base_type(
    connection: Any, known: dict[int, tuple[Any, ...]], oid: int, modifier: int
) -> tuple[str, int, bool]:
    """Name and modifier of the built-in type under a domain; no name for any other type.

    A domain with a CHECK counts as another type, as only the server can judge its values.
    """
    not_null = False
    judged = False
    while True:
        if oid not in known:
            known.update({row[0]: row for row in pg.fetch(connection, _TYPES, ([oid],))})
        _oid, name, kind, base, own_modifier, strict, schema, checked = known[oid]
        not_null = not_null or strict
        judged = judged or checked
        if kind != "d":
            own = schema == "pg_catalog" and not judged
            return (name if own else "", modifier, not_null)
        oid, modifier = base, own_modifier


def read_target(connection: Any, schema: str) -> list[TargetTable]:
    tables = [TargetTable(*row) for row in pg.fetch(connection, _TABLES, (schema,))]
    by_oid = {table.oid: table for table in tables}
    known: dict[int, tuple[Any, ...]] = {}
    for oid, name, strict, identity, generated, default, type_oid, modifier, sql in pg.fetch(
        connection, _COLUMNS, (list(by_oid),)
    ):
        base, base_modifier, domain_strict = _base_type(connection, known, type_oid, modifier)
        by_oid[oid].columns.append(
            TargetColumn(
                name,
                strict or domain_strict,
                identity or "",
                bool(generated),
                default,
                catalog_type(base, base_modifier, sql, "the target's column"),
            )
        )
    return tables


def _find(wanted: str, names: list[str]) -> str | None:
    """SQLite ignores the case of names, and PostgreSQL cuts them at 63 bytes."""
    cut = wanted.encode()[:_NAME_BYTES].decode(errors="ignore")
    for candidate in (wanted, cut):
        if candidate in names:
            return candidate
    alike = [name for name in names if name.lower() == cut.lower()]
    return alike[0] if len(alike) == 1 else None


def pair_up(schema: Schema, tables: list[TargetTable], chosen: Chosen, place: str) -> list[Pair]:
    """Every table and column of the source with the target's, or all that are missing at once."""
    by_name = {table.name: table for table in tables}
    problems: list[str] = []
    pairs = []
    used: dict[str, str] = {}
    for table in schema.tables:
        wanted = chosen.table_names.get(table.name, table.name)
        found = _find(wanted, list(by_name))
        if found is None:
            problems.append(f"table {wanted} is missing")
            continue
        if found in used:
            problems.append(f"{used[found]} and {table.name} both lead to table {found}")
            continue
        used[found] = table.name
        pairs.append(_pair_columns(table, by_name[found], chosen, schema.left_out, problems))
    if problems:
        shown = "; ".join(problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if problems[_SHOWN:] else ""
        raise MigrationError(
            f"{place} doesn't fit the source: {shown}{more}. Run the application's migrations "
            "there first, up to the version that SQLite has; leave a table out with exclude, or "
            "name it with rename. Nothing was changed.",
            missing=problems,
        )
    return pairs


def _pair_columns(
    table: Table,
    target: TargetTable,
    chosen: Chosen,
    left: list[LeftOut],
    problems: list[str],
) -> Pair:
    by_name = {column.name: column for column in target.columns}
    columns = []
    used = set()
    for column in table.columns:
        wanted = chosen.column_names.get((table.name, column.name), column.name)
        found = _find(wanted, list(by_name))
        if found is not None and found not in used:
            used.add(found)
            columns.append((column, by_name[found]))
        elif column.generated:
            left.append(
                LeftOut(
                    "generated column",
                    f"{table.name}.{column.name}",
                    "the target's table has no such column",
                )
            )
        else:
            problems.append(f"column {wanted} of {target.name} is missing")
    for name, extra in by_name.items():
        if name not in used and not extra.fills_itself:
            problems.append(
                f"column {name} of {target.name} is NOT NULL without a default, and the source "
                "doesn't have it"
            )
    return Pair(table, target, columns)


def _versions(source: SourceDatabase, connection: Any, pair: Pair) -> tuple[set[str], set[str]]:
    names = ["version_num"] if pair.source.name.lower() == "alembic_version" else ["app", "name"]
    here = ", ".join(quote_sqlite(name) for name in names)
    there = ", ".join(quote_identifier(name) for name in names)
    full = pg.one(connection, "SELECT %s::pg_catalog.oid::pg_catalog.regclass", (pair.target.oid,))
    return (
        {".".join(map(str, row)) for row in source.query(
            f"SELECT {here} FROM {quote_sqlite(pair.source.name)}")},
        {".".join(map(str, row)) for row in pg.fetch(connection, f"SELECT {there} FROM {full}")},
    )  # fmt: skip


def compare_versions(source: SourceDatabase, connection: Any, pair: Pair) -> None:
    """The rows that say which migrations made the schema describe each side's own schema."""
    here, there = _versions(source, connection, pair)
    if here == there:
        return
    parts = []
    for side, only in (("SQLite", here - there), ("PostgreSQL", there - here)):
        if only:
            shown = ", ".join(sorted(only)[:5]) + (", ..." if len(only) > 5 else "")
            parts.append(f"only {side} has {shown}")
    raise MigrationError(
        f"{pair.source.name} differs: {'; '.join(parts)}. Both sides must be at the same "
        "migration: bring the older one up to date with the application's own command, or leave "
        f"the table out with exclude: {pair.source.name} if the schemas are known to agree.",
        only_in_source=sorted(here - there),
        only_in_target=sorted(there - here),
    )


def settle_versions(
    source: SourceDatabase, connection: Any, pairs: list[Pair], left: list[LeftOut]
) -> list[Pair]:
    kept = []
    for pair in pairs:
        if pair.source.name.lower() in ("alembic_version", "django_migrations"):
            compare_versions(source, connection, pair)
            left.append(
                LeftOut(
                    "table",
                    pair.source.name,
                    "it describes the target's own schema, and is the same on both sides",
                )
            )
        else:
            kept.append(pair)
    return kept


def _check_owner(pairs: list[Pair], foreign: list[tuple[Any, ...]], place: str) -> None:
    strange = {f"{p.target.name} ({p.target.owner})" for p in pairs if not p.target.owned}
    strange |= {f"{row[4]} ({row[8]})" for row in foreign if not row[7]}
    if strange:
        raise MigrationError(
            f"The role doesn't own these tables of {place}: {', '.join(sorted(strange))}. Their "
            "keys and triggers can't be set aside for the load. Connect as the owner, with "
            "login_user."
        )


def _check_empty(
    connection: Any, pairs: list[Pair], schema: str, replaced: list[str], place: str
) -> set[str]:
    """Names of the tables to be emptied."""
    everything = replaced == ["*"]
    full = []
    emptied = set()
    for pair in pairs:
        name = pair.target.name
        where = f"{quote_identifier(schema)}.{quote_identifier(name)}"
        if not pg.one(connection, f"SELECT EXISTS (SELECT FROM {where})"):
            continue
        if everything or name in replaced or pair.source.name in replaced:
            emptied.add(name)
        else:
            full.append(name)
    if full:
        raise MigrationError(
            f"These tables of {place} aren't empty: {', '.join(full)}. Their rows would mix with "
            "the source's. Set replace to the names of those whose rows may be deleted (with "
            "Django these are django_content_type and auth_permission, which its migrate fills). "
            "Nothing was changed.",
            existing=full,
        )
    return emptied


def build_existing_plan(
    source: SourceDatabase,
    connection: Any,
    schema: Schema,
    pairs: list[Pair],
    chosen: Chosen,
    target_schema: str,
    replaced: list[str],
) -> Plan:
    """The pairs' columns have their profile already, where a conversion depends on it."""
    place = f"schema {target_schema}"
    left = list(schema.left_out)
    warnings: list[str] = []
    pairs = settle_versions(source, connection, pairs, left)
    if not pairs:
        raise MigrationError(
            f"No table is left to migrate into {place}. Check include and exclude."
        )
    oids = [pair.target.oid for pair in pairs]
    foreign = pg.fetch(connection, _FOREIGN_KEYS, {"tables": oids})
    _check_owner(pairs, foreign, place)
    emptied = _check_empty(connection, pairs, target_schema, replaced, place)
    tables = [_plan_pair(pair, chosen, warnings) for pair in pairs]
    by_oid = {pair.target.oid: table for pair, table in zip(pairs, tables)}
    where = {
        oid: f"{quote_identifier(target_schema)}.{quote_identifier(table.target_name)}"
        for oid, table in by_oid.items()
    }
    # All foreign keys go before the first key that they need.
    first = tables[0].before
    first.append(Statement("setting", "lock_timeout", f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'"))
    for row in foreign:
        _set_aside_foreign_key(row, by_oid, first)
    for oid, name, state in pg.fetch(connection, _TRIGGERS, (oids,)):
        _set_aside_trigger(by_oid[oid], where[oid], name, state, warnings)
    for oid, table in by_oid.items():
        if table.target_name in emptied:
            table.before.append(Statement("rows", table.target_name, f"TRUNCATE {where[oid]}"))
            table.notes.append("the rows that the target has are deleted, as replace says")
    partitioned = {pair.target.oid for pair in pairs if pair.target.partitioned}
    for row in pg.fetch(connection, _INDEXES, {"tables": oids}):
        table = by_oid[row[0]]
        if row[0] not in partitioned and (table.rows >= _LARGE or row[4]):
            _set_aside_index(table, where[row[0]], target_schema, row)
    _sequences(connection, by_oid, where, warnings)
    return Plan(target_schema, tables, left, warnings, mode="existing")


def target_type(
    column: Column, target: TargetColumn, override: str | None, policy: str
) -> TargetType:
    """The target's type with the conversion that this column's values need."""
    conversion = None
    if override is not None:
        conversion = split_override(override)[1]
        if conversion is None:
            raise MigrationError(
                f"the existing column is {target.type.sql}, and its type stands. Only 'using' and "
                "a conversion can be set here, such as 'timestamptz using epoch_ms'."
            )
    found = adapt(column, target.type, conversion)
    if policy == "text":
        if found.kind not in ("text", "loose_text"):
            raise MigrationError(
                f"the policy text can't change an existing column of type {found.sql}. Use null "
                "or quarantine."
            )
        found = replace(found, kind="loose_text")
    return found


def _plan_pair(pair: Pair, chosen: Chosen, warnings: list[str]) -> PlannedTable:
    table = pair.source
    columns = []
    for column, target in pair.columns:
        label = f"{table.name}.{column.name}"
        policy = chosen.policy(table.name, column.name)
        try:
            wanted = chosen.types.get((table.name, column.name))
            found = target_type(column, target, wanted, policy)
        except MigrationError as error:
            raise MigrationError(f"{label}: {error.message}") from None
        if found.warning:
            warnings.append(f"{label}: {found.warning}")
        if found.kind == "loose_text" and not has_text_affinity(column.declared):
            profile = column.profile
            if profile and profile.integers + profile.reals:
                warnings.append(f"{label}: its numbers become texts, as the target's column is")
        if found.kind == "bpchar":
            warnings.append(
                f"{label}: {found.sql} fills shorter texts up with spaces; text keeps them as "
                "they are"
            )
        columns.append(
            PlannedColumn(
                column.name,
                column.declared,
                found,
                not_null=target.not_null,
                default=target.default,
                target_name=target.name,
                policy=policy,
                generated=target.generated,
                identity_always=target.identity == "a",
                profile=(
                    column.profile.as_dict()
                    if column.profile and not column.profile.partial
                    else None
                ),
            )
        )
    return PlannedTable(
        table.name,
        table.rows,
        table.row_label,
        columns,
        [column.name for column in table.primary_key],
        "",
        next_id=table.sequence,
        target_name=pair.target.name,
        bytes=table.bytes,
        rowid=rowid_column(table, columns),
    )


def _set_aside_foreign_key(
    row: tuple[Any, ...], by_oid: dict[int, PlannedTable], first: list[Statement]
) -> None:
    name, child, parent, schema, table, definition, comment, _owned, _owner = row
    where = f"{quote_identifier(schema)}.{quote_identifier(table)}"
    label = f"{table}: {name}"
    quoted = quote_identifier(name)
    first.append(
        Statement("drop foreign key", label, f"ALTER TABLE {where} DROP CONSTRAINT {quoted}")
    )
    later = by_oid[child if child in by_oid else parent].foreign_keys
    later.append(
        Statement("foreign key", label, f"ALTER TABLE {where} ADD CONSTRAINT {quoted} {definition}")
    )
    if comment:
        later.append(_comment(f"CONSTRAINT {quoted} ON {where}", label, comment))


def _comment(what: str, label: str, text: str) -> Statement:
    return Statement("comment", label, f"COMMENT ON {what} IS {quote_literal(text)}")


def _set_aside_trigger(
    table: PlannedTable, where: str, name: str, state: str, warnings: list[str]
) -> None:
    quoted = quote_identifier(name)
    table.before.append(
        Statement("disable trigger", name, f"ALTER TABLE {where} DISABLE TRIGGER {quoted}")
    )
    table.foreign_keys.append(
        Statement("enable trigger", name, f"ALTER TABLE {where} {_ENABLE[state]} {quoted}")
    )
    warnings.append(
        f"the trigger {name} of {table.target_name} is off during the load, and on again after it"
    )


def _set_aside_index(
    table: PlannedTable, where: str, target_schema: str, row: tuple[Any, ...]
) -> None:
    _oid, index, primary, constraint, _deferrable, definition, comment = row
    full_index = f"{quote_identifier(target_schema)}.{quote_identifier(index)}"
    if constraint is None:
        table.before.append(Statement("drop index", index, f"DROP INDEX {full_index}"))
        table.keys.append(Statement("index", index, definition))
        if comment:
            table.keys.append(_comment(f"INDEX {full_index}", index, comment))
        return
    quoted = quote_identifier(constraint)
    table.before.append(
        Statement("drop key", constraint, f"ALTER TABLE {where} DROP CONSTRAINT {quoted}")
    )
    table.keys.append(
        Statement(
            "primary key" if primary else "unique constraint",
            constraint,
            f"ALTER TABLE {where} ADD CONSTRAINT {quoted} {definition}",
        )
    )
    if comment:
        table.keys.append(_comment(f"CONSTRAINT {quoted} ON {where}", constraint, comment))


def _sequences(
    connection: Any, by_oid: dict[int, PlannedTable], where: dict[int, str], warnings: list[str]
) -> None:
    """Each sequence behind the highest id, and behind SQLite's own count; never back."""
    seen = set()
    for oid, name, sequence, schema, relation, top, upwards, how in pg.fetch(
        connection, _SEQUENCES, {"tables": list(by_oid)}
    ):
        table = by_oid[oid]
        column = next((c for c in table.columns if c.target_name == name), None)
        if column is None or (sequence, oid, name) in seen:
            continue
        seen.add((sequence, oid, name))
        if column.target.kind not in INTEGER_KINDS:
            continue
        full = f"{quote_identifier(schema)}.{quote_identifier(relation)}"
        if not upwards:
            warnings.append(
                f"the sequence {relation} of {table.target_name}.{name} counts downwards and is "
                "left as it is"
            )
            continue
        column.identity = column.identity or how in ("a", "i")
        counted = table.next_id if table.next_id and column.name in table.primary_key else 0
        highest = f"(SELECT max({quote_identifier(name)}) FROM {where[oid]})::bigint"
        table.keys.append(
            Statement(
                "sequence",
                relation,
                f"SELECT pg_catalog.setval({quote_literal(full)}::pg_catalog.regclass, "
                f"LEAST(n, {top}), true) FROM (SELECT GREATEST({highest}, {counted}, "
                f"(SELECT last_value FROM {full} WHERE is_called)) AS n) AS s WHERE n >= 1",
            )
        )
