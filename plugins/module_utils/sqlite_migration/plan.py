# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From SQLite's schema to what is made in PostgreSQL: pure code, no connection.

Every object of the source ends up in the plan or in `left_out`, with the reason.
"""

from __future__ import annotations

import fnmatch
import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import MigrationError
from .expressions import (
    Untranslatable,
    always_true_for_boolean,
    is_json_check,
    quote_identifier,
    translate,
    translate_default,
    translate_generated,
)
from .schema import Column, ForeignKey, Index, IndexTerm, LeftOut, Schema, Table
from .sqltext import join_tokens
from .types import (
    INTEGER_KINDS,
    TargetType,
    adapt,
    choose_type,
    may_be_uuid,
    postgres_type,
)

_NAME_BYTES = 63
_MAX_COLUMNS = 1600
_SYSTEM_COLUMNS = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}
POLICIES = ("fail", "null", "text", "quarantine")
# What one connection moves on a small server and on a fast one, with keys and indexes.
_SLOW_BYTES, _FAST_BYTES = 8_000_000, 80_000_000
_SLOW_ROWS, _FAST_ROWS = 40_000, 400_000
_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Wishes:
    """What the caller sets about the plan; the keys are 'table' or 'table.column'."""

    type_overrides: dict[str, str] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    on_bad_value: str = "fail"
    bad_value_columns: dict[str, str] = field(default_factory=dict)


@dataclass
class PlannedColumn:
    """`name` is the source's, `target_name` PostgreSQL's.

    `generated`: PostgreSQL computes it, so that it is in no COPY list. `policy` says what
    becomes of a value that the type can't hold.
    """

    name: str
    declared: str
    target: TargetType
    not_null: bool
    default: str | None = None
    identity: bool = False
    target_name: str = ""
    policy: str = "fail"
    generated: bool = False
    identity_always: bool = False
    expression: str | None = None
    profile: dict[str, int | None] | None = None

    def __post_init__(self) -> None:
        self.target_name = self.target_name or self.name

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "target_name": self.target_name,
            "declared": self.declared,
            "type": self.target.sql,
            "conversion": self.target.conversion,
            "reason": self.target.reason,
            "not_null": self.not_null,
            "default": self.default,
            "identity": self.identity,
            "generated": self.expression or self.generated,
            "policy": self.policy,
            "profile": self.profile,
        }


@dataclass
class Statement:
    """One object beyond the bare table; `optional` ones may be refused by PostgreSQL.

    `work` compares what sorting the rows for indexes costs: a text more than a number.
    """

    kind: str
    name: str
    sql: str
    optional: bool = False
    work: int = 0


def rowid_column(table: Table, columns: list[PlannedColumn]) -> PlannedColumn | None:
    """The one that is SQLite's rowid, if it stays the same number."""
    alias = table.rowid_alias
    if alias is None:
        return None
    column = next((c for c in columns if c.name == alias.name), None)
    whole = column and column.target.kind in INTEGER_KINDS and column.target.conversion is None
    return column if whole else None


class _Names:
    """Relation and constraint names of one schema: unique and at most 63 bytes."""

    def __init__(self, taken: list[str]) -> None:
        self._taken = set(taken)

    def free(self, wanted: str) -> str:
        name = wanted
        number = 0
        while len(name.encode()) > _NAME_BYTES or name in self._taken:
            name = _shortened(wanted, number)
            number += 1
        self._taken.add(name)
        return name


def _shortened(wanted: str, number: int = 0) -> str:
    mark = hashlib.sha256(f"{wanted}:{number}".encode()).hexdigest()[:8]
    cut = wanted.encode()[: _NAME_BYTES - 9].decode(errors="ignore")
    return f"{cut}_{mark}"


