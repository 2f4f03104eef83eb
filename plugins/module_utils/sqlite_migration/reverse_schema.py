# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQLite schema of the way back: the original's own statements, else made from the catalog."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from . import target as pg
from .compare_rows import affinity, pg_quote
from .errors import MigrationError
from .schema import LeftOut, list_tables
from .source import SourceDatabase, quote_sqlite
from .verify_codec import Field

_DECLARED = {
    "int8": "INTEGER",
    "int4": "INTEGER",
    "int2": "INTEGER",
    "bool": "BOOLEAN",
    "float8": "REAL",
    "float4": "REAL",
    "text": "TEXT",
    "bytea": "BLOB",
    "json": "JSON",
    "jsonb": "JSON",
    "date": "DATE",
    "timestamp": "DATETIME",
    "timestamptz": "DATETIME",
    "time": "TIME",
    "timetz": "TEXT",
    "uuid": "CHAR(36)",
}
_ACTIONS = {"a": "", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}
_TEXT_DEFAULT = re.compile(r"'((?:[^']|'')*)'::[\w ]+(?:\(\d+\))?")
_NUMBER_DEFAULT = re.compile(r"\(?(-?\d+(?:\.\d+)?)\)?(?:::[\w ]+)?")


@dataclass
class Object:
    """One entry of sqlite_master; `table` is the one that it belongs to."""

    kind: str
    name: str
    table: str
    sql: str


@dataclass
class Made:
    create: str
    after: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def read_objects(original: SourceDatabase) -> list[Object]:
    """All that the original's schema has; shadow tables come with their virtual table."""
    names, left = list_tables(original)
    virtual = {item.name for item in left if item.kind == "virtual table"}
    shadow = {item.name for item in left if item.kind == "shadow table"}
    found = []
    for kind, name, table, sql in original.query(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql <> '' ORDER BY rowid"
    ):
        if name in shadow or table in shadow or str(name).startswith("sqlite_"):
            continue
        found.append(Object("virtual" if name in virtual else kind, name, table, sql))
    return found


def refuse_others(connection: Any, schema: str, views: set[str], exclude: list[str]) -> None:
    """Views and the like hold nothing of their own, so they are never copied in silence."""
    others = [
        text
        for text in pg.existing_objects(connection, schema)
        if text.split(" ")[0] in ("view", "materialized", "foreign")
    ]
    unknown = [t for t in others if t.split(" ", 1)[1].replace("view ", "", 1) not in views]
    unknown = [t for t in unknown if t.split("view ")[-1].split("table ")[-1] not in exclude]
    if unknown:
        raise MigrationError(
            f"Schema {schema} has objects that can't be copied to SQLite: {', '.join(unknown)}. "
            "Drop them, or set schema_from to a SQLite file that has views of the same names."
        )


def unsupported_columns(
    connection: Any, schema: str, target: str, name: str, known: set[str]
) -> None:
    """Types without a form in SQLite, unless the column came from there."""
    rows = pg.fetch(
        connection,
        """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod)
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = %s::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped
          AND (t.typcategory IN ('A', 'R', 'C', 'G', 'P', 'X') OR t.typname = 'interval')
        """,
        (f"{pg_quote(schema)}.{pg_quote(target)}",),
    )
    bad = [f"{name}.{column} ({kind})" for column, kind in rows if column not in known]
    if bad:
        raise MigrationError(
            f"SQLite has no type for these columns: {', '.join(bad)}. Nothing was written. Leave "
            "the table out with exclude, or change the columns' type.",
            columns=bad,
        )


def columns_to_add(
    original: SourceDatabase, name: str, fields: dict[str, Field], contract: list[dict[str, Any]]
) -> tuple[dict[str, str], set[str]]:
    """Columns that only PostgreSQL has, with SQLite types, and those that SQLite computes."""
    info = original.query(f"PRAGMA table_xinfo({quote_sqlite(name)})")
    targets = {str(c["name"]): str(c.get("target_name") or c["name"]) for c in contract}
    lower = {found.lower(): found for found in fields}
    rest = dict(fields)
    missing = []
    for row in info:
        if row[6] == 1:
            continue
        wanted = targets.get(str(row[1]), str(row[1]))
        found = wanted if wanted in rest else lower.get(wanted.lower(), "")
        if found not in rest:
            missing.append(str(row[1]))
        else:
            del rest[found]
    if missing:
        raise MigrationError(
            f"PostgreSQL's table {name} hasn't got these columns of the SQLite schema any more: "
            f"{', '.join(missing)}. Leave schema_from unset, so that the schema is made from "
            "PostgreSQL's catalog, or leave the table out with exclude."
        )
    computed = {str(row[1]).lower() for row in info if row[6] in (2, 3)}
    return {n: declared_type(made) for n, made in rest.items()}, computed


def declared_type(made: Field) -> str:
    if made.type in ("varchar", "bpchar"):
        name = "VARCHAR" if made.type == "varchar" else "CHAR"
        return f"{name}({made.length})" if made.length else "TEXT"
    if made.type == "numeric":
        known = made.precision is not None
        return f"NUMERIC({made.precision}, {made.scale})" if known else "NUMERIC"
    return _DECLARED.get(made.type, "TEXT")


