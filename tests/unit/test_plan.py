# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From SQLite's schema to PostgreSQL's statements."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.plan import (
    Plan,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.planning import (
    make_plan,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.source import (
    SourceDatabase,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.types import (
    parse_declared,
)

MakePlan = Callable[..., Plan]


@dataclass
class Wanted:
    """What make_plan needs of a load's request."""

    schema: str = "public"
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    check_mode: bool = False
    target_schema_mode: str = "create"
    type_overrides: dict[str, str] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    on_bad_value: str = "fail"
    bad_value_columns: dict[str, str] = field(default_factory=dict)
    replace: list[str] = field(default_factory=list)


@pytest.fixture
def plan(tmp_path: Path) -> MakePlan:
    def make(script: str, **wanted: Any) -> Plan:
        path = tmp_path / "source.db"
        connection = sqlite3.connect(path)
        connection.executescript(script)
        connection.close()
        with SourceDatabase(str(path)) as source:
            return make_plan(source, Wanted(**wanted))

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
    assert "t.c: jsonb keeps the values, but not spaces" in made.warnings[0]


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
        (
            "c INTEGER DEFAULT (strftime('%s','now'))",
            "floor(extract(epoch FROM CURRENT_TIMESTAMP))::bigint",
        ),
        ("c INTEGER DEFAULT (unixepoch())", "floor(extract(epoch FROM CURRENT_TIMESTAMP))::bigint"),
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
        "c TEXT DEFAULT (strftime('%s','now'))",
        "c INTEGER DEFAULT (strftime('%Y','now'))",
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
        "json_valid(n)",
        "n & 1",
        "f = 'a'",
        "f IN ('a', 'b')",
        "n = 'x'",
        "d > '2020-01-01'",
        "b + 1 > 0",
        'typeof(n) = "integer"',
        "n / 2 = 1",
    ],
)
def test_checks_that_are_named_instead(plan: MakePlan, check: str) -> None:
    made = plan(
        "CREATE TABLE t (n INTEGER, s TEXT, b BOOLEAN, d DATETIME, f TEXT COLLATE NOCASE, "
        f"CHECK ({check}))"
    )
    assert made.tables[0].keys == []
    assert sorted(x.kind for x in made.left_out) == ["check", "collation"]


def test_boolean_check_of_sqlalchemy_is_the_type_itself(plan: MakePlan) -> None:
    made = plan("CREATE TABLE t (b BOOLEAN, CHECK (b IN (0, 1)))")
    assert made.tables[0].keys == [] and made.left_out == []


FOLDED_C = "(translate(\"c\", 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz'))"


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
        f'CREATE INDEX "i3" ON "public"."t" ({FOLDED_C})',
    ]
    assert [x.name for x in made.left_out] == ["i4 on t"]


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
        CREATE TABLE t (a INTEGER, g INTEGER GENERATED ALWAYS AS (a / 2), n TEXT COLLATE NOCASE,
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
    ("script", "names"),
    [
        (f"CREATE TABLE {'t' * 64} (a)", (f"{'t' * 54}_4c8885e4", "a")),
        (f"CREATE TABLE t ({'c' * 64} TEXT)", ("t", f"{'c' * 54}_04e0a43d")),
        (f"CREATE TABLE t ({'ü' * 32} TEXT)", ("t", f"{'ü' * 27}_13673375")),
        ("CREATE TABLE t (ctid TEXT)", ("t", "ctid_")),
        ("CREATE TABLE t (xmin TEXT, xmin_ TEXT)", ("t", "xmin__")),
        ('CREATE TABLE t ("" TEXT)', ("t", "unnamed")),
    ],
)
def test_names_that_postgres_cannot_hold(
    plan: MakePlan, script: str, names: tuple[str, str]
) -> None:
    made = plan(script)
    table = made.tables[0]
    assert (table.target_name, table.columns[0].target_name) == names
    assert all(len(name.encode()) <= 63 for name in names)
    assert made.warnings and "rename sets another" in made.warnings[0]
    assert table.target_name in table.create and table.columns[0].target_name in table.create


