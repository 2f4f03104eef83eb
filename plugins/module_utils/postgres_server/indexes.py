# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes that are asked for, made while the tables are written to, and what others there are.

Nothing is ever dropped but an invalid index with the name of one that is asked for: what a build
that was cut short has left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .connection import Connection, StatementError, quote
from .errors import PostgresError

METHODS = ("btree", "hash", "gin", "gist", "brin", "spgist")
_MAXIMUM_NAME = 63
# One builder at a time in a database: two would see each other's unfinished index as a leftover.
_LOCK = 0x676F6C697669


@dataclass(frozen=True)
class Index:
    """An index as it is asked for: over columns, or over one expression."""

    database: str
    table: str
    columns: tuple[str, ...] = ()
    expression: str = ""
    schema: str = "public"
    unique: bool = False
    method: str = "btree"
    where: str = ""
    name: str = ""

    @property
    def label(self) -> str:
        what = ", ".join(self.columns) or self.expression
        return f"{self.schema}.{self.table} ({what})"

    @property
    def index_name(self) -> str:
        if self.name:
            return self.name
        parts = [self.table, *self.columns] if self.columns else [self.table, "expr"]
        text = "_".join([*parts, "key" if self.unique else "idx"])
        plain = not (self.expression or self.where) and self.method == "btree"
        if plain and len(text.encode()) <= _MAXIMUM_NAME:
            return text
        # Two that differ in what their name can't show must not get the same.
        mark = hashlib.sha256(
            "\0".join([*self.columns, self.expression, self.where, self.method]).encode()
        ).hexdigest()[:8]
        return text.encode()[: _MAXIMUM_NAME - 9].decode(errors="ignore") + "_" + mark

    def statement(self) -> str:
        over = ", ".join(quote(name) for name in self.columns) or f"({self.expression})"
        return (
            f"CREATE {'UNIQUE ' if self.unique else ''}INDEX CONCURRENTLY {quote(self.index_name)}"
            f" ON {quote(self.schema)}.{quote(self.table)} USING {self.method} ({over})"
            + (f" WHERE {self.where}" if self.where else "")
        )


def problems(wanted: Sequence[Index]) -> list[str]:
    """What can't work in the list, before a server is asked."""
    found = []
    names: dict[tuple[str, str, str], str] = {}
    for number, one in enumerate(wanted, 1):
        where = f"postgres_indexes, entry {number} ({one.database}: {one.label})"
        if bool(one.columns) == bool(one.expression):
            found.append(f"{where} needs either columns or an expression.")
        if one.method not in METHODS:
            found.append(f"{where} has the method {one.method}; known: {', '.join(METHODS)}.")
        if one.unique and one.method != "btree":
            found.append(f"{where} is unique, which only btree can be.")
        if len(one.index_name.encode()) > _MAXIMUM_NAME:
            found.append(f"{where} has a name longer than {_MAXIMUM_NAME} bytes.")
        key = (one.database, one.schema, one.index_name)
        if key in names:
            found.append(f"{where} has the same name as {names[key]}; give it a name of its own.")
        names[key] = one.label
    return found


@dataclass(frozen=True)
class Existing:
    """An index of a table, as the catalogue has it."""

    name: str
    columns: tuple[str, ...]
    plain: bool
    unique: bool
    method: str
    valid: bool
    partial: bool = False
    definition: str = ""
    building: int = 0


_TABLES = """
SELECT n.nspname, c.relname, a.attname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname = ANY (%s)
"""
_INDEXES = """
SELECT n.nspname, t.relname, c.relname, m.amname, i.indisunique,
  i.indisvalid AND i.indisready, i.indpred IS NOT NULL,
  -- Plain: columns in their usual order and with their type's usual way of comparing.
  i.indexprs IS NULL AND i.indpred IS NULL AND NOT EXISTS (
    SELECT 1 FROM unnest(i.indoption) o WHERE o <> 0) AND NOT EXISTS (
    SELECT 1 FROM unnest(i.indclass) k JOIN pg_opclass p ON p.oid = k WHERE NOT p.opcdefault),
  ARRAY(SELECT a.attname::text FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY
        AS k (num, pos) JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.num
        ORDER BY k.pos),
  pg_get_indexdef(i.indexrelid),
  coalesce((SELECT p.pid FROM pg_stat_progress_create_index p
            WHERE p.index_relid = i.indexrelid LIMIT 1), 0)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_am m ON m.oid = c.relam
WHERE n.nspname = ANY (%s)
"""

Tables = dict[tuple[str, str], set[str]]


@dataclass
class Decision:
    """What is to be done for one index: ``create``, ``replace``, or nothing, and why."""

    index: Index
    action: str
    why: str = ""


