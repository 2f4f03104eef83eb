# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a SQLite database holds, as plain data; nothing about PostgreSQL here."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import MigrationError
from .source import SourceDatabase, quote_sqlite, rowid_name
from .sqltext import (
    TableText,
    Token,
    parse_create_index,
    parse_create_table,
    tokenize,
)

_SHADOW_SUFFIXES = (
    "_content",
    "_data",
    "_idx",
    "_docsize",
    "_config",
    "_segments",
    "_segdir",
    "_stat",
    "_node",
    "_rowid",
    "_parent",
)


@dataclass
class Profile:
    """What a column really holds: counts by storage class, and some forms of texts.

    If `partial`, the counts only say that there is such a value; it was enough to decide.
    """

    nulls: int = 0
    integers: int = 0
    reals: int = 0
    texts: int = 0
    blobs: int = 0
    with_offset: int = 0
    timestamps: int = 0
    hex32: int = 0
    lowest: float | None = None
    highest: float | None = None
    longest: int | None = None
    partial: bool = False

    def as_dict(self) -> dict[str, int | None]:
        """Counts and lengths, never a value."""
        names = ("nulls", "integers", "reals", "texts", "blobs", "longest")
        return {name: getattr(self, name) for name in names}


@dataclass
class Column:
    name: str
    declared: str
    not_null: bool
    default: str | None
    primary_key: int
    generated: bool = False
    collation: str = "BINARY"
    profile: Profile | None = None


@dataclass
class IndexTerm:
    column: str | None
    descending: bool = False
    collation: str = "BINARY"
    expression: list[Token] | None = None


@dataclass
class Index:
    name: str
    unique: bool
    origin: str
    terms: list[IndexTerm]
    where: list[Token] | None = None


@dataclass
class ForeignKey:
    columns: list[str]
    parent: str
    parent_columns: list[str] | None
    on_update: str
    on_delete: str


@dataclass
class Table:
    name: str
    rows: int
    columns: list[Column]
    indexes: list[Index]
    foreign_keys: list[ForeignKey]
    text: TableText
    sequence: int | None = None
    bytes: int | None = None

    @property
    def primary_key(self) -> list[Column]:
        return sorted((c for c in self.columns if c.primary_key), key=lambda c: c.primary_key)

    @property
    def rowid_alias(self) -> Column | None:
        """The column that is SQLite's rowid itself, and so numbers itself."""
        key = self.primary_key
        if (
            len(key) == 1
            and key[0].declared.strip().upper() == "INTEGER"
            and not self.text.without_rowid
            and not self.text.inline_primary_key_desc
        ):
            return key[0]
        return None

    def is_unique(self, columns: list[str]) -> bool:
        """Whether a foreign key may refer to these columns."""
        wanted = {c.lower() for c in columns}
        if wanted == {c.name.lower() for c in self.primary_key}:
            return True
        return any(
            index.unique
            and index.where is None
            and all(term.column for term in index.terms)
            and wanted == {(term.column or "").lower() for term in index.terms}
            for index in self.indexes
        )

    @property
    def row_label(self) -> str:
        """SQL for what names a row: its rowid, unless a column of that name hides it."""
        if self.text.without_rowid:
            return "NULL"
        return rowid_name(column.name for column in self.columns) or "NULL"


@dataclass
class LeftOut:
    """Something in the source that isn't migrated."""

    kind: str
    name: str
    reason: str
    sql: str = ""

    def as_dict(self) -> dict[str, str]:
        found = {"kind": self.kind, "name": self.name, "reason": self.reason}
        return {**found, "sql": self.sql} if self.sql else found


@dataclass
class Schema:
    tables: list[Table]
    left_out: list[LeftOut] = field(default_factory=list)


def select_tables(
    available: list[str], include: list[str], exclude: list[str], path: str
) -> list[str]:
    for option, names in (("include", include), ("exclude", exclude)):
        unknown = [name for name in names if name not in available]
        if unknown:
            raise MigrationError(
                f"{option} names tables that {path} doesn't have: {', '.join(unknown)}. "
                f"It has: {', '.join(available) or 'none'}."
            )
    chosen = [
        name for name in available if (not include or name in include) and name not in exclude
    ]
    if not chosen:
        raise MigrationError(
            f"{path} has no tables to migrate"
            + (" after include and exclude" if available else "")
            + ". Check that src is the file that the application uses."
        )
    return chosen


