# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kept exactly or listed by row, for every case of cases/fidelity.py; nothing in between.

The figures for people: python -m pytest -s tests/integration/test_fidelity.py
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.verify import (
    VerifyRequest,
    verify,
)
from tests.integration.cases.compare import original, same, storage_class, text_of
from tests.integration.cases.fidelity import BLOBS, KEPT, STRUCTURES, UNTYPED, VALUES, Structure

if TYPE_CHECKING:
    from tests.integration.conftest import Database

psycopg2 = pytest.importorskip("psycopg2")

MakeSource = Callable[[str], Path]
BROKEN = {"broken_utf8", "surrogate", "overlong"}


def build(path: Path, encoding: str) -> dict[str, list[str]]:
    """One table a declared type, one row a value; the rowid is the value's place."""
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA encoding = '{encoding}'")
    tables = {}
    for number, declared in enumerate(KEPT):
        names = [
            name
            for name in VALUES
            if not (declared in UNTYPED and name in BLOBS)
            and not (encoding != "UTF-8" and name in BROKEN)
        ]
        connection.execute(f"CREATE TABLE v{number} (id INTEGER PRIMARY KEY, c {declared})")
        for place, name in enumerate(names):
            connection.execute(f"INSERT INTO v{number} VALUES ({place}, {VALUES[name]})")
        tables[declared] = names
    connection.commit()
    connection.close()
    return tables


def read_source(path: Path, table: str) -> list[Any]:
    connection = sqlite3.connect(path)
    connection.text_factory = text_of
    rows = connection.execute(f"SELECT c FROM {table} ORDER BY id").fetchall()
    connection.close()
    return [row[0] for row in rows]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_values(database: Database, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "values.db"
    tables = build(path, encoding)
    with pytest.raises(MigrationError) as caught:
        database.migrate(path)
    counts: Counter[str] = Counter()
    for entry in caught.value.details["bad_values"]:
        counts[entry["table"]] += entry["count"]
        assert entry["column"] == "c" and 1 <= len(entry["rows"]) <= entry["count"]
    assert database.relations() == []

    database.migrate(path, on_bad_value="quarantine")
    assert verify(VerifyRequest(str(path), database.target, depth="full")).compared
    set_aside: dict[str, dict[int, tuple[str, bytes]]] = {}
    for table, key, storage, kept, reason in database.query(
        "SELECT table_name, row_key, storage_class, original, reason "
        "FROM golive_webstack.quarantine WHERE column_name = 'c'"
    ):
        assert reason
        rows = set_aside.setdefault(table, {})
        assert next(iter(key.values())) not in rows
        rows[next(iter(key.values()))] = (storage, bytes(kept))
    wrong = []
    totals: Counter[str] = Counter()
    for number, (declared, names) in enumerate(tables.items()):
        table = f"v{number}"
        here = read_source(path, table)
        there = dict(database.query(f"SELECT id, {_readable(database, table)} FROM {table}"))
        listed = set_aside.get(table, {})
        assert len(there) == len(here)
        assert counts[table] == len(listed)
        for place, name in enumerate(names):
            if place in listed:
                storage, kept = listed[place]
                right = there[place] is None and storage == storage_class(here[place])
                right = right and kept == original(here[place])
                found = "listed" if right else "lost"
            else:
                found = "kept" if same(here[place], there[place]) else "changed"
            totals[found] += 1
            if found != ("kept" if name in KEPT[declared] else "listed"):
                wrong.append((declared, name, found))
    print(f"\n{encoding}: kept {totals['kept']}, listed {totals['listed']}, "
          f"total {sum(totals.values())}")  # fmt: skip
    assert wrong == []
    assert sum(totals.values()) >= 1200


def _readable(database: Database, table: str) -> str:
    """json as its text, as psycopg2 would parse it."""
    kind = database.query(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
        f"WHERE attrelid = '{table}'::regclass AND attname = 'c'"
    )[0][0]
    return "c::text" if kind == "json" else "c"


def test_structures(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "structures.db"
    connection = sqlite3.connect(path)
    for case in STRUCTURES:
        connection.executescript(case.filled(case.sql))
    connection.commit()
    connection.close()
    outcome = database.migrate(path)
    assert verify(VerifyRequest(str(path), database.target, depth="full")).compared
    connection = psycopg2.connect(database.url)
    connection.autocommit = True
    failures = []
    with connection.cursor() as cursor:
        for case in STRUCTURES:
            failures += [f"{case.name}: {text}" for text in _failures(cursor, case, outcome)]
    connection.close()
    carried = sum(not case.left for case in STRUCTURES)
    print(f"\nstructures: carried {carried}, named {len(STRUCTURES) - carried}, "
          f"total {len(STRUCTURES)}")  # fmt: skip
    assert not failures, "\n".join(failures)
    assert len(STRUCTURES) >= 110


def _failures(cursor: Any, case: Structure, outcome: Any) -> list[str]:
    failures = []
    for statement in case.accepts:
        try:
            cursor.execute(case.filled(statement))
        except psycopg2.Error as error:
            failures.append(f"{statement} was refused: {error}")
    for statement in case.refuses:
        try:
            cursor.execute(case.filled(statement))
        except psycopg2.Error as error:
            if str(error.pgcode)[:2] not in ("23", "22", "42"):
                failures.append(f"{statement}: {error}")
        else:
            failures.append(f"{statement} was accepted")
    for query, expected in case.holds:
        try:
            cursor.execute(case.filled(query))
            found = cursor.fetchone()[0]
        except psycopg2.Error as error:
            failures.append(f"{query}: {error}")
            continue
        if found != expected or type(found) is bool and expected is not True:
            failures.append(f"{query}: {found!r} for {expected!r}")
    word = re.compile(rf"\b{case.name}(?!_lost|\w*lost)\w*\b")
    named = [
        item["kind"]
        for item in outcome.not_carried
        if word.search(item["name"]) or word.search(item["reason"])
    ]
    if sorted(named) != sorted(case.left):
        failures.append(f"named as not carried: {named}")
    return failures


@pytest.mark.parametrize(
    ("script", "match"),
    [
        (
            "CREATE TABLE p (k INTEGER PRIMARY KEY); CREATE TABLE c (p INTEGER REFERENCES p);"
            "INSERT INTO c VALUES (5)",
            r"1 rows of c refer to rows that p doesn't have \(rowids 1\)",
        ),
        (
            "CREATE TABLE t (k TEXT PRIMARY KEY); INSERT INTO t VALUES (NULL), ('a')",
            r"t\.k: 1 x NULL in a column that is NOT NULL \(rowid 1\)",
        ),
        (
            "CREATE TABLE t (n INTEGER CHECK (n > 0)); PRAGMA ignore_check_constraints = ON;"
            "INSERT INTO t VALUES (-1)",
            r"t: 1 x breaks CHECK \(.*n > .*\), constraint t_n_check \(rowid 1\)",
        ),
        ("CREATE TABLE t (a); INSERT INTO t VALUES (x'00'), ('x')", "a text where a blob"),
        (
            "CREATE TABLE t (a UNIQUE); INSERT INTO t VALUES (1), ('1')",
            r"t: 2 x the same a as another row, unique by t_a_key \(rowid 1, rowid 2\)",
        ),
        (
            f"CREATE TABLE t ({', '.join(f'c{i}' for i in range(1601))})",
            "1601 columns, over 1600",
        ),
    ],
)
def test_stops(database: Database, make_source: MakeSource, script: str, match: str) -> None:
    with pytest.raises(MigrationError, match=match):
        database.migrate(make_source(script))
    assert database.relations() == []
