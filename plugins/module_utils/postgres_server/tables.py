# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage parameters of tables: as given, and autovacuum's by a table's size.

Autovacuum waits by default until a fifth of a table's rows are dead. Of a hundred million rows that
is twenty million, and a vacuum of hours. The share goes down with the size, in steps, so that a
second run finds what the first one set; it is never raised again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .connection import Connection, quote
from .errors import PostgresError

# Rows from which a step holds, and the shares for vacuum (dead and inserted rows) and analyze.
STEPS = ((1_000_000, "0.05", "0.02"), (10_000_000, "0.02", "0.01"), (100_000_000, "0.005", "0.005"))
_VACUUM = ("autovacuum_vacuum_scale_factor", "autovacuum_vacuum_insert_scale_factor")
_ANALYZE = ("autovacuum_analyze_scale_factor",)


@dataclass(frozen=True)
class Table:
    """A table with its estimated rows and its storage parameters."""

    schema: str
    name: str
    rows: float
    options: Mapping[str, str]

    @property
    def quoted(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"


def by_size(rows: float, current: Mapping[str, str]) -> dict[str, str]:
    """What a table of that size lacks. A value that is not of our steps is the user's and stays."""
    reached = [step for step in STEPS if rows >= step[0]]
    if not reached:
        return {}
    _rows, vacuum, analyze = reached[-1]
    wanted = dict.fromkeys(_VACUUM, vacuum) | dict.fromkeys(_ANALYZE, analyze)
    ours = {value for step in STEPS for value in step[1:]}
    return {
        name: value
        for name, value in wanted.items()
        if name not in current or (current[name] in ours and float(current[name]) > float(value))
    }


_TABLES = """
SELECT n.nspname, c.relname, greatest(c.reltuples, s.n_live_tup)::float8,
  coalesce(c.reloptions, '{}')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'm') AND n.nspname NOT LIKE 'pg\\_%'
AND n.nspname <> 'information_schema' ORDER BY 1, 2
"""


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def statements(
    tables: Sequence[Table], given: Mapping[tuple[str, str], Mapping[str, Any]], sized: bool
) -> list[str]:
    """ALTER TABLE for each table that differs. What is given for a table wins over its size."""
    done = []
    for table in tables:
        own = {
            name: _text(value) for name, value in given.get((table.schema, table.name), {}).items()
        }
        wanted = by_size(table.rows, table.options) if sized else {}
        wanted = {name: value for name, value in wanted.items() if name not in own}
        wanted |= {n: v for n, v in own.items() if table.options.get(n) != v}
        if wanted:
            texts = ", ".join(f"{n} = '{v}'" for n, v in sorted(wanted.items()))
            done.append(f"ALTER TABLE {table.quoted} SET ({texts})")
    return done


def apply(
    port: int,
    databases: Sequence[str],
    given: Sequence[Mapping[str, Any]],
    sized: bool,
    check: bool,
) -> dict[str, Any]:
    """Statements that were run, or would be, and the given tables that are not there."""
    told: dict[str, Any] = {"statements": [], "absent": []}
    for database in databases:
        mine = {
            (str(one["schema"]), str(one["table"])): one["settings"]
            for one in given
            if one["database"] == database
        }
        if not mine and not sized:
            continue
        with Connection(port, database) as connection:
            tables = [
                Table(schema, name, rows or 0, dict(text.split("=", 1) for text in options))
                for schema, name, rows, options in connection.rows(_TABLES)
            ]
            there = {(table.schema, table.name) for table in tables}
            told["absent"] += [
                f"{database}: {schema}.{name}"
                for schema, name in mine
                if (schema, name) not in there
            ]
            connection.do("SET lock_timeout = '10s'")
            for text in statements(tables, mine, sized):
                if not check:
                    connection.do(text)
                told["statements"].append({"database": database, "statement": text})
    return told


def problems(given: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names and values that could be anything else than a storage parameter."""
    found = []
    for number, one in enumerate(given, 1):
        for name, value in dict(one["settings"]).items():
            plain = name.replace("_", "").replace(".", "")
            if not (plain.isascii() and plain.isalnum()) or "'" in str(value):
                found.append(
                    f"postgres_table_settings, entry {number} ({one['table']}): {name} = {value} is"
                    " no storage parameter."
                )
    return found


def refuse(given: Sequence[Mapping[str, Any]]) -> None:
    found = problems(given)
    if found:
        raise PostgresError(" ".join(found))
