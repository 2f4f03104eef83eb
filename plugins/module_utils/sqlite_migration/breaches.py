# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All rows that break CHECK constraints and unique keys of the target, by their keys.

PostgreSQL stops at the first. So the rows go into a temporary table that has the columns alone, and
each constraint is asked there. Exclusion constraints are not among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import target as pg
from .careful import SAMPLE, CarefulRows, Quarantine, TableReader, TextStream, examine, is_outage
from .errors import MigrationError
from .expressions import quote_identifier
from .plan import Plan, PlannedTable
from .source import SourceDatabase

_CHECKS = """
SELECT c.conname, pg_catalog.pg_get_expr(c.conbin, c.conrelid),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) ORDER BY a.attnum)
FROM pg_catalog.pg_constraint c
WHERE c.conrelid = %s::pg_catalog.regclass AND c.contype = 'c'
ORDER BY c.conname
"""
_UNIQUE = """
SELECT x.relname, pg_catalog.pg_get_expr(i.indpred, i.indrelid), {distinct},
       ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid, k, true)
             FROM pg_catalog.generate_series(1, i.indnkeyatts::integer) AS k),
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) ORDER BY a.attnum)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = %s::pg_catalog.regclass AND i.indisunique
ORDER BY NOT i.indisprimary, x.relname
"""


@dataclass(frozen=True)
class _Question:
    """One constraint; `numbers` selects the numbers of the rows that break it."""

    constraint: str
    columns: list[str]
    reason: str
    numbers: str


def find_breaches(
    connection: Any, source: SourceDatabase, plan: Plan, tables: list[PlannedTable]
) -> list[dict[str, Any]]:
    """In the current transaction, of which nothing is left.

    Each has table, column (those of the constraint), constraint, reason, count, rows and action.
    A table of which it can't be told, such as for want of the right to make temporary tables, is
    left out.
    """
    import psycopg2

    found: list[dict[str, Any]] = []
    for table in tables:
        pg.execute(connection, "SAVEPOINT breaches")
        try:
            found += _of_table(connection, source, plan, table)
        except (psycopg2.Error, MigrationError) as error:
            if isinstance(error, psycopg2.Error) and connection.closed:
                raise
        pg.execute(connection, "ROLLBACK TO SAVEPOINT breaches")
        pg.execute(connection, "RELEASE SAVEPOINT breaches")
    return found


def _of_table(
    connection: Any, source: SourceDatabase, plan: Plan, table: PlannedTable
) -> list[dict[str, Any]]:
    full = f"{quote_identifier(plan.schema)}.{quote_identifier(table.target_name)}"
    if plan.mode == "create":
        pg.execute(connection, f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(plan.schema)}")
        pg.execute(connection, table.create)
        for statement in table.keys:
            _make_key(connection, statement.sql)
    number = "golive_row"
    while any(column.target_name == number for column in table.columns):
        number += "_"
    questions = _questions(connection, full, number)
    if not questions:
        return []
    pg.execute(
        connection, f"CREATE TEMPORARY TABLE golive_breaches (LIKE {full} INCLUDING GENERATED)"
    )
    pg.execute(connection, f"ALTER TABLE pg_temp.golive_breaches ADD {number} bigserial")
    refused = examine(connection, source, plan.schema, table)[1]
    columns = [column for column in table.columns if not column.generated]
    names = ", ".join(quote_identifier(column.target_name) for column in columns)
    rows = CarefulRows(TableReader(source, table), refused, Quarantine(plan.schema))
    with connection.cursor() as cursor:
        cursor.copy_expert(
            f"COPY pg_temp.golive_breaches ({names}) FROM STDIN (FORMAT text, ENCODING 'UTF8')",
            TextStream(iter(rows)),
        )
    broken = []
    for question in questions:
        count, sample = _ask(connection, question)
        if count:
            broken.append((question, count, sample))
    wanted = {number for _question, _count, sample in broken for number in sample}
    labels = row_labels(source, table, refused, wanted)
    return [
        {
            "table": table.name,
            "column": ", ".join(question.columns),
            "constraint": question.constraint,
            "reason": question.reason,
            "count": count,
            "rows": [labels[number] for number in sample if number in labels],
            "action": "stops the migration",
        }
        for question, count, sample in broken
    ]


def row_labels(
    source: SourceDatabase,
    table: PlannedTable,
    refused: dict[str, dict[int, str]],
    wanted: set[int],
) -> dict[int, dict[str, Any]]:
    """Keys in the source of the rows with these numbers, counted from 1 as COPY counts them."""
    reader = TableReader(source, table)
    rows = CarefulRows(reader, refused, Quarantine(""))
    labels: dict[int, dict[str, Any]] = {}
    lines = iter(rows)
    for number, _line in enumerate(lines, 1):
        if number in wanted:
            labels[number] = reader.label(rows.at)
        if len(labels) == len(wanted):
            break
    # Its statement would hold a lock of the file.
    lines.close()
    return labels


def _make_key(connection: Any, sql: str) -> None:
    import psycopg2

    pg.execute(connection, "SAVEPOINT key")
    try:
        pg.execute(connection, sql)
    except psycopg2.Error as error:
        if is_outage(error, connection):
            raise
        pg.execute(connection, "ROLLBACK TO SAVEPOINT key")
    pg.execute(connection, "RELEASE SAVEPOINT key")


def _questions(connection: Any, full: str, number: str) -> list[_Question]:
    scratch = "pg_temp.golive_breaches"
    questions = [
        _Question(
            name,
            columns,
            f"breaks CHECK {expression if expression.startswith('(') else f'({expression})'}, "
            f"constraint {name}",
            f"SELECT {number} FROM {scratch} WHERE NOT ({expression})",
        )
        for name, expression, columns in pg.fetch(connection, _CHECKS, (full,))
    ]
    # The setting is as old as PostgreSQL 15.
    distinct = "NOT i.indnullsnotdistinct" if connection.server_version >= 150000 else "true"
    sql = _UNIQUE.replace("{distinct}", distinct)
    for name, predicate, nulls_differ, keys, columns in pg.fetch(connection, sql, (full,)):
        conditions = [f"({key}) IS NOT NULL" for key in keys] if nulls_differ else []
        conditions += [f"({predicate})"] if predicate else []
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        parts = ", ".join(f"({key})" for key in keys)
        questions.append(
            _Question(
                name,
                columns,
                f"the same {', '.join(keys)} as another row, unique by {name}",
                f"SELECT {number} FROM (SELECT {number}, pg_catalog.count(*) OVER (PARTITION BY "
                f"{parts}) AS among FROM {scratch}{where}) AS rows WHERE among > 1",
            )
        )
    return questions


def _ask(connection: Any, question: _Question) -> tuple[int, list[int]]:
    import psycopg2

    pg.execute(connection, "SAVEPOINT question")
    count, sample = 0, []
    try:
        count, sample = pg.fetch(
            connection,
            "SELECT pg_catalog.count(*), (pg_catalog.array_agg(n ORDER BY n))[1:%s] "
            f"FROM ({question.numbers.replace('%', '%%')}) AS broken (n)",
            (SAMPLE,),
        )[0]
    except psycopg2.Error as error:
        # Such as a CHECK that divides by zero: PostgreSQL's own message has told it.
        if is_outage(error, connection):
            raise
        pg.execute(connection, "ROLLBACK TO SAVEPOINT question")
    pg.execute(connection, "RELEASE SAVEPOINT question")
    return count, sample or []