def list_tables(source: SourceDatabase) -> tuple[list[str], list[LeftOut]]:
    """Ordinary tables by name, and all that is none (views, triggers, virtual tables)."""
    names: list[str] = []
    left: list[LeftOut] = []
    virtual: list[str] = []
    rows = source.query("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY rowid")
    for kind, name, _table, sql in rows:
        if kind != "table":
            continue
        words = tokenize(str(sql or ""))[:2]
        if len(words) == 2 and words[1].is_word("VIRTUAL"):
            virtual.append(name)
            left.append(
                LeftOut(
                    "virtual table",
                    name,
                    "PostgreSQL has no SQLite modules; load it anew",
                    str(sql),
                )
            )
    shadows = {v + suffix for v in virtual for suffix in _SHADOW_SUFFIXES}
    for kind, name, table, sql in rows:
        if kind == "table" and not name.startswith("sqlite_") and name not in virtual:
            if name in shadows:
                left.append(LeftOut("shadow table", name, "internal storage of a virtual table"))
            else:
                names.append(name)
        elif kind == "view":
            left.append(LeftOut("view", name, "views are SQL of SQLite; create it anew", str(sql)))
        elif kind == "trigger":
            left.append(
                LeftOut(
                    "trigger",
                    name,
                    f"on {table}: triggers are SQL of SQLite; create it anew",
                    str(sql),
                )
            )
    return names, left


def read_schema(source: SourceDatabase, include: list[str], exclude: list[str]) -> Schema:
    available, left = list_tables(source)
    chosen = select_tables(available, include, exclude, source.path)
    for name in available:
        if name not in chosen:
            left.append(LeftOut("table", name, "left out by include or exclude"))
    source.check_integrity(chosen)
    sequences: dict[str, int] = {}
    if source.query("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"):
        sequences = {
            str(n): s
            for n, s in source.query("SELECT name, seq FROM sqlite_sequence")
            if isinstance(s, int)
        }
    tables = []
    for name in chosen:
        table = _read_table(source, name)
        table.sequence = sequences.get(name)
        tables.append(table)
    return Schema(tables, left)


