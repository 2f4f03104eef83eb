# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verification: equal data in every form is equal, and any change is found and named."""

from __future__ import annotations

import json
import random
import sqlite3
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import target as pg
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.verify import (
    VerifyRequest,
    verify,
)

if TYPE_CHECKING:
    from tests.integration.conftest import Database

MakeSource = Callable[[str], Path]
ROWS = ("checksums", "full")
DEPTHS = ("counts", *ROWS)


def prove(database: Database, source: Path, **options: Any) -> dict[str, Any]:
    evidence = verify(VerifyRequest(str(source), database.target, **options)).evidence
    assert evidence is not None and evidence["equal"]
    return evidence


def differences(database: Database, source: Path, **options: Any) -> list[dict[str, Any]]:
    with pytest.raises(MigrationError) as caught:
        prove(database, source, **options)
    evidence = caught.value.details["evidence"]
    assert not evidence["equal"] and evidence["differences_total"]
    found: list[dict[str, Any]] = evidence["differences"]
    return found


def write_record(database: Database, source: Path, tables: list[dict[str, Any]]) -> int:
    connection = pg.connect(database.target, "test")
    try:
        pg.create_record_table(connection)
        pg.write_record(
            connection,
            {
                "schema_name": "public",
                "source_path": str(source),
                "source_size": 1,
                "source_sha256": None,
                "started_at": "2024-01-01",
                "collection_version": "0",
                "tables": json.dumps(tables),
            },
        )
        number = pg.one(connection, "SELECT id FROM golive_webstack.migration")
        connection.commit()
        return int(number)
    finally:
        connection.close()


def test_equal_in_every_depth(database: Database, source: Path, tmp_path: Path) -> None:
    database.migrate(source)
    for depth in DEPTHS:
        evidence = prove(database, source, depth=depth)
        assert evidence["rows_total"] == 2104 and evidence["digest"]
        assert evidence["structure"]["checked"]["foreign keys"] == 1
        if depth == "checksums":
            # No range needed to be looked at by row: the checksums themselves were equal.
            assert {t["target"]["ranges_that_differ"] for t in evidence["tables"]} == {0}
        prove(database, source, depth=depth, include=["logs"])
    kept = tmp_path / "evidence.json"
    verify(VerifyRequest(str(source), database.target, depth="full", evidence_file=str(kept)))
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(kept.read_text())["depth"] == "full"


DAMAGE = [
    (
        "UPDATE logs SET message = convert_from(set_byte(convert_to(message, 'UTF8'), 3, 114), "
        "'UTF8') WHERE id = 77",
        {"table": "logs", "column": "message", "kind": "changed", "key": {"id": 77}},
    ),
    (
        "UPDATE logs SET took = '25.666666666666668'::float8 - 3.6e-15 WHERE id = 78",
        {"table": "logs", "column": "took", "kind": "changed", "key": {"id": 78}},
    ),
    (
        "UPDATE logs SET at = at + interval '1 microsecond' WHERE id = 2000",
        {"table": "logs", "column": "at", "kind": "changed", "key": {"id": 2000}},
    ),
    (
        "UPDATE logs SET data = replace(data::text, ' ', '  ')::json WHERE id = 5",
        {"table": "logs", "column": "data", "kind": "changed", "key": {"id": 5}},
    ),
    (
        "UPDATE users SET picture = set_bit(picture, 3, 1) WHERE id = 4",
        {"table": "users", "column": "picture", "kind": "changed", "key": {"id": 4}},
    ),
    (
        "UPDATE users SET balance = balance + 0.01, active = NOT active WHERE id = 4",
        {"table": "users", "column": "active", "kind": "changed", "key": {"id": 4}},
    ),
    (
        "DELETE FROM logs WHERE id IN (1, 999, 2000)",
        {"table": "logs", "kind": "missing", "key": {"id": 999}},
    ),
    (
        "INSERT INTO logs (id, level, at) VALUES (0, 'x', now()), (9500, 'y', now())",
        {"table": "logs", "kind": "extra", "key": {"id": 9500}},
    ),
    (
        "UPDATE settings SET value = NULL WHERE name = 'd'",
        {"table": "settings", "column": "value", "kind": "changed", "key": {"name": "d"}},
    ),
    (
        "DELETE FROM settings WHERE name = 'b'",
        {"table": "settings", "kind": "missing", "key": {"name": "b"}},
    ),
]