def make_table(
    connection: Any, schema: str, target: str, name: str, fields: dict[str, Field]
) -> Made:
    """A table from the catalog: types, keys, defaults that are plain values, plain indexes."""
    full = f"{pg_quote(schema)}.{pg_quote(target)}"
    made = Made("")
    columns = pg.fetch(
        connection,
        """
        SELECT a.attname, a.attnotnull, a.attidentity <> '', a.attgenerated <> '',
               pg_get_expr(d.adbin, d.adrelid)
        FROM pg_catalog.pg_attribute a
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = %s::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum
        """,
        (full,),
    )
    constraints = pg.fetch(
        connection,
        """
        SELECT c.conname, c.contype, c.confupdtype, c.confdeltype, c.condeferrable, f.relname,
               ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, i)
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.n
                     ORDER BY k.i),
               ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY k(n, i)
                     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.n
                     ORDER BY k.i)
        FROM pg_catalog.pg_constraint c
        LEFT JOIN pg_catalog.pg_class f ON f.oid = c.confrelid
        WHERE c.conrelid = %s::pg_catalog.regclass ORDER BY c.conname
        """,
        (full,),
    )
    key: list[str] = next((list(c[6]) for c in constraints if c[1] == "p"), [])
    own_number = len(key) == 1 and fields[key[0]].type in ("int8", "int4", "int2")
    lines = []
    for column, not_null, identity, generated, default in columns:
        line = f"{quote_sqlite(column)} {declared_type(fields[column])}"
        if own_number and column == key[0]:
            counted = identity or str(default or "").startswith("nextval(")
            line += " PRIMARY KEY" + (" AUTOINCREMENT" if counted else "")
            default = None
        if not_null:
            line += " NOT NULL"
        text = None if identity else _default(default, fields[column])
        if text is not None and not generated:
            line += f" DEFAULT {text}"
        elif default is not None and not identity:
            what = "generated column" if generated else "default"
            reason = "its values are copied" if generated else "SQL of PostgreSQL"
            made.left_out.append(LeftOut(what, f"{name}.{column}", reason))
        lines.append(line)
    if key and not own_number:
        lines.append(f"PRIMARY KEY ({_list(key)})")
    for constraint, kind, update, delete, deferred, parent, local, remote in constraints:
        if kind == "u":
            lines.append(f"UNIQUE ({_list(local)})")
        elif kind == "f":
            actions = "".join(
                f" ON {event} {_ACTIONS[action]}"
                for event, action in (("UPDATE", update), ("DELETE", delete))
                if _ACTIONS[action]
            )
            actions += " DEFERRABLE INITIALLY DEFERRED" if deferred else ""
            lines.append(
                f"FOREIGN KEY ({_list(local)}) REFERENCES {quote_sqlite(parent)} "
                f"({_list(remote)}){actions}"
            )
        elif kind in ("c", "x"):
            what = "check" if kind == "c" else "exclusion constraint"
            made.left_out.append(LeftOut(what, f"{name}: {constraint}", "SQL of PostgreSQL"))
    made.create = f"CREATE TABLE {quote_sqlite(name)} (\n    " + ",\n    ".join(lines) + "\n)"
    _indexes(connection, full, name, made)
    return made


def _list(names: list[str]) -> str:
    return ", ".join(map(quote_sqlite, names))


def _default(expression: Any, made: Field) -> str | None:
    text = str(expression or "")
    if text in ("true", "false"):
        return str(int(text == "true"))
    if text in ("CURRENT_TIMESTAMP", "now()") and made.type in ("timestamp", "timestamptz"):
        return "CURRENT_TIMESTAMP"
    match = _NUMBER_DEFAULT.fullmatch(text)
    if match:
        return match.group(1)
    match = _TEXT_DEFAULT.fullmatch(text)
    if match and affinity(declared_type(made)) in ("TEXT", "NUMERIC"):
        return f"'{match.group(1)}'"
    return None


def _indexes(connection: Any, full: str, name: str, made: Made) -> None:
    rows = pg.fetch(
        connection,
        """
        SELECT c.relname, i.indisunique,
               i.indpred IS NULL AND i.indexprs IS NULL AND m.amname = 'btree',
               ARRAY(SELECT a.attname::text || CASE WHEN (i.indoption[k] & 1) = 1 THEN ' DESC'
                                                    ELSE '' END
                     FROM generate_series(0, i.indnkeyatts - 1) AS k
                     JOIN pg_catalog.pg_attribute a
                       ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k]
                     ORDER BY k)
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        JOIN pg_catalog.pg_am m ON m.oid = c.relam
        WHERE i.indrelid = %s::pg_catalog.regclass
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid
                          AND k.contype IN ('p', 'u', 'x'))
        ORDER BY c.relname
        """,
        (full,),
    )
    for index, unique, plain, columns in rows:
        if not plain:
            reason = "an expression, a condition or a method of PostgreSQL"
            made.left_out.append(LeftOut("index", index, reason))
            continue
        terms = ", ".join(
            quote_sqlite(c.removesuffix(" DESC")) + (" DESC" if c.endswith(" DESC") else "")
            for c in columns
        )
        made.after.append(
            f"CREATE {'UNIQUE ' if unique else ''}INDEX {quote_sqlite(index)} "
            f"ON {quote_sqlite(name)} ({terms})"
        )