def _read_table(source: SourceDatabase, name: str) -> Table:
    quoted = quote_sqlite(name)
    sql = source.query("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
    text = parse_create_table(str(sql[0][0]))
    columns = [
        Column(
            name=column,
            declared=declared or "",
            not_null=bool(not_null),
            default=default,
            primary_key=key,
            generated=hidden in (2, 3),
            collation=text.collations.get(column.lower(), "BINARY"),
        )
        for _cid, column, declared, not_null, default, key, hidden in source.query(
            f"PRAGMA table_xinfo({quoted})"
        )
        if hidden != 1
    ]
    indexes = []
    for _seq, index, unique, origin, _partial in source.query(f"PRAGMA index_list({quoted})"):
        indexes.append(_read_index(source, index, bool(unique), origin))
    foreign: dict[int, ForeignKey] = {}
    for number, _seq, parent, child, to, update, delete, _match in source.query(
        f"PRAGMA foreign_key_list({quoted})"
    ):
        key = foreign.setdefault(number, ForeignKey([], parent, None, update, delete))
        key.columns.append(child)
        if to is not None:
            key.parent_columns = [*(key.parent_columns or []), to]
    rows = int(source.query(f"SELECT count(*) FROM {quoted}")[0][0])
    return Table(
        name,
        rows,
        columns,
        indexes[::-1],
        [foreign[number] for number in sorted(foreign, reverse=True)],
        text,
    )


def _read_index(source: SourceDatabase, name: str, unique: bool, origin: str) -> Index:
    sql = source.query("SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?", (name,))
    text = parse_create_index(sql[0][0]) if sql and sql[0][0] else None
    terms = []
    for seq, cid, column, descending, collation, is_key in source.query(
        f"PRAGMA index_xinfo({quote_sqlite(name)})"
    ):
        if not is_key:
            continue
        expression = None
        if cid == -2 and text is not None and seq < len(text.terms):
            expression = [t for t in text.terms[seq] if not (t.is_word("ASC") or t.is_word("DESC"))]
        terms.append(
            IndexTerm(
                column if cid >= 0 else ("rowid" if cid == -1 else None),
                bool(descending),
                (collation or "BINARY").upper(),
                expression,
            )
        )
    return Index(name, unique, origin, terms, text.where if text else None)


# A time with an offset: ...:SSZ, ...+HH:MM, ...-HH:MM after the date part.
_OFFSET = "substr({q}, 11) GLOB '*[-+Zz]*'"
_TIMESTAMP = "{q} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9][ T][0-9][0-9]:*'"
_HEX32 = "length({q}) = 32 AND {q} NOT GLOB '*[^0-9A-Fa-f]*'"
# Each expression costs as much as reading the table, hence those that are asked for.
_CLASSES = {
    "nulls": "total({q} IS NULL)",
    "integers": "total(typeof({q}) = 'integer')",
    "reals": "total(typeof({q}) = 'real')",
    "blobs": "total(typeof({q}) = 'blob')",
    "longest": "max(CASE WHEN typeof({q}) IN ('text', 'blob') THEN length({q}) END)",
}
_NUMBER = "CASE WHEN typeof({q}) IN ('integer', 'real') THEN {q} END"
_FORMS = {
    "with_offset": f"total(typeof({{q}}) = 'text' AND {_OFFSET})",
    "timestamps": f"total(typeof({{q}}) = 'text' AND {_TIMESTAMP})",
    "hex32": f"total(typeof({{q}}) = 'text' AND {_HEX32})",
    "lowest": f"min({_NUMBER})",
    "highest": f"max({_NUMBER})",
}
_MEASURED = ("longest", "lowest", "highest")
# SQLite's limit of columns in a result is 2000.
_PROFILED_AT_ONCE = 100


def profile_columns(
    source: SourceDatabase, table: Table, names: list[str], forms: set[str] | None = None
) -> None:
    """Looks at every value of these columns, in one pass; at those in `forms` closely (or all)."""
    by_name = {column.name: column for column in table.columns}
    for first in range(0, len(names), _PROFILED_AT_ONCE):
        part = [
            (name, measure, text)
            for name in names[first : first + _PROFILED_AT_ONCE]
            for measure, text in [
                *_CLASSES.items(),
                *(_FORMS.items() if forms is None or name in forms else ()),
            ]
        ]
        sql = ", ".join(text.replace("{q}", quote_sqlite(name)) for name, _measure, text in part)
        row = source.query(f"SELECT count(*), {sql} FROM {quote_sqlite(table.name)}")[0]
        found: dict[str, dict[str, Any]] = {}
        for (name, measure, _text), value in zip(part, row[1:]):
            known = value if measure in _MEASURED else int(value or 0)
            found.setdefault(name, {})[measure] = known
        for name, values in found.items():
            others = sum(values[n] for n in ("nulls", "integers", "reals", "blobs"))
            by_name[name].profile = replace(Profile(texts=row[0] - others), **values)


def has_value(source: SourceDatabase, table: Table, name: str, condition: str) -> bool:
    """Whether any value is so; ends at the first one. `{q}` stands for the column."""
    where = condition.replace("{q}", quote_sqlite(name))
    return bool(source.query(f"SELECT 1 FROM {quote_sqlite(table.name)} WHERE {where} LIMIT 1"))


NAIVE_TEXT = f"typeof({{q}}) = 'text' AND NOT ({_OFFSET})"
ANY_BLOB = "typeof({q}) = 'blob'"


def measure_tables(source: SourceDatabase, schema: Schema) -> None:
    """Bytes of each table with its indexes; by its share of the rows where dbstat is missing."""
    try:
        found = source.connection.execute(
            "SELECT m.tbl_name, sum(s.pgsize) FROM dbstat s "
            "JOIN sqlite_master m ON m.name = s.name WHERE s.aggregate = 1 GROUP BY 1"
        ).fetchall()
        sizes = {str(name): int(size) for name, size in found}
    except sqlite3.Error:
        pages = source.query("PRAGMA page_count")[0][0] * source.query("PRAGMA page_size")[0][0]
        rows = sum(table.rows for table in schema.tables) or 1
        sizes = {table.name: pages * table.rows // rows for table in schema.tables}
    for table in schema.tables:
        table.bytes = sizes.get(table.name)