@dataclass
class PlannedTable:
    """`before` runs before any table's rows, `keys` and `foreign_keys` after all of them.

    `rowid` is the column that is SQLite's rowid, if the target has it as a number too.
    """

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
    target_name: str = ""
    before: list[Statement] = field(default_factory=list)
    bytes: int | None = None
    notes: list[str] = field(default_factory=list)
    rowid: PlannedColumn | None = None

    def __post_init__(self) -> None:
        self.target_name = self.target_name or self.name

    @property
    def identity(self) -> PlannedColumn | None:
        return next((c for c in self.columns if c.identity), None)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "target_name": self.target_name,
            "source_rows": self.rows,
            "source_bytes": self.bytes,
            "columns": [c.as_dict() for c in self.columns],
            "primary_key": self.primary_key,
            "last_id": self.next_id,
            "before": [s.sql for s in self.before],
            "keys_and_indexes": [s.sql for s in self.keys],
            "foreign_keys": [s.sql for s in self.foreign_keys],
            "notes": self.notes,
        }


@dataclass
class Plan:
    """`problems` are the values that the target can't hold: {table, column, reason, count,
    rows, action}, `rows` being the first of them by rowid or key. `room` is what goes first."""

    schema: str
    tables: list[PlannedTable]
    left_out: list[LeftOut]
    warnings: list[str]
    mode: str = "create"
    problems: list[dict[str, Any]] = field(default_factory=list)
    room: list[Statement] = field(default_factory=list)

    @property
    def estimate(self) -> dict[str, Any]:
        """A range, as the server and its disk decide; the higher of rows and bytes counts."""
        rows = sum(table.rows for table in self.tables)
        size = sum(table.bytes or 0 for table in self.tables)
        low = max(rows / _FAST_ROWS, size / _FAST_BYTES)
        high = max(rows / _SLOW_ROWS, size / _SLOW_BYTES)
        return {
            "seconds_low": round(low + 0.1, 1),
            "seconds_high": round(high + 1, 1),
            "basis": f"{_SLOW_ROWS} to {_FAST_ROWS} rows and {_SLOW_BYTES // 10**6} to "
            f"{_FAST_BYTES // 10**6} MB of the source's file a second",
        }

    def as_dict(self) -> dict[str, Any]:
        return {
            "schema": self.schema,
            "mode": self.mode,
            "dropped": [statement.name for statement in self.room],
            "tables": [table.as_dict() for table in self.tables],
            "problems": self.problems,
            "estimate": self.estimate,
        }

    def as_text(self) -> str:
        """For diff mode and for people."""
        estimate = self.estimate
        lines = [
            f"-- {len(self.tables)} tables, {sum(t.rows for t in self.tables)} rows into schema "
            f"{self.schema} ({self.mode}); about {estimate['seconds_low']} to "
            f"{estimate['seconds_high']} seconds",
            "",
        ]
        lines += [statement.sql + ";" for statement in self.room]
        for table in self.tables:
            lines += _table_text(table)
        for problem in self.problems:
            lines.append(
                f"-- problem: {problem['table']}.{problem['column']}: {problem['count']} x "
                f"{problem['reason']}; {problem['action']}"
            )
        lines += [f"-- warning: {text}" for text in self.warnings]
        for item in self.left_out:
            lines.append(f"-- not carried: {item.kind} {item.name}: {item.reason}")
            lines += [f"--   {line}" for line in item.sql.splitlines()]
        return "\n".join(lines).rstrip("\n") + "\n"


def _table_text(table: PlannedTable) -> list[str]:
    name = table.name if table.name == table.target_name else f"{table.name} -> {table.target_name}"
    size = "" if table.bytes is None else f", {table.bytes} bytes"
    lines = [f"-- {name}: {table.rows} rows{size}"]
    for column in table.columns:
        renamed = "" if column.name == column.target_name else f" -> {column.target_name}"
        policy = "" if column.policy == "fail" else f"; bad values: {column.policy}"
        lines.append(
            f"--   {column.name}{renamed}: {column.target.sql}: {column.target.reason}{policy}"
        )
    if table.next_id is not None:
        lines.append(f"--   the next id comes after {table.next_id}")
    lines += [f"--   {note}" for note in table.notes]
    lines += [s.sql + ";" for s in table.before]
    if table.create:
        lines.append(table.create + ";")
    lines += [s.sql + ";" for s in [*table.keys, *table.foreign_keys]]
    return [*lines, ""]


