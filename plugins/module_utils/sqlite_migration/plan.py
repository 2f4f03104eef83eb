# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From SQLite's schema to what is made in PostgreSQL: pure code, no connection.

Every object of the source ends up in the plan or in `left_out`, with the reason.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from .errors import MigrationError
from .expressions import (
    Untranslatable,
    always_true_for_boolean,
    quote_identifier,
    translate,
    translate_default,
)
from .schema import Column, ForeignKey, Index, LeftOut, Schema, Table
from .sqltext import join_tokens
from .types import TargetType, choose_type

_NAME_BYTES = 63
_MAX_COLUMNS = 1600
_SYSTEM_COLUMNS = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}


@dataclass
class PlannedColumn:
    name: str
    declared: str
    target: TargetType
    not_null: bool
    default: str | None = None
    identity: bool = False


@dataclass
class Statement:
    """One object beyond the bare table; `optional` ones may be refused by PostgreSQL."""

    kind: str
    name: str
    sql: str
    optional: bool = False


class _Names:
    """Relation and constraint names of one schema: unique and at most 63 bytes."""

    def __init__(self, taken: list[str]) -> None:
        self._taken = set(taken)

    def free(self, wanted: str) -> str:
        name = wanted
        number = 0
        while len(name.encode()) > _NAME_BYTES or name in self._taken:
            mark = hashlib.sha256(f"{wanted}:{number}".encode()).hexdigest()[:8]
            cut = wanted.encode()[: _NAME_BYTES - 9].decode(errors="ignore")
            name = f"{cut}_{mark}"
            number += 1
        self._taken.add(name)
        return name


@dataclass
class PlannedTable:
    name: str
    rows: int
    row_label: str
    columns: list[PlannedColumn]
    primary_key: list[str]
    create: str
    keys: list[Statement] = field(default_factory=list)
    foreign_keys: list[Statement] = field(default_factory=list)
    next_id: int | None = None
    constraint_names: _Names = field(default_factory=lambda: _Names([]))

    @property
    def identity(self) -> PlannedColumn | None:
        return next((c for c in self.columns if c.identity), None)


@dataclass
class Plan:
    schema: str
    tables: list[PlannedTable]
    left_out: list[LeftOut]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        return {
            "schema": self.schema,
            "tables": [
                {
                    "name": table.name,
                    "source_rows": table.rows,
                    "columns": [
                        {
                            "name": c.name,
                            "declared": c.declared,
                            "type": c.target.sql,
                            "reason": c.target.reason,
                            "not_null": c.not_null,
                            "default": c.default,
                            "identity": c.identity,
                        }
                        for c in table.columns
                    ],
                    "primary_key": table.primary_key,
                    "keys_and_indexes": [s.sql for s in table.keys],
                    "foreign_keys": [s.sql for s in table.foreign_keys],
                }
                for table in self.tables
            ],
        }

    def as_text(self) -> str:
        """For diff mode and for people."""
        lines = []
        for table in self.tables:
            lines += [f"-- {table.name}: {table.rows} rows", table.create + ";"]
            lines += [s.sql + ";" for s in [*table.keys, *table.foreign_keys]]
            lines.append("")
        lines += [f"-- not carried: {x.kind} {x.name}: {x.reason}" for x in self.left_out]
        return "\n".join(lines).rstrip("\n") + "\n"


def check_names(schema: Schema) -> None:
    """Names that PostgreSQL would cut or refuse are an error, for the application uses them."""
    problems = []
    for table in schema.tables:
        columns = [column.name for column in table.columns]
        for what, name in [("table", table.name), *(("column", c) for c in columns)]:
            where = f"{what} {name!r}" + (f" of {table.name}" if what == "column" else "")
            if not name:
                problems.append(f"{where} has an empty name")
            elif len(name.encode()) > _NAME_BYTES:
                problems.append(f"{where} has a name of more than {_NAME_BYTES} bytes")
            elif what == "column" and name in _SYSTEM_COLUMNS:
                problems.append(f"{where} has the name of a system column")
        if len(columns) > _MAX_COLUMNS:
            problems.append(f"table {table.name!r} has {len(columns)} columns, over {_MAX_COLUMNS}")
    if problems:
        raise MigrationError(
            "PostgreSQL can't hold these names: " + "; ".join(problems) + ". Rename them in SQLite "
            "and in the application, or leave the table out with exclude."
        )


def keyed_columns(table: Table, schema: Schema) -> set[str]:
    """Columns in any index, key or foreign key, on either side."""
    names = {c.name.lower() for c in table.primary_key}
    for index in table.indexes:
        names |= {term.column.lower() for term in index.terms if term.column}
    for key in table.foreign_keys:
        names |= {c.lower() for c in key.columns}
    for other in schema.tables:
        for key in other.foreign_keys:
            if key.parent.lower() == table.name.lower() and key.parent_columns:
                names |= {c.lower() for c in key.parent_columns}
    return names