def test_rename(plan: MakePlan) -> None:
    script = (
        'CREATE TABLE "Order" (id INTEGER PRIMARY KEY, ctid TEXT UNIQUE, "User" INTEGER '
        'CHECK ("User" > 0));'
        'CREATE TABLE item ("order" INTEGER REFERENCES "Order" (id))'
    )
    made = plan(script, rename={"order": "orders", "ORDER.user": "user_id", "Order.ctid": "place"})
    orders, item = made.tables
    assert [c.target_name for c in orders.columns] == ["id", "place", "user_id"]
    assert [c.name for c in orders.columns] == ["id", "ctid", "User"]
    assert [s.sql for s in orders.keys] == [
        'ALTER TABLE "public"."orders" ADD CONSTRAINT "orders_pkey" PRIMARY KEY ("id")',
        'ALTER TABLE "public"."orders" ADD CONSTRAINT "orders_user_id_check" CHECK ("user_id" > 0)',
        'ALTER TABLE "public"."orders" ADD CONSTRAINT "orders_place_key" UNIQUE ("place")',
    ]
    assert 'REFERENCES "public"."orders" ("id")' in item.foreign_keys[0].sql
    assert made.warnings == [] and "Order -> orders" in made.as_text()


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"rename": {"a": "b"}}, "two tables the same name"),
        ({"rename": {"a.x": "y"}}, "two columns of a the same name"),
        ({"rename": {"a.x": "ctid"}}, "system column"),
        ({"rename": {"a.x": ""}}, "1 to 63 bytes"),
        ({"rename": {"nope": "z"}}, "rename names nope.*tables are a, b"),
        ({"type_overrides": {"a.nope": "text"}}, "type_overrides names a.nope"),
        ({"type_overrides": {"a.x": "text; DROP TABLE a"}}, "a.x: .*isn't written like"),
        ({"type_overrides": {"a.x": "interval using epoch_s"}}, "doesn't lead to interval"),
        ({"type_overrides": {"a.x": "text using epoch_s"}}, "Leave it out"),
        ({"bad_value_columns": {"a.x": "drop"}}, "none of fail, null, text, quarantine"),
        ({"on_bad_value": "drop"}, "on_bad_value: 'drop' is none of"),
        ({"bad_value_columns": {"c.x": "null"}}, "bad_value_columns names c.x"),
        ({"target_schema_mode": "existing"}, "can't be reached yet"),
    ],
)
def test_wishes_that_cannot_be(plan: MakePlan, wanted: dict[str, Any], match: str) -> None:
    with pytest.raises(MigrationError, match=match):
        plan("CREATE TABLE a (x INTEGER, y INTEGER); CREATE TABLE b (x INTEGER)", **wanted)


def test_existing_before_the_target_is_there(plan: MakePlan) -> None:
    made = plan("CREATE TABLE a (x)", target_schema_mode="existing", check_mode=True)
    assert (made.mode, made.tables[0].rows, made.tables[0].columns) == ("existing", 0, [])
    assert "no value was checked" in made.warnings[0]


def test_too_many_columns(plan: MakePlan) -> None:
    with pytest.raises(MigrationError, match="1700 columns, over 1600"):
        plan(f"CREATE TABLE t ({', '.join(f'c{i}' for i in range(1700))})")