def decide(
    one: Index,
    tables: Tables,
    existing: dict[str, Existing],
    planned: Sequence[Index] = (),
) -> Decision:
    """``existing`` are the table's indexes by name, ``planned`` all that are asked for."""
    columns = tables.get((one.schema, one.table))
    if columns is None:
        return Decision(one, "absent", f"there is no table {one.schema}.{one.table}")
    unknown = [name for name in one.columns if name not in columns]
    if unknown:
        return Decision(
            one, "absent", f"{one.schema}.{one.table} has no column {', '.join(unknown)}"
        )
    same_name = existing.get(one.index_name)
    if same_name is not None:
        if same_name.building:
            raise PostgresError(
                f"Database {one.database}: the index {one.index_name} is being built by the process"
                f" {same_name.building}; run again when it is done."
            )
        if not same_name.valid:
            return Decision(one, "replace", "an unfinished one of that name was left over")
        plain = bool(one.columns) and not one.where
        differs = same_name.unique != one.unique or same_name.method != one.method
        if plain and (not same_name.plain or same_name.columns != one.columns):
            differs = True
        if bool(one.where) != same_name.partial:
            differs = True
        if differs:
            raise PostgresError(
                f"Database {one.database}: there is another index called {one.index_name}:"
                f" {same_name.definition}. Give the one in postgres_indexes another name, or drop"
                " that one."
            )
        return Decision(one, "present")
    if one.columns and not one.where and one.method == "btree":
        for other in existing.values():
            if not (other.valid and other.plain and other.method == "btree"):
                continue
            if one.unique:
                fits = other.unique and other.columns == one.columns
            else:
                fits = other.columns[: len(one.columns)] == one.columns
            if fits:
                return Decision(one, "covered", other.name)
        # So that the first run makes what a second one would leave as it is.
        for next_one in planned:
            longer = len(next_one.columns) > len(one.columns)
            same_table = (next_one.schema, next_one.table) == (one.schema, one.table)
            plain = not next_one.where and next_one.method == "btree" and not one.unique
            known = set(next_one.columns) <= columns
            if longer and same_table and plain and known:
                if next_one.columns[: len(one.columns)] == one.columns:
                    return Decision(one, "covered", next_one.index_name)
    return Decision(one, "create")


def _read(
    connection: Connection, schemas: Sequence[str]
) -> tuple[Tables, dict[tuple[str, str], dict[str, Existing]], dict[tuple[str, str], str]]:
    tables: Tables = {}
    for schema, table, column in connection.rows(_TABLES, (list(schemas),)):
        tables.setdefault((schema, table), set()).add(column)
    by_table: dict[tuple[str, str], dict[str, Existing]] = {}
    owners: dict[tuple[str, str], str] = {}
    for row in connection.rows(_INDEXES, (list(schemas),)):
        schema, table, name, method, unique, valid, partial, plain, columns, text, pid = row
        by_table.setdefault((schema, table), {})[name] = Existing(
            name, tuple(columns), plain, unique, method, valid, partial, text, pid
        )
        owners[(schema, name)] = table
    return tables, by_table, owners


def _wait_reason(connection: Connection) -> str:
    rows = connection.rows(
        "SELECT pid, usename, application_name, now() - xact_start FROM pg_stat_activity"
        " WHERE xact_start < now() - interval '1 s' AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' ORDER BY xact_start LIMIT 3"
    )
    told = [f"{pid} ({user}, {name or 'no name'}, open for {age})" for pid, user, name, age in rows]
    return "; ".join(told) or "none that is still open"


def make(
    port: int, wanted: Sequence[Index], check: bool, lock_timeout: int = 900
) -> dict[str, Any]:
    """Make those that lack; the lists tell of each what became of it."""
    found = problems(wanted)
    if found:
        raise PostgresError(" ".join(found))
    told: dict[str, Any] = {"created": [], "replaced": [], "present": [], "covered": [],
                            "absent": []}  # fmt: skip
    for database in dict.fromkeys(one.database for one in wanted):
        mine = [one for one in wanted if one.database == database]
        schemas = sorted({one.schema for one in mine})
        with Connection(port, database) as connection:
            connection.do(f"SET lock_timeout = {int(lock_timeout) * 1000}")
            connection.do("SET statement_timeout = 0")
            if not check:
                _lock(connection, database)
            tables, by_table, owners = _read(connection, schemas)
            decisions = []
            for one in mine:
                other = owners.get((one.schema, one.index_name))
                if other is not None and other != one.table:
                    raise PostgresError(
                        f"Database {database}: the name {one.index_name} is an index of {other};"
                        f" give the one on {one.table} another name."
                    )
                there = by_table.get((one.schema, one.table), {})
                decisions.append(decide(one, tables, there, mine))
            for decision in decisions:
                _carry_out(connection, decision, check, told)
    return told


def _lock(connection: Connection, database: str) -> None:
    try:
        connection.rows("SELECT pg_advisory_lock(%s)", (_LOCK,))
    except StatementError as error:
        if error.code != "55P03":
            raise
        raise PostgresError(
            f"Database {database}: another run builds indexes there; run again when it is done."
        ) from None


