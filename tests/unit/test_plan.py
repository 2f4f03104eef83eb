# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From SQLite's schema to PostgreSQL's statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.plan import (
    Plan,
    build_plan,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.schema import (
    profile_columns,
    read_schema,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.source import (
    SourceDatabase,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.types import (
    needs_profile,
    parse_declared,
)

MakePlan = Callable[..., Plan]


@pytest.fixture
def plan(tmp_path: Path) -> MakePlan:
    def make(script: str, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Plan:
        path = tmp_path / "source.db"
        connection = sqlite3.connect(path)
        connection.executescript(script)
        connection.close()
        with SourceDatabase(str(path)) as source:
            schema = read_schema(source, list(include), list(exclude))
            for table in schema.tables:
                profile_columns(source, table, [c.name for c in table.columns if needs_profile(c)])
            return build_plan(schema, "public")

    return make


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("VARCHAR(12)", ("VARCHAR", 12, None)),
        ("numeric ( 10 , 2 )", ("NUMERIC", 10, 2)),
        ("unsigned  big int", ("UNSIGNED BIG INT", None, None)),
        ("INT(11) UNSIGNED", ("INT UNSIGNED", 11, None)),
        ("", ("", None, None)),
        ("ENUM('a','b')", ("ENUM('A','B')", None, None)),
    ],
)
def test_declared_types(declared: str, expected: tuple[str, int | None, int | None]) -> None:
    assert parse_declared(declared) == expected


@pytest.mark.parametrize(
    ("declared", "values", "expected"),
    [
        ("INTEGER", "1", "bigint"),
        ("INT(11)", "1", "bigint"),
        ("TINYINT", "1", "bigint"),
        ("BOOLEAN", "1", "boolean"),
        ("VARCHAR(80)", "'a'", "varchar(80)"),
        ("CHAR(32)", "'a'", "varchar(32)"),
        ("VARCHAR", "'a'", "text"),
        ("VARCHAR(0)", "'a'", "text"),
        ("TEXT", "'a'", "text"),
        ("UUID", "'a'", "varchar(36)"),
        ("DATETIME", "'2024-01-01 00:00:00'", "timestamp"),
        ("DATETIME(6)", "NULL", "timestamp"),
        ("TIMESTAMP", "'2024-01-01T00:00:00Z'", "timestamptz"),
        ("TIMESTAMP", "1700000000", "bigint"),
        ("TIMESTAMP", "1700000000.5", "double precision"),
        ("DATE", "'2024-01-01'", "date"),
        ("TIME", "'10:00'", "time"),
        ("NUMERIC(10,2)", "1.5", "numeric(10,2)"),
        ("DECIMAL", "1.5", "numeric"),
        ("NUMERIC(2,5)", "1.5", "numeric"),
        ("REAL", "1.5", "double precision"),
        ("DOUBLE PRECISION", "1.5", "double precision"),
        ("BLOB", "x'00'", "bytea"),
        ("BLOB", "'text'", "text"),
        ("BLOB", "NULL", "bytea"),
        ("JSON", "'{}'", "json"),
        ("", "1", "bigint"),
        ("", "1.5", "double precision"),
        ("", "'a'", "text"),
        ("", "x'00'", "bytea"),
        ("", "NULL", "text"),
        ("MONEY_TYPE", "5", "bigint"),
    ],
)
def test_types(plan: MakePlan, declared: str, values: str, expected: str) -> None:
    made = plan(f"CREATE TABLE t (c {declared}); INSERT INTO t VALUES ({values})")
    target = made.tables[0].columns[0].target
    assert target.sql == expected
    assert target.reason


def test_mixed_values_without_a_type_warn(plan: MakePlan) -> None:
    made = plan("CREATE TABLE t (c); INSERT INTO t VALUES (1), ('a')")
    assert made.tables[0].columns[0].target.sql == "text"
    assert "1 numbers" in made.warnings[0]


def test_json_in_an_index_becomes_jsonb(plan: MakePlan) -> None:
    made = plan("CREATE TABLE t (c JSON); CREATE INDEX i ON t (c)")
    assert made.tables[0].columns[0].target.sql == "jsonb"


@pytest.mark.parametrize(
    ("definition", "identity"),
    [
        ("id INTEGER PRIMARY KEY", True),
        ("id INTEGER PRIMARY KEY AUTOINCREMENT", True),
        ("id INTEGER NOT NULL, PRIMARY KEY (id)", True),
        ("id BIGINT PRIMARY KEY", True),
        ("id VARCHAR(5) PRIMARY KEY", False),
        ("id INTEGER, b INTEGER, PRIMARY KEY (id, b)", False),
    ],
)
def test_identity(plan: MakePlan, definition: str, identity: bool) -> None:
    assert (plan(f"CREATE TABLE t ({definition})").tables[0].identity is not None) is identity


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("c INTEGER DEFAULT 5", "5"),
        ("c INTEGER DEFAULT (-5)", "-5"),
        ("c INTEGER DEFAULT '7'", "7"),
        ("c REAL DEFAULT 1.5", "1.5"),
        ("c TEXT DEFAULT 'it''s'", "'it''s'"),
        ("c TEXT DEFAULT 0", "'0'"),
        ("c TEXT DEFAULT 'a\\b'", "E'a\\\\b'"),
        ("c TEXT DEFAULT NULL", None),
        ("c BOOLEAN DEFAULT 1", "true"),
        ("c BOOLEAN DEFAULT FALSE", "false"),
        ("c BOOLEAN DEFAULT '0'", "false"),
        ("c DATETIME DEFAULT CURRENT_TIMESTAMP", "(CURRENT_TIMESTAMP AT TIME ZONE 'UTC')"),
        ("c DATETIME DEFAULT (datetime('now'))", "(CURRENT_TIMESTAMP AT TIME ZONE 'UTC')"),
        ("c DATE DEFAULT CURRENT_DATE", "((CURRENT_TIMESTAMP AT TIME ZONE 'UTC'))::date"),
        ("c BLOB DEFAULT x'00ff'", "'\\x00ff'::bytea"),
        ("c JSON DEFAULT '{}'", "'{}'"),
    ],
)
def test_defaults(plan: MakePlan, column: str, expected: str | None) -> None:
    made = plan(f"CREATE TABLE t ({column})")
    assert made.tables[0].columns[0].default == expected
    assert made.left_out == []