@pytest.mark.parametrize(
    ("declared", "value", "wanted", "kind", "conversion"),
    [
        ("DATETIME", "1700000000", "timestamptz", "timestamptz", "epoch_s"),
        ("DATETIME", "1700000000.25", "timestamptz", "timestamptz", "epoch_s"),
        ("INTEGER", "1700000000123", "timestamp", "timestamp", "epoch_ms"),
        ("INTEGER", "1700000000123456", "timestamptz", "timestamptz", "epoch_us"),
        ("REAL", "2460000.5", "timestamp", "timestamp", "julian"),
        ("INTEGER", "1704067200", "date", "date", "epoch_s"),
        ("INTEGER", "5", "timestamptz using epoch_s", "timestamptz", "epoch_s"),
        ("INTEGER", "5", "timestamptz", "timestamptz", None),
        ("DATETIME", "'2024-01-01 00:00:00'", "timestamptz", "timestamptz", "naive_utc"),
        ("DATETIME", "'2024-01-01 00:00:00Z'", "timestamptz", "timestamptz", None),
        ("DATETIME", "'2024-01-01 00:00:00+02:00'", "timestamp", "timestamp", "offset_utc"),
        ("DATETIME", "'2024-01-01 00:00:00'", "date", "date", "date_part"),
        ("DATE", "'2024-01-01'", "date", "date", None),
        ("BIGINT", "90061000001", "interval", "interval", "interval_us"),
        ("DATETIME", "'1970-01-02 01:01:01.000001'", "interval", "interval", "interval_epoch"),
        ("CHAR(32)", f"'{'0123456789abcdef' * 2}'", "uuid", "uuid", "uuid_hex"),
        ("CHAR(36)", "'01234567-89ab-cdef-0123-456789abcdef'", "uuid", "uuid", None),
        ("INTEGER", "5", "text", "loose_text", None),
        ("TEXT", "'5'", "varchar(10)", "text", None),
        ("INTEGER", "5", "integer", "int4", None),
        ("INTEGER", "5", "smallint", "int2", None),
        ("REAL", "5.5", "real", "float4", None),
        ("TEXT", "'10.0.0.1'", "inet", "other", None),
        ("TEXT", "'{1}'", "integer[]", "other", None),
        ("TEXT", "'a'", "public.mood", "other", None),
        ("TEXT", "'a'", "char(3)", "bpchar", None),
        ("REAL", "5.5", "numeric(12, 3)", "numeric", None),
        ("TEXT", "'a'", "jsonb", "jsonb", None),
    ],
)
def test_type_overrides(
    plan: MakePlan, declared: str, value: str, wanted: str, kind: str, conversion: str | None
) -> None:
    made = plan(
        f"CREATE TABLE t (c {declared}); INSERT INTO t VALUES ({value})",
        type_overrides={"T.C": wanted},
    )
    target = made.tables[0].columns[0].target
    assert (target.kind, target.conversion) == (kind, conversion)
    assert target.sql == wanted.partition(" using ")[0] and "type_overrides" in target.reason
    if conversion is None and kind == "timestamptz" and value == "5":
        assert "using epoch_s" in made.warnings[0]


def test_type_overrides_by_pattern(plan: MakePlan) -> None:
    made = plan(
        "CREATE TABLE a (at INTEGER, x INTEGER); CREATE TABLE b (at INTEGER)",
        type_overrides={"b.at": "integer", "*.at": "numeric(12,3)"},
    )
    kinds = [[c.target.sql for c in table.columns] for table in made.tables]
    assert kinds == [["numeric(12,3)", "bigint"], ["integer"]]
    assert made.tables[0].columns[0].target.scale == 3


def test_policies(plan: MakePlan) -> None:
    made = plan(
        "CREATE TABLE a (x INTEGER, y INTEGER)",
        on_bad_value="null",
        bad_value_columns={"a.y": "quarantine"},
    )
    assert [c.policy for c in made.tables[0].columns] == ["null", "quarantine"]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("g INTEGER AS (a * 2 + b)", '"a" * 2 + "b"'),
        ("g REAL GENERATED ALWAYS AS (a * 2) STORED", '"a" * 2'),
        ("g REAL AS (r * r)", 'nullif("r" * "r", \'NaN\')'),
        ("g TEXT AS (s || '-' || a) VIRTUAL", '"s" || \'-\' || "a"'),
        ("g TEXT AS (coalesce(s, 'none'))", "coalesce(\"s\", 'none')"),
    ],
)
def test_generated_columns(plan: MakePlan, column: str, expected: str) -> None:
    made = plan(f"CREATE TABLE t (a INTEGER, b INTEGER, r REAL, s TEXT, {column} UNIQUE)")
    planned = made.tables[0].columns[-1]
    assert planned.generated and planned.expression == expected
    assert f"GENERATED ALWAYS AS ({expected}) STORED" in made.tables[0].create
    assert made.left_out == []