def test_every_change_is_named(database: Database, source: Path) -> None:
    database.migrate(source)
    database.query("ALTER SEQUENCE logs_id_seq RESTART WITH 10000")
    for table in ("users", "logs", "settings"):
        database.query(f"CREATE TABLE golive_webstack.kept_{table} AS SELECT * FROM {table}")
    for damage, wanted in DAMAGE:
        database.query(damage)
        for depth in ROWS:
            found = differences(database, source, depth=depth)
            assert any(wanted.items() <= d.items() for d in found), (damage, depth, found)
            rows = [d for d in found if d.get("kind")]
            several = {"balance": 2, "IN (1": 3, "9500": 2}
            count = next((n for word, n in several.items() if word in damage), 1)
            assert len(rows) == count, (damage, depth, found)
            assert "ünï" not in str(found)
        table = wanted["table"]
        restore = "".join(
            f"INSERT INTO {name} SELECT * FROM golive_webstack.kept_{name};"
            for name in dict.fromkeys([table, "logs"])
        )
        database.query(f"DELETE FROM logs; DELETE FROM {table}; {restore}")
    prove(database, source, depth="full")


TYPES = """
CREATE TABLE made (
    k UUID PRIMARY KEY, i2 INTEGER, i4 INTEGER, flag BOOLEAN, f4 REAL, f8 REAL, v VARCHAR(20),
    c CHAR(5), b BLOB, j JSON, jb JSON, d DATE, t TIME, tz TIME, ts DATETIME, tsz DATETIME,
    iv BIGINT, ie DATETIME, u CHAR(32), n NUMERIC, n2 NUMERIC(10, 2), es INTEGER, em INTEGER,
    eu INTEGER, jd REAL, nu DATETIME, ou DATETIME, dp DATETIME, e TEXT, ar TEXT, ip TEXT, do TEXT,
    g INTEGER
);
CREATE TABLE pair (a INTEGER, b TEXT, x TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE loose (x, y INTEGER, z TEXT);
"""
TYPES_THERE = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN even AS integer CHECK (VALUE % 2 = 0);
CREATE TABLE made (
    k uuid PRIMARY KEY, i2 smallint, i4 integer, flag boolean, f4 real, f8 double precision,
    v varchar(20), c char(5), b bytea, j json, jb jsonb, d date, t time, tz timetz, ts timestamp,
    tsz timestamptz, iv interval, ie interval, u uuid, n numeric, n2 numeric(10, 2),
    es timestamptz, em timestamp, eu timestamptz, jd timestamp, nu timestamptz, ou timestamp,
    dp date, e mood, ar text[], ip inet, "do" even,
    g bigint GENERATED ALWAYS AS (i4::bigint * 2) STORED
);
CREATE TABLE pair (a bigint, b text, x text, PRIMARY KEY (a, b));
CREATE TABLE loose (x text, y bigint, z text);
"""
CONVERSIONS = {
    "iv": "interval_us",
    "ie": "interval_epoch",
    "u": "uuid_hex",
    "es": "epoch_s",
    "em": "epoch_ms",
    "eu": "epoch_us",
    "jd": "julian",
    "nu": "naive_utc",
    "ou": "offset_utc",
    "dp": "date_part",
}


def facts(chance: random.Random) -> list[Any]:
    """What one row says, before either side has a form for it."""
    key = uuid.UUID(int=chance.getrandbits(128))
    micros = chance.choice([0, 120000, 123456, 999999, 1])
    second = chance.randrange(-2_000_000_000, 4_000_000_000)
    moment = f"SELECT to_char(to_timestamp({second}) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"
    text = chance.choice(["", "tab\t\\N", "ünï😀", "it's", "x" * 20])
    number = chance.choice([0.1 + 0.2, 12345.67, -0.005, 1e15, 0, -7, 100, 1e-7, 12345678.9])
    cents = chance.choice([0.3, 0.1 + 0.2, 12345.67, 5, -1, 99999999.99])
    real = chance.choice([0.1, 0.0, 1e308, float("inf"), 5e-324, 1 / 3])
    document = chance.choice(
        ['{"b": 1.0, "aa": [1e2, -0, "\\u00e9\\n"], "a": null}', "[ ]", '"x"', '{"a":{"b":true}}']
    )
    duration = chance.choice([0, 1, -1, 86_400_000_000, 90_061_000_001, -3_600_000_000])
    even = 2 * chance.randrange(-100, 100)
    return [key, micros, second, moment, text, number, cents, real, document, duration, even]


def fill_types(database: Database, source: Path, count: int = 120) -> None:
    """Both sides are written by their own engine from the same facts."""
    chance = random.Random(7)
    here = sqlite3.connect(source)
    connection = pg.connect(database.target, "test")
    with connection.cursor() as cursor:
        cursor.execute(TYPES_THERE)
        cursor.execute("SET TimeZone = 'UTC'")
        for _row in range(count):
            key, micros, second, moment, text, number, cents, real, *more = facts(chance)
            document, duration, even = more
            cursor.execute(moment)
            stamp = cursor.fetchone()[0]
            fraction = f".{micros:06}" if micros else ""
            offset, minutes = chance.choice([("Z", 0), ("+02:00", 120), ("-0530", -330)])
            cursor.execute(
                "SELECT to_char(%s::timestamp + make_interval(mins => %s), "
                "'YYYY-MM-DD HH24:MI:SS')",
                (stamp, minutes),
            )
            local = cursor.fetchone()[0]
            form = chance.choice([str(key), key.hex, key.bytes, str(key).upper()])
            f4 = chance.choice([0.5, -3.25, 16777216.0, None])
            blob = chance.choice([b"", b"\x00\xff'", bytes(range(256))])
            half = abs(second) + 0.5
            row = [
                *(form, even, second % 2**31, even % 4 // 2, f4, real, text, text[:5], blob),
                *(document, document, stamp[:10], stamp[11:] + fraction, stamp[11:] + offset),
                *(stamp + fraction, local.replace(" ", "T") + fraction + offset, duration),
                *("1970-01-02 00:00:01.500000", key.hex, number, cents, second, second * 1000 + 7),
                *(second * 1_000_000 + micros, 2440587.5 + half / 86400, stamp, local + offset),
                *(stamp[:10] + " 00:00:00", chance.choice(["sad", "ok", "happy"]), "{a,b}"),
                *("10.0.0.1", str(even), second % 2**31 * 2),
            ]
            here.execute(f"INSERT INTO made VALUES ({', '.join('?' * len(row))})", row)
            words = [
                *(str(key), str(even), str(second % 2**31), str(bool(even % 4 // 2)), f4),
                *(repr(real).replace("inf", "Infinity"), text, text[:5], blob, document, document),
                *(stamp[:10], stamp[11:] + fraction, stamp[11:] + offset, stamp + fraction),
                *(stamp + fraction + "+00", f"{duration} microseconds", "24:00:01.5", key.hex),
                "0.3000000" if number == 0.1 + 0.2 else repr(number),
                *(f"{cents:.2f}", stamp + "+00"),
                *(f"{stamp}.007", f"{stamp}{fraction}+00"),
            ]
            cursor.execute("SELECT to_timestamp(%s) AT TIME ZONE 'UTC'", (half,))
            julian = cursor.fetchone()[0]
            words += [julian, stamp + "+00", stamp, stamp[:10], row[28], "{a,b}", "10.0.0.1/32"]
            words += [str(even)]
            names = "k, i2, i4, flag, f4, f8, v, c, b, j, jb, d, t, tz, ts, tsz, iv, ie, u, n, n2, "
            names += 'es, em, eu, jd, nu, ou, dp, e, ar, ip, "do"'
            marks = ", ".join(["%s"] * len(words))
            cursor.execute(f"INSERT INTO made ({names}) VALUES ({marks})", words)
            both = (second, text + str(even) + "é" * (even % 3), None)
            here.execute("INSERT OR IGNORE INTO pair VALUES (?, ?, ?)", both)
            cursor.execute("INSERT INTO pair VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", both)
            x = chance.choice([None, 5, 1.5, "five", "é"])
            told = None if x is None else str(x)
            for _twice in range(2):
                here.execute("INSERT INTO loose VALUES (?, ?, ?)", (x, even, text))
                cursor.execute("INSERT INTO loose VALUES (%s, %s, %s)", (told, even, text))
    connection.commit()
    connection.close()
    here.commit()
    here.close()


def test_every_type_and_conversion(database: Database, make_source: MakeSource) -> None:
    source = make_source(TYPES)
    fill_types(database, source)
    columns = [row[1] for row in sqlite3.connect(source).execute("PRAGMA table_info(made)")]
    write_record(
        database,
        source,
        [
            {
                "name": "made",
                "columns": [{"name": c, "conversion": CONVERSIONS.get(c)} for c in columns],
            },
            {"name": "pair", "columns": []},
            {"name": "loose", "columns": []},
        ],
    )
    for depth in DEPTHS:
        prove(database, source, depth=depth)
    changes = {
        "i2": "i2 + 2",
        "flag": "NOT flag",
        "f4": "coalesce(f4, 0) * 2 + 1",
        "f8": "CASE f8 WHEN 0 THEN 1 ELSE 0 END",
        "v": "v || '.'",
        "c": "'.' || substr(c, 2)",
        "b": "b || '\\x00'::bytea",
        "j": "(' ' || j)::json",
        "jb": "jsonb_build_array(jb)",
        "d": "d + 1",
        "t": "t + interval '1 microsecond'",
        "tz": "tz + interval '1 second'",
        "ts": "ts + interval '1 microsecond'",
        "tsz": "tsz - interval '1 microsecond'",
        "iv": "iv + interval '1 microsecond'",
        "ie": "ie + interval '1 microsecond'",
        "u": "'00000000-0000-0000-0000-000000000000'",
        "n": "n + 0.0000001",
        "n2": "n2 - 0.01",
        "es": "es + interval '1 microsecond'",
        "em": "em + interval '1 millisecond'",
        "eu": "eu + interval '1 microsecond'",
        "jd": "jd + interval '1 second'",
        "nu": "nu + interval '1 hour'",
        "ou": "ou + interval '1 hour'",
        "dp": "dp + 1",
        "e": "CASE e WHEN 'ok' THEN 'sad' ELSE 'ok' END::mood",
        "ar": "'{a,b,c}'",
        "ip": "'10.0.0.2'",
        "do": '"do" + 2',
    }
    key = database.query(
        "SELECT k FROM made WHERE v <> '' AND iv <> '0' AND length(v) < 20 LIMIT 1"
    )
    connection = pg.connect(database.target, "test")
    connection.autocommit = True
    for number, (column, change) in enumerate(changes.items()):
        pg.execute(connection, "DROP TABLE IF EXISTS golive_webstack.kept")
        kept = "CREATE TABLE golive_webstack.kept AS SELECT * FROM made WHERE k = %s"
        pg.execute(connection, kept, (key[0][0],))
        pg.execute(connection, f'UPDATE made SET "{column}" = {change} WHERE k = %s', (key[0][0],))
        found = differences(database, source, depth=ROWS[number % 2], include=["made"])
        assert [d["column"] for d in found] == [column], (column, found)
        back = f'UPDATE made SET "{column}" = kept."{column}" FROM golive_webstack.kept'
        pg.execute(connection, f"{back} WHERE made.k = kept.k")
    pg.execute(connection, "UPDATE pair SET x = 'y' WHERE a = (SELECT max(a) FROM pair)")
    for depth in ROWS:
        (one,) = differences(database, source, depth=depth, include=["pair"])
        assert one["column"] == "x" and set(one["key"]) == {"a", "b"}
    pg.execute(connection, "DELETE FROM loose WHERE ctid = (SELECT max(ctid) FROM loose)")
    for depth in ROWS:
        found = differences(database, source, depth=depth, include=["loose"])
        assert {"missing"} == {d["kind"] for d in found if "kind" in d}
        assert any("rowid" in d.get("key", {}) for d in found)
    connection.close()


def test_values_that_a_policy_moved(database: Database, make_source: MakeSource) -> None:
    source = make_source(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, d DATE, n INTEGER NOT NULL, x INTEGER, s TEXT);"
        "INSERT INTO t VALUES (1, '2024-01-01', 1, 1, 'a'), (2, '0000-00-00', 2, 2, 'b'), "
        "(3, '2024-01-03', 'three', 3, x'00ff'), (4, NULL, 4, 'four', x'41');"
        "CREATE TABLE bare (x INTEGER, y DATE); INSERT INTO bare VALUES (1, 'soon'), ('y', NULL);"
        "CREATE TABLE keyed (k TEXT PRIMARY KEY, d DATE, must DATE NOT NULL) WITHOUT ROWID;"
        "INSERT INTO keyed VALUES ('a', 'soon', '2024-01-01'), ('b', NULL, 'never');"
    )
    database.migrate(
        source,
        on_bad_value="quarantine",
        bad_value_columns={"t.x": "null", "t.s": "text"},
    )
    for depth in DEPTHS:
        evidence = prove(database, source, depth=depth)
        if depth == "counts":
            # Counts alone can't tell which NULL of a row that has gone was one before.
            continue
        moved = [(t["name"], m["count"]) for t in evidence["tables"] for m in t.get("moved", [])]
        assert sorted(moved) == [
            ("bare", 1),
            ("bare", 1),
            ("keyed", 1),
            ("keyed", 1),
            ("t", 1),
            ("t", 1),
            ("t", 1),
        ], (depth, moved)
    database.query("UPDATE t SET x = NULL WHERE id = 1; UPDATE t SET d = NULL WHERE id = 1")
    for depth in ROWS:
        found = differences(database, source, depth=depth)
        assert {(d["column"], d["key"]["id"]) for d in found} == {("x", 1), ("d", 1)}
    database.query("DELETE FROM golive_webstack.quarantine WHERE row_key::text LIKE '%3%'")
    for depth in DEPTHS:
        found = differences(database, source, depth=depth)
        assert any(d["table"] == "t" and "row" in d["what"] for d in found)


STRUCTURE = [
    ("ALTER TABLE users ALTER email DROP NOT NULL", "users", "not null email"),
    ("ALTER TABLE users ALTER active DROP DEFAULT", "users", "default of active"),
    ("DROP INDEX ix_logs_at", "logs", "index ix_logs_at"),
    ("DROP INDEX ix_logs_errors; CREATE INDEX ix_logs_errors ON logs (user_id)", "logs", "index"),
    ("ALTER TABLE users DROP CONSTRAINT uq_users_email", "users", "unique constraint (email)"),
    ("ALTER TABLE users DROP CONSTRAINT ck_users_balance", "users", "check constraints"),
    ("ALTER TABLE logs DROP CONSTRAINT logs_user_id_fkey", "logs", "foreign key (user_id)"),
    ("ALTER TABLE settings DROP CONSTRAINT settings_pkey", "settings", "primary key (name)"),
    ("SELECT setval('logs_id_seq', 3)", "logs", "next id"),
    (
        "ALTER TABLE logs ADD CONSTRAINT x FOREIGN KEY (user_id) REFERENCES users "
        "ON DELETE CASCADE NOT VALID",
        "logs",
        "foreign key x",
    ),
]


def test_structure(database: Database, source: Path) -> None:
    database.migrate(source)
    for depth in DEPTHS:
        assert not prove(database, source, depth=depth)["structure"]["unexplained"]
    for change, table, what in STRUCTURE:
        database.query(change)
        found = differences(database, source)
        assert any(d["table"] == table and what in d["what"] for d in found), (change, found)


def test_keys_of_every_kind(database: Database, make_source: MakeSource) -> None:
    """Names that were changed, orders that differ, and keys that have none in common."""
    long = "n" * 70
    source = make_source(
        "PRAGMA encoding = 'UTF-16le';"
        f'CREATE TABLE "{long}" (k VARCHAR(20) PRIMARY KEY, ctid INTEGER);'
        f"INSERT INTO \"{long}\" VALUES ('b', 1), ('B', 2), ('ä', 3), ('😀', 4), ('\ufffd', 5);"
        "CREATE TABLE nocase (k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID;"
        "INSERT INTO nocase VALUES ('b', 1), ('A', 2), ('C', 3);"
        "CREATE TABLE number (k REAL PRIMARY KEY, v JSON);"
        "INSERT INTO number VALUES (1.5, '[1]'), (-2.5, '{}'), (0, 5), (1e300, NULL);"
        "CREATE TABLE moment (at DATETIME, n NUMERIC(8, 2), b BLOB, PRIMARY KEY (at, n, b));"
        "INSERT INTO moment VALUES ('2024-01-01 00:00:00', 1.5, x'00'), "
        "('2024-01-01T00:00:00', 10, x'ff'), ('1999-12-31 23:59:59.5', -1, x'');"
        "CREATE TABLE vacant (a, b TEXT);"
    )
    database.migrate(source)
    for depth in DEPTHS:
        prove(database, source, depth=depth)
    tables = {row[0] for row in database.query("SELECT tablename FROM pg_tables")}
    renamed = next(name for name in tables if name.startswith("nnn"))
    database.query(f"UPDATE {renamed} SET k = 'c' WHERE k = 'b'")
    database.query("DELETE FROM number WHERE k = 0; UPDATE moment SET n = -2 WHERE n = -1")
    database.query("INSERT INTO vacant VALUES ('x', 'y')")
    for depth in ROWS:
        found = differences(database, source, depth=depth)
        kinds = {(d["table"], d["kind"]) for d in found if "kind" in d}
        assert kinds == {
            (long, "missing"),
            (long, "extra"),
            ("number", "missing"),
            ("moment", "missing"),
            ("moment", "extra"),
            ("vacant", "extra"),
        }, found


EXISTING = """
CREATE TABLE item (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, token uuid NOT NULL UNIQUE,
    took interval, at timestamptz, price numeric(10, 2), tags jsonb, extra text DEFAULT 'x'
);
"""


def test_a_schema_of_its_own(database: Database, make_source: MakeSource) -> None:
    source = make_source(
        "CREATE TABLE item (id INTEGER PRIMARY KEY, token CHAR(32) NOT NULL UNIQUE, took BIGINT, "
        "at DATETIME, price DECIMAL(10, 2), tags JSON);"
        "INSERT INTO item VALUES (1, '0123456789abcdef0123456789abcdef', 90061000001, "
        "'2024-05-06 07:08:09.100000', 9.99, '{\"b\": 1.50, \"a\": [1, 2]}'), "
        "(7, 'ffffffffffffffffffffffffffffffff', NULL, NULL, 0.1, 'null');"
    )
    database.query(EXISTING)
    database.migrate(source, target_schema_mode="existing")
    for depth in DEPTHS:
        evidence = prove(database, source, depth=depth)
        assert evidence["tables"][0]["columns_only_in_target"] == ["extra"]
        assert evidence["tables"][0]["target"]["next_id"] == 8
    database.query("UPDATE item SET took = took * 1000000 WHERE id = 1")
    for depth in ROWS:
        (found,) = differences(database, source, depth=depth)
        assert found["column"] == "took"