@pytest.mark.parametrize(
    "column",
    [
        "c TEXT DEFAULT (lower('A'))",
        "c DATETIME DEFAULT 'now'",
        "c INTEGER DEFAULT (strftime('%s','now'))",
        "c JSON DEFAULT '{'",
        "c VARCHAR(2) DEFAULT 'abc'",
    ],
)
def test_defaults_that_are_named_instead(plan: MakePlan, column: str) -> None:
    made = plan(f"CREATE TABLE t ({column})")
    assert made.tables[0].columns[0].default is None
    assert [x.kind for x in made.left_out] == ["default"]


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ("n > 0", '"n" > 0'),
        ("n BETWEEN 1 AND 5 OR n IS NULL", '"n" BETWEEN 1 AND 5 OR "n" IS NULL'),
        ("s IN ('a', 'b')", "\"s\" IN ('a', 'b')"),
        ("s <> ''", "\"s\" <> ''"),
        ("length(s) >= 3", 'length("s") >= 3'),
        ("[n] == 1", '"n" = 1'),
        ("b = 1 AND n > 0", '"b" = true AND "n" > 0'),
        ("s <> ' ) ,'", "\"s\" <> ' ) ,'"),
    ],
)
def test_checks(plan: MakePlan, check: str, expected: str) -> None:
    made = plan(f"CREATE TABLE t (n INTEGER, s TEXT, b BOOLEAN, CHECK ({check}))")
    assert f"CHECK ({expected})" in made.tables[0].keys[0].sql
    assert made.left_out == []


@pytest.mark.parametrize(
    "check",
    [
        "s LIKE 'a%'",
        "s > 'a'",
        "s GLOB 'a*'",
        "json_valid(s)",
        "n & 1",
        "n = 'x'",
        "d > '2020-01-01'",
        "b + 1 > 0",
        'typeof(n) = "integer"',
        "n / 2 = 1",
    ],
)
def test_checks_that_are_named_instead(plan: MakePlan, check: str) -> None:
    made = plan(f"CREATE TABLE t (n INTEGER, s TEXT, b BOOLEAN, d DATETIME, CHECK ({check}))")
    assert made.tables[0].keys == []
    assert [x.kind for x in made.left_out] == ["check"]


def test_boolean_check_of_sqlalchemy_is_the_type_itself(plan: MakePlan) -> None:
    made = plan("CREATE TABLE t (b BOOLEAN, CHECK (b IN (0, 1)))")
    assert made.tables[0].keys == [] and made.left_out == []


def test_indexes(plan: MakePlan) -> None:
    made = plan(
        """
        CREATE TABLE t (a INTEGER, b TEXT, c TEXT, CONSTRAINT uq_ab UNIQUE (a, b));
        CREATE INDEX i1 ON t (a DESC, b);
        CREATE UNIQUE INDEX i2 ON t (lower(b)) WHERE a IS NOT NULL;
        CREATE INDEX i3 ON t (c COLLATE NOCASE);
        CREATE INDEX i4 ON t (json_extract(c, '$.x'));
        """
    )
    sql = [s.sql for s in made.tables[0].keys]
    assert sql == [
        'ALTER TABLE "public"."t" ADD CONSTRAINT "uq_ab" UNIQUE ("a", "b")',
        'CREATE INDEX "i1" ON "public"."t" ("a" DESC, "b")',
        'CREATE UNIQUE INDEX "i2" ON "public"."t" ((lower("b"))) WHERE "a" IS NOT NULL',
    ]
    assert [x.name for x in made.left_out] == ["i3 on t", "i4 on t"]