def build_plan(schema: Schema, target_schema: str) -> Plan:
    check_names(schema)
    left = list(schema.left_out)
    warnings: list[str] = []
    names = _Names([table.name for table in schema.tables])
    planned = [_plan_table(t, schema, target_schema, names, left, warnings) for t in schema.tables]
    by_name = {table.name.lower(): table for table in planned}
    sources = {table.name.lower(): table for table in schema.tables}
    for table in schema.tables:
        for key in table.foreign_keys:
            _plan_foreign_key(table, key, by_name, sources, target_schema, left)
    mixed = [t.name for t in planned if t.name != t.name.lower()]
    if mixed:
        warnings.append(
            "names with capital letters are kept, so SQL must quote them: " + ", ".join(mixed)
        )
    return Plan(target_schema, planned, left, warnings)


def _full(schema: str, name: str) -> str:
    return f"{quote_identifier(schema)}.{quote_identifier(name)}"


def _list(names: list[str]) -> str:
    return ", ".join(quote_identifier(name) for name in names)


def _plan_table(
    table: Table,
    schema: Schema,
    target_schema: str,
    names: _Names,
    left: list[LeftOut],
    warnings: list[str],
) -> PlannedTable:
    keyed = keyed_columns(table, schema)
    key = [column.name for column in table.primary_key]
    columns = [
        _plan_column(table, c, choose_type(c, c.name.lower() in keyed), left, warnings)
        for c in table.columns
    ]
    targets = {c.name.lower(): c.target for c in columns}
    real = {c.name.lower(): c.name for c in columns}
    body = [_column_sql(column) for column in columns]
    where = _full(target_schema, table.name)
    create = f"CREATE TABLE {where} (\n    " + ",\n    ".join(body) + "\n)"
    planned = PlannedTable(
        table.name, table.rows, table.row_label, columns, key, create, next_id=table.sequence
    )
    keys = planned.keys
    for check in table.text.checks:
        label = check.name or f"{table.name}: {join_tokens(check.tokens)}"
        if always_true_for_boolean(check.tokens, targets):
            continue
        try:
            expression = translate(check.tokens, targets, real)
        except Untranslatable as error:
            left.append(LeftOut("check", label, f"on {table.name}: it has {error}"))
            continue
        wanted = f"{table.name}_{check.column}_check" if check.column else f"{table.name}_check"
        name = planned.constraint_names.free(check.name or wanted)
        keys.append(
            Statement(
                "check",
                label,
                f"ALTER TABLE {where} ADD CONSTRAINT {quote_identifier(name)} CHECK ({expression})",
                optional=True,
            )
        )
    for conflict in table.text.conflicts:
        left.append(LeftOut("conflict clause", f"{table.name}: {conflict}", "PostgreSQL has none"))
    if key:
        given = table.text.constraint_names.get(("PRIMARY", tuple(k.lower() for k in key)))
        name = names.free(given or f"{table.name}_pkey")
        keys.insert(
            0,
            Statement(
                "primary key",
                name,
                f"ALTER TABLE {where} ADD CONSTRAINT {quote_identifier(name)} "
                f"PRIMARY KEY ({_list(key)})",
            ),
        )
    for index in table.indexes:
        if index.origin != "pk":
            statement = _plan_index(table, index, where, targets, real, names, left)
            if statement:
                keys.append(statement)
    return planned


def _plan_column(
    table: Table, column: Column, target: TargetType, left: list[LeftOut], warnings: list[str]
) -> PlannedColumn:
    label = f"{table.name}.{column.name}"
    if target.warning:
        warnings.append(f"{label}: {target.warning}")
    if column.generated:
        left.append(
            LeftOut(
                "generated column",
                label,
                "its values are copied into a plain column; PostgreSQL doesn't compute them",
            )
        )
    if column.collation != "BINARY":
        left.append(
            LeftOut(
                "collation",
                label,
                f"COLLATE {column.collation} has no equal; texts compare exactly in PostgreSQL",
            )
        )
    key = table.primary_key
    references = {c.lower() for f in table.foreign_keys for c in f.columns}
    identity = table.rowid_alias is column or (
        len(key) == 1
        and key[0] is column
        and target.kind == "bigint"
        and column.name.lower() not in references
        and column.default is None
    )
    planned = PlannedColumn(
        column.name,
        column.declared,
        target,
        not_null=column.not_null or bool(column.primary_key),
        identity=identity and target.kind == "bigint",
    )
    if column.default is not None and not column.generated and not planned.identity:
        try:
            planned.default = translate_default(column.default, target)
        except Untranslatable as error:
            left.append(LeftOut("default", f"{label}: {column.default}", f"it is {error}"))
    return planned


