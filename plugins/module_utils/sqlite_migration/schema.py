# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a SQLite database holds, as plain data; nothing about PostgreSQL here."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import MigrationError
from .source import SourceDatabase, quote_sqlite
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
    """How many values of each storage class a column holds."""

    nulls: int = 0
    integers: int = 0
    reals: int = 0
    texts: int = 0
    blobs: int = 0
    with_offset: int = 0


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
        taken = {column.name.lower() for column in self.columns}
        return next((n for n in ("rowid", "_rowid_", "oid") if n not in taken), "NULL")


@dataclass
class LeftOut:
    """Something in the source that isn't migrated."""

    kind: str
    name: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        return {"kind": self.kind, "name": self.name, "reason": self.reason}


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
                LeftOut("virtual table", name, "PostgreSQL has no SQLite modules; load it anew")
            )
    shadows = {v + suffix for v in virtual for suffix in _SHADOW_SUFFIXES}
    for kind, name, table, _sql in rows:
        if kind == "table" and not name.startswith("sqlite_") and name not in virtual:
            if name in shadows:
                left.append(LeftOut("shadow table", name, "internal storage of a virtual table"))
            else:
                names.append(name)
        elif kind == "view":
            left.append(LeftOut("view", name, "views are SQL of SQLite; create it anew"))
        elif kind == "trigger":
            left.append(
                LeftOut("trigger", name, f"on {table}: triggers are SQL of SQLite; create it anew")
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


def profile_columns(source: SourceDatabase, table: Table, names: list[str]) -> None:
    """Counts the storage classes of those columns whose declared type doesn't say enough."""
    if not names:
        return
    parts = []
    for name in names:
        q = quote_sqlite(name)
        parts += [
            f"total({q} IS NULL)",
            f"total(typeof({q}) = 'integer')",
            f"total(typeof({q}) = 'real')",
            f"total(typeof({q}) = 'text')",
            f"total(typeof({q}) = 'blob')",
            # A time with an offset: ...:SSZ, ...+HH:MM, ...-HH:MM after the date part.
            f"total(typeof({q}) = 'text' AND (substr({q}, 11) GLOB '*[-+Zz]*'))",
        ]
    row = source.query(f"SELECT {', '.join(parts)} FROM {quote_sqlite(table.name)}")[0]
    by_name = {column.name: column for column in table.columns}
    for number, name in enumerate(names):
        values = [int(value or 0) for value in row[number * 6 : number * 6 + 6]]
        by_name[name].profile = Profile(*values)