def test_foreign_keys(plan: MakePlan) -> None:
    made = plan(
        """
        CREATE TABLE p (id INTEGER PRIMARY KEY, x INTEGER);
        CREATE TABLE c (
            a INTEGER REFERENCES p,
            b INTEGER CONSTRAINT named REFERENCES p (id) ON DELETE CASCADE
                DEFERRABLE INITIALLY DEFERRED,
            d INTEGER REFERENCES p (x),
            e INTEGER REFERENCES gone (id)
        );
        """
    )
    sql = [s.sql for s in made.tables[1].foreign_keys]
    assert len(sql) == 2
    assert '"c_a_fkey" FOREIGN KEY ("a") REFERENCES "public"."p" ("id")' in sql[0]
    assert '"named"' in sql[1]
    assert sql[1].endswith("ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED")
    assert sorted(x.kind for x in made.left_out) == ["foreign key", "foreign key"]


def test_nothing_is_dropped_in_silence(plan: MakePlan) -> None:
    made = plan(
        """
        CREATE TABLE t (a INTEGER, g INTEGER GENERATED ALWAYS AS (a * 2), n TEXT COLLATE NOCASE,
                        u TEXT UNIQUE ON CONFLICT REPLACE);
        CREATE VIEW v AS SELECT 1;
        CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END;
        CREATE VIRTUAL TABLE f USING fts5(x);
        """
    )
    assert [t.name for t in made.tables] == ["t"]
    kinds = {x.kind for x in made.left_out}
    assert kinds == {
        "view",
        "trigger",
        "virtual table",
        "shadow table",
        "generated column",
        "collation",
        "conflict clause",
    }
    assert "not carried: view v" in made.as_text()


def test_long_index_names_are_shortened_and_unique(plan: MakePlan) -> None:
    name = "i" * 70
    made = plan(
        f"CREATE TABLE t (a, b); CREATE INDEX {name}1 ON t (a); CREATE INDEX {name}2 ON t (b)"
    )
    names = {s.sql.split('"')[1] for s in made.tables[0].keys}
    assert len(names) == 2 and all(len(n) <= 63 for n in names)


@pytest.mark.parametrize(
    ("script", "word"),
    [
        (f"CREATE TABLE {'t' * 64} (a)", "63 bytes"),
        (f"CREATE TABLE t ({'c' * 64} TEXT)", "63 bytes"),
        ("CREATE TABLE t (ctid TEXT)", "system column"),
        ('CREATE TABLE t ("" TEXT)', "empty name"),
    ],
)
def test_names_that_postgres_cannot_hold(plan: MakePlan, script: str, word: str) -> None:
    with pytest.raises(MigrationError, match=word):
        plan(script)


def test_include_and_exclude(plan: MakePlan) -> None:
    script = "CREATE TABLE a (x); CREATE TABLE b (x)"
    made = plan(script, exclude=("b",))
    assert [t.name for t in made.tables] == ["a"]
    assert [(x.kind, x.name) for x in made.left_out] == [("table", "b")]
    with pytest.raises(MigrationError, match="include names tables.*nope.*a, b"):
        plan("", include=("nope",))
    with pytest.raises(MigrationError, match="no tables to migrate"):
        plan("", exclude=("a", "b"))


def test_odd_names_and_comments(plan: MakePlan) -> None:
    made = plan(
        """
        CREATE TABLE "a ""b" ( -- a comment, with ( and '
            [x y] INTEGER /* , */ NOT NULL CHECK ([x y] > 0),
            `z` TEXT DEFAULT ',('
        )
        """
    )
    table = made.tables[0]
    assert table.create.startswith('CREATE TABLE "public"."a ""b"')
    assert table.keys[0].sql.endswith('CHECK ("x y" > 0)')
    assert table.columns[1].default == "',('"


def test_without_rowid_and_sequence(plan: MakePlan) -> None:
    made = plan(
        """
        CREATE TABLE w (k TEXT PRIMARY KEY) WITHOUT ROWID;
        CREATE TABLE s (id INTEGER PRIMARY KEY AUTOINCREMENT);
        INSERT INTO s VALUES (41); DELETE FROM s;
        """
    )
    assert made.tables[0].row_label == "NULL"
    assert made.tables[1].next_id == 41