@pytest.mark.parametrize(
    "column",
    [
        "g INTEGER AS (a / 2)",
        "g INTEGER AS (r * 2)",
        "g INTEGER AS (a * 1.5)",
        "g TEXT AS (lower(s))",
        "g TEXT AS (s || r)",
        "g INTEGER AS (length(s))",
        "g TEXT AS (a + 1)",
        "g NUMERIC(8,2) AS (m * 2)",
        "h INTEGER AS (a + 1), g INTEGER AS (h + 1)",
        "g TEXT AS (json_extract(s, '$.x'))",
    ],
)
def test_generated_columns_that_become_plain(plan: MakePlan, column: str) -> None:
    made = plan(f"CREATE TABLE t (a INTEGER, r REAL, s TEXT, m NUMERIC(8,2), {column})")
    assert not made.tables[0].columns[-1].generated
    assert [x.kind for x in made.left_out] == ["generated column"]


def test_json_check_is_the_type_itself(plan: MakePlan) -> None:
    made = plan(
        'CREATE TABLE t (a TEXT CHECK ((JSON_VALID("a") OR "a" IS NULL)), b text CHECK '
        "(json_valid(b)))"
    )
    assert [c.target.sql for c in made.tables[0].columns] == ["json", "json"]
    assert made.tables[0].keys == [] and made.left_out == []


def test_unique_keys_that_ignore_case_stay_so(plan: MakePlan) -> None:
    made = plan(
        "CREATE TABLE t (c TEXT COLLATE NOCASE PRIMARY KEY, d TEXT COLLATE RTRIM UNIQUE, "
        "n INTEGER COLLATE NOCASE UNIQUE)"
    )
    unique = [s.sql for s in made.tables[0].keys if "INDEX" in s.sql]
    assert unique == [
        f'CREATE UNIQUE INDEX "t_pkey_folded" ON "public"."t" ({FOLDED_C})',
        'CREATE UNIQUE INDEX "t_d_key_folded" ON "public"."t" ((rtrim("d", \' \')))',
    ]


def test_check_mode_profiles_all(plan: MakePlan) -> None:
    made = plan(
        "CREATE TABLE t (a INTEGER, b TEXT); INSERT INTO t VALUES (1, 'secret'), ('x', NULL)",
        check_mode=True,
    )
    table = made.tables[0]
    assert table.bytes and table.bytes >= 4096
    a, b = (c.profile for c in table.columns)
    assert a and (a["integers"], a["texts"], a["nulls"]) == (1, 1, 0)
    assert b and (b["nulls"], b["texts"], b["longest"]) == (1, 1, 6)
    assert made.estimate["seconds_low"] <= made.estimate["seconds_high"]
    assert "secret" not in made.as_text() + json.dumps(made.as_dict())
    assert "t: 2 rows, 4096 bytes" in made.as_text()


def test_views_and_triggers_are_shown(plan: MakePlan) -> None:
    made = plan("CREATE TABLE t (a); CREATE VIEW v AS SELECT a\nFROM t")
    assert "-- not carried: view v" in made.as_text() and "--   FROM t" in made.as_text()
    assert made.left_out[0].as_dict()["sql"].startswith("CREATE VIEW v")


def test_include_and_exclude(plan: MakePlan) -> None:
    script = "CREATE TABLE a (x); CREATE TABLE b (x)"
    made = plan(script, exclude=["b"])
    assert [t.name for t in made.tables] == ["a"]
    assert [(x.kind, x.name) for x in made.left_out] == [("table", "b")]
    with pytest.raises(MigrationError, match="include names tables.*nope.*a, b"):
        plan("", include=["nope"])
    with pytest.raises(MigrationError, match="no tables to migrate"):
        plan("", exclude=["a", "b"])


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