def _carry_out(
    connection: Connection, decision: Decision, check: bool, told: dict[str, Any]
) -> None:
    one = decision.index
    entry = {"database": one.database, "index": one.index_name, "on": one.label}
    if decision.why:
        entry["why"] = decision.why
    if decision.action in ("create", "replace") and not check:
        name = f"{quote(one.schema)}.{quote(one.index_name)}"
        try:
            if decision.action == "replace":
                connection.do(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            connection.do(one.statement())
        except StatementError as error:
            if error.code == "55P03":
                raise PostgresError(
                    f"Database {one.database}: {one.index_name} on {one.label} had to wait too long"
                    f" for open transactions: {_wait_reason(connection)}. End them"
                    " (SELECT pg_terminate_backend(PID)) and run again."
                ) from None
            if error.code == "23505":
                raise PostgresError(
                    f"{error} The rows are not unique in {one.label}; mend them, or ask for an"
                    " index that is not unique. The unfinished index is removed by the next run."
                ) from None
            raise
        valid = connection.rows(
            "SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass(%s)", (name,)
        )
        if not valid or not valid[0][0]:
            raise PostgresError(
                f"Database {one.database}: {one.index_name} on {one.label} was made and is not"
                " valid; run again."
            )
    key = {"create": "created", "replace": "replaced"}.get(decision.action, decision.action)
    told[key].append(entry)


_REPORT = """
SELECT json_build_object(
'indexes', (SELECT count(*) FROM pg_stat_user_indexes),
'invalid', (SELECT coalesce(json_agg(i.indexrelid::regclass::text), '[]') FROM pg_index i
  WHERE NOT i.indisvalid AND NOT EXISTS (
    SELECT 1 FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)),
'statistics_since', (SELECT coalesce(stats_reset, (pg_stat_file('base/' || datid
  || '/PG_VERSION')).modification) FROM pg_stat_database WHERE datname = current_database()),
'statistics_days', (SELECT floor(extract(epoch FROM now() - coalesce(stats_reset,
  (pg_stat_file('base/' || datid || '/PG_VERSION')).modification)) / 86400)
  FROM pg_stat_database WHERE datname = current_database()),
'unused', (SELECT coalesce(json_agg(json_build_object('index', s.indexrelid::regclass::text,
  'table', s.relid::regclass::text, 'bytes', pg_relation_size(s.indexrelid))
  ORDER BY pg_relation_size(s.indexrelid) DESC), '[]')
  FROM pg_stat_user_indexes s JOIN pg_index i USING (indexrelid)
  WHERE s.idx_scan = 0 AND NOT i.indisunique AND i.indisvalid),
'duplicates', (SELECT coalesce(json_agg(same), '[]') FROM (
  SELECT string_agg(indexrelid::regclass::text, ' = ' ORDER BY indexrelid) AS same
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
  WHERE EXISTS (SELECT 1 FROM pg_stat_user_indexes s WHERE s.indexrelid = i.indexrelid)
  GROUP BY i.indrelid, i.indkey::text, i.indclass::text, i.indoption::text, i.indcollation::text,
    pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid), c.relam
  HAVING count(*) > 1) d),
'scanned_tables', (SELECT coalesce(json_agg(json_build_object('table', relid::regclass::text,
  'rows', n_live_tup, 'sequential_scans', seq_scan, 'rows_read', seq_tup_read,
  'index_scans', idx_scan) ORDER BY seq_tup_read DESC), '[]') FROM pg_stat_user_tables
  WHERE n_live_tup >= %(rows)s AND seq_scan >= %(scans)s AND seq_scan > coalesce(idx_scan, 0) / 10),
'unindexed_foreign_keys', (SELECT coalesce(json_agg(c.conrelid::regclass::text || ' (' || (
    SELECT string_agg(a.attname, ', ' ORDER BY k.pos) FROM unnest(c.conkey) WITH ORDINALITY
    AS k (num, pos) JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.num) || ')'),
  '[]') FROM pg_constraint c WHERE c.contype = 'f' AND NOT EXISTS (
    SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indisvalid AND i.indpred IS NULL
    AND i.indnkeyatts >= cardinality(c.conkey) AND c.conkey @> (
      SELECT array_agg(n) FROM unnest((i.indkey::int2[])[0:cardinality(c.conkey) - 1]) n))),
'without_primary_key', (SELECT coalesce(json_agg(s.relid::regclass::text), '[]')
  FROM pg_stat_user_tables s WHERE NOT EXISTS (
    SELECT 1 FROM pg_index i WHERE i.indrelid = s.relid AND i.indisprimary)))
"""


def report(port: int, databases: Sequence[str], rows: int, scans: int) -> dict[str, Any]:
    """Of each database: unused, doubled and invalid indexes, and where some may be missing."""
    told = {}
    for database in databases:
        with Connection(port, database) as connection:
            told[database] = connection.rows(_REPORT, {"rows": rows, "scans": scans})[0][0]
    return told