class Chosen:
    """The caller's wishes, found by table and column whatever the case; unknown ones are errors."""

    def __init__(self, schema: Schema, wishes: Wishes) -> None:
        self._columns: dict[tuple[str, str], tuple[str, str]] = {
            (t.name, c.name): (t.name.lower(), c.name.lower())
            for t in schema.tables
            for c in t.columns
        }
        self._tables = [table.name for table in schema.tables]
        self.types = self._by_column("type_overrides", wishes.type_overrides)
        self.policies = self._by_column("bad_value_columns", wishes.bad_value_columns)
        for option, policy in [
            ("on_bad_value", wishes.on_bad_value),
            *(("bad_value_columns", p) for p in wishes.bad_value_columns.values()),
        ]:
            if policy not in POLICIES:
                raise MigrationError(f"{option}: {policy!r} is none of {', '.join(POLICIES)}.")
        self.default_policy = wishes.on_bad_value
        tables = {name.lower(): name for name in self._tables}
        self.table_names: dict[str, str] = {}
        columns = {}
        for key, name in wishes.rename.items():
            if key.lower() in tables:
                self.table_names[tables[key.lower()]] = name
            else:
                columns[key] = name
        self.column_names = self._by_column("rename", columns)
        for key, name in wishes.rename.items():
            if not name or "\x00" in name or len(name.encode()) > _NAME_BYTES:
                raise MigrationError(
                    f"rename: the new name of {key} must have 1 to {_NAME_BYTES} bytes."
                )
            if name in _SYSTEM_COLUMNS and key.lower() not in tables:
                raise MigrationError(
                    f"rename: {name} is a system column of PostgreSQL; choose another for {key}."
                )

    def _by_column(self, option: str, given: dict[str, str]) -> dict[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        # Those with a * first, so that an exact name wins.
        for key, value in sorted(given.items(), key=lambda item: "*" not in item[0]):
            matches = self._matches(key)
            if not matches:
                raise MigrationError(
                    f"{option} names {key}, which isn't among the tables and columns that are "
                    f"migrated. Write table.column; the tables are {', '.join(self._tables)}."
                )
            found.update(dict.fromkeys(matches, value))
        return found

    def _matches(self, key: str) -> list[tuple[str, str]]:
        wanted = key.lower()
        exact = [k for k, (table, column) in self._columns.items() if f"{table}.{column}" == wanted]
        if exact or "*" not in wanted:
            return exact
        pattern = wanted.replace("[", "[[]")
        return [
            k
            for k, (table, column) in self._columns.items()
            if fnmatch.fnmatchcase(f"{table}.{column}", pattern)
        ]

    def policy(self, table: str, column: str) -> str:
        return self.policies.get((table, column), self.default_policy)


def _check_width(schema: Schema) -> None:
    wide = [t for t in schema.tables if len(t.columns) > _MAX_COLUMNS]
    if wide:
        raise MigrationError(
            "PostgreSQL can't hold these tables: "
            + "; ".join(
                f"{t.name!r} has {len(t.columns)} columns, over {_MAX_COLUMNS}" for t in wide
            )
            + ". Leave them out with exclude."
        )


def _settle_names(schema: Schema, chosen: Chosen, warnings: list[str]) -> dict[str, Renamed]:
    """Target names by source table name. What PostgreSQL can't hold gets a name of its own."""
    taken = set(chosen.table_names.values()) | {
        t.name for t in schema.tables if t.name not in chosen.table_names
    }
    if len(taken) < len(schema.tables):
        raise MigrationError(
            "rename gives two tables the same name: "
            + ", ".join(f"{old} -> {new}" for old, new in chosen.table_names.items())
            + ". Names must differ."
        )
    settled = {}
    for table in schema.tables:
        name = chosen.table_names.get(table.name)
        if name is None:
            name, why = _possible(table.name, taken, table.name, set())
            if why:
                warnings.append(f"table {table.name!r} becomes {name}: {why}")
        settled[table.name] = Renamed(name, _settle_columns(table, chosen, warnings))
    return settled


@dataclass
class Renamed:
    table: str
    columns: dict[str, str]


def _settle_columns(table: Table, chosen: Chosen, warnings: list[str]) -> dict[str, str]:
    given = {c.name: chosen.column_names.get((table.name, c.name)) for c in table.columns}
    taken = {new or old for old, new in given.items()}
    if len(taken) < len(given):
        raise MigrationError(f"rename gives two columns of {table.name} the same name.")
    names = {}
    for column, name in given.items():
        why = ""
        if name is None:
            name, why = _possible(column, taken, f"{table.name}.{column}", _SYSTEM_COLUMNS)
        if why:
            warnings.append(f"column {column!r} of {table.name} becomes {name}: {why}")
        names[column] = name
    return names


def _possible(name: str, taken: set[str], seed: str, reserved: set[str]) -> tuple[str, str]:
    why = ""
    new = name
    if not name:
        new, why = "unnamed", "PostgreSQL has no empty names"
    elif len(name.encode()) > _NAME_BYTES:
        new, why = _shortened(name), f"its name has more than {_NAME_BYTES} bytes"
    elif name in reserved:
        new, why = name + "_", "PostgreSQL has a system column of that name"
        while new in taken:
            new += "_"
    if why:
        number = 0
        while new in taken:
            new = _shortened(f"{name}_{seed}", number)
            number += 1
        taken.add(new)
        why += "; rename sets another"
    return new, why


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


def split_override(wanted: str) -> tuple[str, str | None]:
    """'timestamptz using epoch_ms': the type, and the conversion if one is named."""
    name, using, conversion = f" {wanted} ".partition(" using ")
    return name.strip(), conversion.strip() if using else None


def overridden(column: Column, wanted: str, policy: str) -> TargetType:
    """The type that type_overrides sets."""
    name, conversion = split_override(wanted)
    target = postgres_type(name, f"declared {column.declared}; set by type_overrides")
    target = adapt(column, target, conversion)
    if policy == "text" and target.kind == "text":
        return replace(target, kind="loose_text")
    return target


def build_plan(schema: Schema, target_schema: str, wishes: Wishes | None = None) -> Plan:
    """Mode create: every table is made from what SQLite says about it."""
    _check_width(schema)
    chosen = Chosen(schema, wishes or Wishes())
    left = list(schema.left_out)
    warnings: list[str] = []
    renamed = _settle_names(schema, chosen, warnings)
    names = _Names([new.table for new in renamed.values()])
    planned = []
    for source in schema.tables:
        maker = _TableMaker(source, schema, target_schema, renamed, chosen, names, left, warnings)
        planned.append(maker.make())
    by_name = {table.name.lower(): table for table in planned}
    sources = {table.name.lower(): table for table in schema.tables}
    for source in schema.tables:
        for key in source.foreign_keys:
            _plan_foreign_key(source, key, by_name, sources, target_schema, left)
    mixed = [t.target_name for t in planned if t.target_name != t.target_name.lower()]
    if mixed:
        warnings.append(
            "names with capital letters are kept, so SQL must quote them: " + ", ".join(mixed)
        )
    return Plan(target_schema, planned, left, warnings)


def _full(schema: str, name: str) -> str:
    return f"{quote_identifier(schema)}.{quote_identifier(name)}"


def _list(names: list[str]) -> str:
    return ", ".join(quote_identifier(name) for name in names)


class _TableMaker:
    """One table of mode create, with its keys and indexes."""

    def __init__(
        self,
        table: Table,
        schema: Schema,
        target_schema: str,
        renamed: dict[str, Renamed],
        chosen: Chosen,
        names: _Names,
        left: list[LeftOut],
        warnings: list[str],
    ) -> None:
        self.table = table
        self.target_name = renamed[table.name].table
        self.where = _full(target_schema, self.target_name)
        self.real = {old.lower(): new for old, new in renamed[table.name].columns.items()}
        self.names = names
        self.left = left
        self.warnings = warnings
        self.chosen = chosen
        self.keyed = keyed_columns(table, schema)
        self.json_checks = {
            name.lower(): check
            for check in table.text.checks
            for name in [is_json_check(check.tokens)]
            if name is not None
        }
        # Of these, SQLite compares texts otherwise than PostgreSQL.
        self.folded = {c.name.lower() for c in table.columns if c.collation != "BINARY"}
        self.targets: dict[str, TargetType] = {}

    def make(self) -> PlannedTable:
        table = self.table
        targets = [self._target(column) for column in table.columns]
        self.targets = {c.name.lower(): t for c, t in zip(table.columns, targets)}
        columns = [self._column(c, t) for c, t in zip(table.columns, targets)]
        body = [_column_sql(column) for column in columns]
        create = f"CREATE TABLE {self.where} (\n    " + ",\n    ".join(body) + "\n)"
        planned = PlannedTable(
            table.name,
            table.rows,
            table.row_label,
            columns,
            [column.name for column in table.primary_key],
            create,
            next_id=table.sequence,
            target_name=self.target_name,
            bytes=table.bytes,
            rowid=rowid_column(table, columns),
        )
        if table.name == "alembic_version":
            planned.notes.append("Alembic goes on from the version that SQLite is at")
        if table.name == "django_migrations":
            planned.notes.append("Django goes on from the migrations that SQLite has")
        self._primary_key(planned)
        self._checks(planned)
        for conflict in table.text.conflicts:
            self._leave("conflict clause", f"{table.name}: {conflict}", "PostgreSQL has none")
        for index in table.indexes:
            if index.origin != "pk":
                self._index(index, planned)
        return planned

    def _leave(self, kind: str, name: str, reason: str) -> None:
        self.left.append(LeftOut(kind, name, reason))

    def _target(self, column: Column) -> TargetType:
        label = f"{self.table.name}.{column.name}"
        wanted = self.chosen.types.get((self.table.name, column.name))
        if wanted is None:
            keyed = column.name.lower() in self.keyed
            return choose_type(column, keyed, column.name.lower() in self.json_checks)
        try:
            policy = self.chosen.policy(self.table.name, column.name)
            return overridden(column, wanted, policy)
        except MigrationError as error:
            raise MigrationError(f"type_overrides, {label}: {error.message}") from None

    def _column(self, column: Column, target: TargetType) -> PlannedColumn:
        table = self.table
        label = f"{table.name}.{column.name}"
        if target.warning:
            self.warnings.append(f"{label}: {target.warning}")
        profile = column.profile
        if profile and profile.texts and profile.texts == profile.hex32 and not profile.partial:
            if target.kind == "text" and may_be_uuid(column):
                self.warnings.append(
                    f"{label}: every value has the form of a UUID, and stays a text; if the "
                    "application's model has a UUID there, set type_overrides to uuid"
                )
        if column.collation != "BINARY":
            self._leave(
                "collation",
                label,
                f"COLLATE {column.collation} has no equal; texts compare exactly in PostgreSQL. "
                "Its unique keys and indexes keep the meaning",
            )
        key = table.primary_key
        references = {c.lower() for f in table.foreign_keys for c in f.columns}
        identity = table.rowid_alias is column or (
            len(key) == 1
            and key[0] is column
            and column.name.lower() not in references
            and column.default is None
        )
        planned = PlannedColumn(
            column.name,
            column.declared,
            target,
            not_null=column.not_null or bool(column.primary_key),
            identity=identity and target.kind in INTEGER_KINDS,
            target_name=self.real[column.name.lower()],
            policy=self.chosen.policy(table.name, column.name),
            profile=profile.as_dict() if profile and not profile.partial else None,
        )
        if column.generated:
            self._generated(column, planned, label)
        elif column.default is not None and not planned.identity:
            try:
                planned.default = translate_default(column.default, target)
            except Untranslatable as error:
                self._leave("default", f"{label}: {column.default}", f"it is {error}")
        return planned

    def _generated(self, column: Column, planned: PlannedColumn, label: str) -> None:
        tokens = self.table.text.generated.get(column.name.lower(), [])
        computed = {c.name.lower() for c in self.table.columns if c.generated}
        try:
            planned.expression = translate_generated(
                tokens, planned.target, self.targets, self.real, computed
            )
            planned.generated = True
        except Untranslatable as error:
            self._leave(
                "generated column",
                f"{label}: {join_tokens(tokens)}",
                "its values are copied into a plain column, and PostgreSQL doesn't compute them: "
                f"it has {error}",
            )

    def _primary_key(self, planned: PlannedTable) -> None:
        key = planned.primary_key
        if not key:
            return
        given = self.table.text.constraint_names.get(("PRIMARY", tuple(k.lower() for k in key)))
        name = self.names.free(given or f"{self.target_name}_pkey")
        columns = [self.real[k.lower()] for k in key]
        planned.keys.append(
            Statement(
                "primary key",
                name,
                f"ALTER TABLE {self.where} ADD CONSTRAINT {quote_identifier(name)} "
                f"PRIMARY KEY ({_list(columns)})",
            )
        )
        for index in self.table.indexes:
            if index.origin == "pk":
                self._folded_unique(index, name, planned)

    def _checks(self, planned: PlannedTable) -> None:
        table = self.table
        for check in table.text.checks:
            label = check.name or f"{table.name}: {join_tokens(check.tokens)}"
            if always_true_for_boolean(check.tokens, self.targets):
                continue
            json = is_json_check(check.tokens)
            if json and self.targets[json.lower()].kind in ("json", "jsonb"):
                continue
            try:
                expression = translate(check.tokens, self.targets, self.real, self.folded)
            except Untranslatable as error:
                self._leave("check", label, f"on {table.name}: it has {error}")
                continue
            wanted = f"{self.target_name}_check"
            if check.column:
                wanted = f"{self.target_name}_{self.real[check.column.lower()]}_check"
            name = planned.constraint_names.free(check.name or wanted)
            planned.keys.append(
                Statement(
                    "check",
                    label,
                    f"ALTER TABLE {self.where} ADD CONSTRAINT {quote_identifier(name)} "
                    f"CHECK ({expression})",
                    optional=True,
                )
            )

    def _is_text(self, term: IndexTerm) -> bool:
        target = self.targets.get((term.column or "").lower())
        return target is not None and target.kind in ("text", "loose_text", "bpchar")

    def _term(self, term: IndexTerm) -> str:
        if term.column == "rowid" and "rowid" not in self.real:
            raise Untranslatable("the rowid, which PostgreSQL doesn't have")
        if term.column is not None:
            text = quote_identifier(self.real[term.column.lower()])
        else:
            text = f"({translate(term.expression or [], self.targets, self.real, self.folded)})"
        if term.collation != "BINARY" and (term.column is None or self._is_text(term)):
            text = f"({_fold(text, term.collation)})"
        return text + (" DESC" if term.descending else "")

    def _folded_unique(self, index: Index, name: str, planned: PlannedTable) -> None:
        """A unique key that ignores case stays one: beside the key itself, which tells it apart."""
        if not any(t.collation != "BINARY" and self._is_text(t) for t in index.terms):
            return
        terms = ", ".join(self._term(term) for term in index.terms)
        extra = self.names.free(f"{name}_folded")
        planned.keys.append(
            Statement(
                "index",
                f"{extra} on {self.table.name}",
                f"CREATE UNIQUE INDEX {quote_identifier(extra)} ON {self.where} ({terms})",
            )
        )

    def _index(self, index: Index, planned: PlannedTable) -> None:
        kind = "unique constraint" if index.origin == "u" else "index"
        label = f"{index.name} on {self.table.name}"
        try:
            terms = [self._term(term) for term in index.terms]
            predicate = ""
            if index.where is not None:
                where = translate(index.where, self.targets, self.real, self.folded)
                predicate = f" WHERE {where}"
        except Untranslatable as error:
            self._leave(kind, label, f"it has {error}")
            return
        if index.origin == "u":
            source = [(term.column or "").lower() for term in index.terms]
            columns = [self.real[column] for column in source]
            wanted = self.table.text.constraint_names.get(("UNIQUE", tuple(source)))
            name = self.names.free(wanted or f"{self.target_name}_{'_'.join(columns)}_key")
            planned.keys.append(
                Statement(
                    kind,
                    name,
                    f"ALTER TABLE {self.where} ADD CONSTRAINT {quote_identifier(name)} "
                    f"UNIQUE ({_list(columns)})",
                    work=self._work(index),
                )
            )
            self._folded_unique(index, name, planned)
            return
        name = self.names.free(index.name)
        unique = "UNIQUE " if index.unique else ""
        plain = index.where is None and all(term.column for term in index.terms)
        planned.keys.append(
            Statement(
                kind,
                label,
                f"CREATE {unique}INDEX {quote_identifier(name)} ON {self.where} "
                f"({', '.join(terms)}){predicate}",
                optional=not plain,
                work=self._work(index),
            )
        )

    def _work(self, index: Index) -> int:
        return sum(2 if term.column is None or self._is_text(term) else 1 for term in index.terms)


def _fold(text: str, collation: str) -> str:
    """SQLite's NOCASE knows the 26 letters of ASCII and no others; lower() would know more."""
    if collation == "NOCASE":
        return f"translate({text}, '{_UPPER}', '{_LOWER}')"
    if collation == "RTRIM":
        return f"rtrim({text}, ' ')"
    raise Untranslatable(f"COLLATE {collation}")


def _column_sql(column: PlannedColumn) -> str:
    text = f"{quote_identifier(column.target_name)} {column.target.sql}"
    if column.identity:
        text += " GENERATED BY DEFAULT AS IDENTITY"
    if column.expression is not None:
        text += f" GENERATED ALWAYS AS ({column.expression}) STORED"
    if column.not_null:
        text += " NOT NULL"
    if column.default is not None:
        text += f" DEFAULT {column.default}"
    return text


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
    real = {c.name.lower(): c.target_name for c in planned[parent.name.lower()].columns}
    own = {c.name.lower(): c.target_name for c in planned[table.name.lower()].columns}
    wanted = key.parent_columns or [c.name for c in parent.primary_key]
    found = [c for c in wanted if c.lower() in real]
    if not found or len(found) != len(key.columns):
        left.append(LeftOut("foreign key", label, "its columns don't match the parent's key"))
        return
    if not parent.is_unique(found):
        left.append(LeftOut("foreign key", label, f"no unique key of {parent.name} matches it"))
        return
    local = tuple(c.lower() for c in key.columns)
    given = table.text.constraint_names.get(("FOREIGN", local))
    child = planned[table.name.lower()]
    columns = [own[c] for c in local]
    name = child.constraint_names.free(given or f"{child.target_name}_{'_'.join(columns)}_fkey")
    actions = ""
    for event, action in (("UPDATE", key.on_update), ("DELETE", key.on_delete)):
        if action.upper() != "NO ACTION":
            actions += f" ON {event} {action.upper()}"
    if (local, key.parent.lower()) in table.text.deferred:
        actions += " DEFERRABLE INITIALLY DEFERRED"
    parent_name = planned[parent.name.lower()].target_name
    child.foreign_keys.append(
        Statement(
            "foreign key",
            label,
            f"ALTER TABLE {_full(target_schema, child.target_name)} "
            f"ADD CONSTRAINT {quote_identifier(name)} FOREIGN KEY ({_list(columns)}) "
            f"REFERENCES {_full(target_schema, parent_name)} "
            f"({_list([real[c.lower()] for c in found])}){actions}",
            optional=True,
        )
    )