def _column_sql(column: PlannedColumn) -> str:
    text = f"{quote_identifier(column.name)} {column.target.sql}"
    if column.identity:
        text += " GENERATED BY DEFAULT AS IDENTITY"
    if column.not_null:
        text += " NOT NULL"
    if column.default is not None:
        text += f" DEFAULT {column.default}"
    return text


def _plan_index(
    table: Table,
    index: Index,
    where: str,
    targets: dict[str, TargetType],
    real: dict[str, str],
    names: _Names,
    left: list[LeftOut],
) -> Statement | None:
    kind = "unique constraint" if index.origin == "u" else "index"
    label = f"{index.name} on {table.name}"
    terms = []
    try:
        for term in index.terms:
            if term.column == "rowid" and "rowid" not in real:
                raise Untranslatable("the rowid, which PostgreSQL doesn't have")
            if term.column is not None:
                text = quote_identifier(real[term.column.lower()])
            else:
                text = f"({translate(term.expression or [], targets, real)})"
            if term.collation != "BINARY":
                declared = table.text.collations.get((term.column or "").lower())
                if declared != term.collation:
                    raise Untranslatable(f"COLLATE {term.collation}")
            terms.append(text + (" DESC" if term.descending else ""))
        predicate = ""
        if index.where is not None:
            predicate = f" WHERE {translate(index.where, targets, real)}"
    except Untranslatable as error:
        left.append(LeftOut(kind, label, f"it has {error}"))
        return None
    if index.origin == "u":
        columns = [term.column or "" for term in index.terms]
        wanted = table.text.constraint_names.get(("UNIQUE", tuple(c.lower() for c in columns)))
        name = names.free(wanted or f"{table.name}_{'_'.join(columns)}_key")
        return Statement(
            kind,
            name,
            f"ALTER TABLE {where} ADD CONSTRAINT {quote_identifier(name)} "
            f"UNIQUE ({', '.join(quote_identifier(real[c.lower()]) for c in columns)})",
        )
    name = names.free(index.name)
    unique = "UNIQUE " if index.unique else ""
    plain = index.where is None and all(term.column for term in index.terms)
    return Statement(
        kind,
        label,
        f"CREATE {unique}INDEX {quote_identifier(name)} ON {where} ({', '.join(terms)}){predicate}",
        optional=not plain,
    )


def _plan_foreign_key(
    table: Table,
    key: ForeignKey,
    planned: dict[str, PlannedTable],
    sources: dict[str, Table],
    target_schema: str,
    left: list[LeftOut],
) -> None:
    label = f"{table.name}({', '.join(key.columns)}) -> {key.parent}"
    parent = sources.get(key.parent.lower())
    if parent is None:
        left.append(LeftOut("foreign key", label, f"{key.parent} isn't among the tables migrated"))
        return
    real = {c.name.lower(): c.name for c in parent.columns}
    own = {c.name.lower(): c.name for c in table.columns}
    wanted = key.parent_columns or [c.name for c in parent.primary_key]
    parent_columns = [real[c.lower()] for c in wanted if c.lower() in real]
    if not parent_columns or len(parent_columns) != len(key.columns):
        left.append(LeftOut("foreign key", label, "its columns don't match the parent's key"))
        return
    if not parent.is_unique(parent_columns):
        left.append(LeftOut("foreign key", label, f"no unique key of {parent.name} matches it"))
        return
    local = tuple(c.lower() for c in key.columns)
    given = table.text.constraint_names.get(("FOREIGN", local))
    child = planned[table.name.lower()]
    name = child.constraint_names.free(given or f"{table.name}_{'_'.join(key.columns)}_fkey")
    actions = ""
    for event, action in (("UPDATE", key.on_update), ("DELETE", key.on_delete)):
        if action.upper() != "NO ACTION":
            actions += f" ON {event} {action.upper()}"
    if (local, key.parent.lower()) in table.text.deferred:
        actions += " DEFERRABLE INITIALLY DEFERRED"
    columns = [own[c.lower()] for c in key.columns]
    child.foreign_keys.append(
        Statement(
            "foreign key",
            label,
            f"ALTER TABLE {_full(target_schema, table.name)} "
            f"ADD CONSTRAINT {quote_identifier(name)} FOREIGN KEY ({_list(columns)}) "
            f"REFERENCES {_full(target_schema, parent.name)} ({_list(parent_columns)}){actions}",
            optional=True,
        )
    )
