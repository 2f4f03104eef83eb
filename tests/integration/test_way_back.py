# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back: a round trip gives equal data, later writes are there, nothing is half done."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.reverse import (
    Reversed,
    ReverseRequest,
    restore,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.verify import (
    VerifyRequest,
    verify,
)
from tests.integration.conftest import child_of
from tests.integration.test_fidelity import build
from tests.integration.test_verify import CONVERSIONS, TYPES, fill_types, write_record
from tests.playing import run_play

if TYPE_CHECKING:
    from tests.integration.conftest import Database

MakeSource = Callable[[str], Path]


def back(database: Database, dest: Path, **options: Any) -> Reversed:
    return restore(ReverseRequest(str(dest), database.target, **options))


def dump(path: Path, *tables: str) -> dict[str, list[Any]]:
    """Rows with their storage classes, and the schema."""
    connection = sqlite3.connect(path)
    connection.text_factory = bytes
    try:
        found: dict[str, list[Any]] = {}
        names = tables or [
            row[0].decode()
            for row in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
            )
        ]
        for name in names:
            columns = [
                row[1].decode() for row in connection.execute(f'PRAGMA table_xinfo("{name}")')
            ]
            parts = ", ".join(f'"{c}", typeof("{c}")' for c in columns)
            rows = connection.execute(f'SELECT {parts} FROM "{name}"').fetchall()
            found[name] = sorted(rows, key=repr)
        found["schema"] = connection.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE sql <> '' ORDER BY type, name"
        ).fetchall()
        return found
    finally:
        connection.close()


MORE = """
CREATE TRIGGER stamp AFTER INSERT ON users BEGIN
    UPDATE settings SET value = 'seen' WHERE name = 'a';
END;
CREATE TABLE plain (x, y VARCHAR(5) COLLATE NOCASE);
INSERT INTO plain VALUES (3, 'c'), (1, 'a'), (1, 'a'), (NULL, ''), ('x', 'b');
CREATE VIRTUAL TABLE search USING fts5 (message, content='logs', content_rowid='id');
PRAGMA user_version = 42;
"""


def with_more(source: Path) -> Path:
    connection = sqlite3.connect(source)
    connection.executescript(MORE)
    connection.close()
    return source


def test_round_trip(database: Database, source: Path, tmp_path: Path) -> None:
    with_more(source)
    connection = sqlite3.connect(source)
    for sql in ("PRAGMA page_size = 8192", "VACUUM", "PRAGMA journal_mode = WAL"):
        connection.execute(sql)
    connection.close()
    before = dump(source)
    database.migrate(source)
    dest = tmp_path / "back.db"
    plan = back(database, dest, schema_from=str(source), check_mode=True)
    assert plan.changed and not dest.exists() and plan.rows_total == 2109
    outcome = back(database, dest, schema_from=str(source))
    assert outcome.changed and outcome.verified and outcome.rows_total == 2109
    assert {t["unchanged"] for t in outcome.tables} == {100, 2000, 4, 5}
    after = dump(dest)
    shadows = {name for name in before if name.startswith("search")}
    assert {k: v for k, v in after.items() if k not in shadows} == {
        k: v for k, v in before.items() if k not in shadows
    }
    assert stat.S_IMODE(dest.stat().st_mode) == 0o600
    assert os.listdir(tmp_path).count(".back.db.golive-partial") == 0
    connection = sqlite3.connect(dest)
    for name, value in (("user_version", 42), ("page_size", 8192), ("journal_mode", "wal")):
        assert connection.execute(f"PRAGMA {name}").fetchone() == (value,)
    assert connection.execute(
        "SELECT count(*) FROM search WHERE search MATCH 'lines'"
    ).fetchone() == (2000,)
    assert connection.execute("SELECT rowid, x FROM plain").fetchall() == [
        (1, 3),
        (2, 1),
        (3, 1),
        (4, None),
        (5, "x"),
    ]
    cursor = connection.execute("INSERT INTO logs (level, at) VALUES ('x', '2024-01-01')")
    assert cursor.lastrowid == 9001
    connection.close()
    dest.unlink()
    assert back(database, dest, schema_from=str(source)).changed
    again = back(database, dest, schema_from=str(source))
    assert not again.changed and again.verified


def test_later_writes(database: Database, source: Path, tmp_path: Path) -> None:
    with_more(source)
    database.migrate(source)
    for sql in (
        "INSERT INTO users (email, active, balance, created_at) "
        "VALUES ('late@example.com', false, 12.5, '2025-01-02 03:04:05.000006')",
        "UPDATE logs SET message = 'changed', data = '{\"new\": 1}' WHERE id = 8",
        "DELETE FROM logs WHERE id = 9",
        "INSERT INTO plain (x, y) VALUES ('2', 'new')",
        "ALTER TABLE users ADD COLUMN phone text",
        "UPDATE users SET phone = '123' WHERE id = 7",
        "CREATE TABLE orders (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "
        "user_id bigint NOT NULL REFERENCES users, total numeric(10, 2) DEFAULT 0, "
        "paid boolean DEFAULT false, at timestamptz, CHECK (total >= 0))",
        "INSERT INTO orders (user_id, total, paid, at) VALUES (1, 9.99, true, '2025-01-01Z')",
        "CREATE INDEX ix_orders ON orders (user_id, at DESC)",
    ):
        database.query(sql)
    dest = tmp_path / "back.db"
    outcome = back(database, dest, schema_from=str(source))
    assert [(x["kind"], x["name"]) for x in outcome.not_carried] == [
        ("check", "orders: orders_total_check")
    ]
    assert any("users.phone is new" in note for note in outcome.notes)
    connection = sqlite3.connect(dest)
    assert connection.execute("SELECT * FROM users WHERE id = 101").fetchall() == [
        (101, "late@example.com", 0, 12.5, None, "2025-01-02 03:04:05.000006", None)
    ]
    assert connection.execute("SELECT phone FROM users WHERE id = 7").fetchone() == ("123",)
    assert connection.execute("SELECT id, message FROM logs WHERE id IN (8, 9)").fetchall() == [
        (8, "changed")
    ]
    assert connection.execute("SELECT rowid, * FROM plain WHERE y = 'new'").fetchall() == [
        (6, "2", "new")
    ]
    assert connection.execute("SELECT * FROM orders").fetchall() == [
        (1, 1, 9.99, 1, "2025-01-01 00:00:00+00:00")
    ]
    assert connection.execute("SELECT value FROM settings WHERE name = 'a'").fetchone() != ("seen",)
    connection.close()
    bare = tmp_path / "bare.db"
    made = back(database, bare, exclude=["orders"])
    assert made.verified and {t["schema"] for t in made.tables} == {"catalog"}
    assert len(dump(bare, "logs")["logs"]) == 1999


def test_every_type_and_conversion(
    database: Database, make_source: MakeSource, tmp_path: Path
) -> None:
    source = make_source(TYPES)
    fill_types(database, source, 60)
    columns = [row[1] for row in sqlite3.connect(source).execute("PRAGMA table_info(made)")]
    given = [{"name": c, "conversion": CONVERSIONS.get(c)} for c in columns]
    tables = ({"name": "pair", "columns": []}, {"name": "loose", "columns": []})
    write_record(database, source, [{"name": "made", "columns": given}, *tables])
    dest = tmp_path / "back.db"
    back(database, dest, schema_from=str(source))
    old, new = dump(source), dump(dest)
    for row, other in zip(old["made"], new["made"]):
        assert row == other
    assert old == new
    # Without the original at hand every value is written anew; the same must be said.
    database.query("UPDATE made SET k = gen_random_uuid()")
    written = tmp_path / "anew.db"
    back(database, written, schema_from=str(source))
    rows, others = dump(source, "made")["made"], dump(written, "made")["made"]
    assert len(rows) == len(others) == 60
    places = {name: 2 * n for n, name in enumerate(columns)}
    for name in ("i2", "i4", "flag", "f8", "v", "b", "j", "iv", "u", "es", "em", "nu", "dp", "e"):
        place = places[name]
        assert sorted((r[place : place + 2] for r in rows), key=repr) == sorted(
            (r[place : place + 2] for r in others), key=repr
        ), name


def test_booleans_as_words(database: Database, make_source: MakeSource, tmp_path: Path) -> None:
    source = make_source(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, done BOOLEAN NOT NULL DEFAULT 'f', seen BOOLEAN);"
        "INSERT INTO t VALUES (1, 't', 'TRUE'), (2, 'f', NULL), (3, 't', 'FALSE'), (4, 'f', 1)"
    )
    with pytest.raises(MigrationError, match="boolean using words"):
        database.migrate(source)
    wanted = {"*.done": "boolean using words", "t.seen": "boolean using words"}
    outcome = database.migrate(source, type_overrides=wanted)
    assert outcome.not_carried == []
    database.query("INSERT INTO t (id, seen) VALUES (5, false)")
    assert database.query("SELECT * FROM t ORDER BY id") == [
        (1, True, True), (2, False, None), (3, True, False), (4, False, True), (5, False, False)
    ]  # fmt: skip
    dest = tmp_path / "back.db"
    assert back(database, dest, schema_from=str(source)).verified
    rows = sqlite3.connect(dest).execute("SELECT * FROM t").fetchall()
    before = sqlite3.connect(source).execute("SELECT * FROM t").fetchall()
    assert rows == [*before, (5, "f", "FALSE")]


def test_values_that_sqlite_cannot_hold(database: Database, tmp_path: Path) -> None:
    database.query("CREATE TABLE n (id int PRIMARY KEY, v numeric, d timestamp)")
    database.query(
        "INSERT INTO n VALUES (1, 1.5, now()), (2, 0.12345678901234567890, 'infinity'), "
        "(3, 'NaN', NULL), (4, 123456789012345678901234567890, NULL)"
    )
    dest = tmp_path / "back.db"
    for check_mode in (True, False):
        with pytest.raises(MigrationError, match="can't hold exactly") as caught:
            back(database, dest, check_mode=check_mode)
        bad = {(b["column"], b["reason"]): b for b in caught.value.details["bad_values"]}
        assert bad["v", "a decimal with more digits than a double holds"]["count"] == 2
        assert bad["d", "an infinite time"]["rows"] == [{"row": 2}]
        assert list(tmp_path.iterdir()) == [] and "0.1234" not in caught.value.message
    database.query("DELETE FROM n WHERE id > 1; CREATE VIEW w AS SELECT 1")
    with pytest.raises(MigrationError, match="view w"):
        back(database, dest)
    database.query("DROP VIEW w; CREATE TABLE a (x int[], y interval)")
    with pytest.raises(MigrationError, match=r"a\.x \(integer\[\]\), a\.y \(interval\)"):
        back(database, dest)
    assert back(database, dest, exclude=["a"]).rows_total == 1


def test_existing_file(database: Database, source: Path, tmp_path: Path) -> None:
    database.migrate(source)
    dest = tmp_path / "app.db"
    dest.write_bytes(source.read_bytes())
    assert not back(database, dest, schema_from=str(source)).changed
    database.query("DELETE FROM logs WHERE id = 1")
    os.chmod(dest, 0o640)
    with pytest.raises(MigrationError, match="set replace to true"):
        back(database, dest, schema_from=str(source))
    wal = tmp_path / "app.db-wal"
    wal.write_bytes(b"x")
    with pytest.raises(MigrationError, match="-wal holds changes"):
        back(database, dest, schema_from=str(source), replace=True)
    wal.unlink()
    outcome = back(database, dest, schema_from=str(dest), replace=True)
    assert outcome.backup and Path(outcome.backup).read_bytes() == source.read_bytes()
    assert stat.S_IMODE(dest.stat().st_mode) == 0o640
    assert len(dump(dest, "logs")["logs"]) == 1999


CHILD = """
import sys
from importlib import import_module
package = "ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration"
reverse, target = (import_module(f"{package}.{name}") for name in ("reverse", "target"))
put = reverse._Writer.put
count = 0
def slow(self, row, rowid):
    global count
    count += 1
    if count == 1000:
        print("writing", flush=True)
        sys.stdin.readline()
    put(self, row, rowid)
reverse._Writer.put = slow
given = eval(sys.stdin.readline())
reverse.restore(reverse.ReverseRequest(sys.argv[1], target.Target(**given)))
"""


def test_killed_while_writing(database: Database, source: Path, tmp_path: Path) -> None:
    database.migrate(source)
    database.query("DROP VIEW IF EXISTS errors")
    folder = tmp_path / "new"
    folder.mkdir()
    dest = folder / "back.db"
    with child_of(database, CHILD, str(dest), says="writing") as child:
        with pytest.raises(MigrationError, match="Another run is writing"):
            back(database, dest)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not dest.exists()
    assert back(database, dest).verified
    assert os.listdir(folder) == ["back.db"]


def test_disk_full(database: Database, source: Path, tmp_path: Path) -> None:
    database.migrate(source)
    folder = tmp_path / "new"
    folder.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(MigrationError, match="SQLite can't write.*Nothing was changed"):
            back(database, folder / "back.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert os.listdir(folder) == []


def test_quarantined_values_come_back(
    database: Database, make_source: MakeSource, tmp_path: Path
) -> None:
    """As the contract of the quarantine has them; the migration's own test is elsewhere."""
    source = make_source(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, d DATE, n INTEGER NOT NULL, x INTEGER);"
        "INSERT INTO t VALUES (1, '2024-01-01', 1, 1), (2, '0000-00-00', 2, 2), "
        "(3, '2024-01-03', 'three', 3), (4, 'soon', 4, 4), (5, NULL, 5, 'five');"
    )
    database.query("CREATE TABLE t (id bigint PRIMARY KEY, d date, n bigint NOT NULL, x bigint)")
    database.query("INSERT INTO t VALUES (1, '2024-01-01', 1, 1), (2, NULL, 2, 2)")
    database.query("INSERT INTO t VALUES (4, '2024-04-04', 4, 4), (5, NULL, 5, NULL)")
    columns = [{"name": n, "conversion": None, "policy": "quarantine"} for n in ("d", "n")]
    columns.append({"name": "x", "conversion": None, "policy": "null"})
    number = write_record(database, source, [{"name": "t", "columns": columns}])
    database.query(
        "CREATE TABLE golive_webstack.quarantine (migration_id bigint, schema_name text, "
        "table_name text, column_name text, row_key json, storage_class text, original bytea, "
        "reason text, whole_row boolean)"
    )
    for rowid, column, kind, original, whole in (
        (2, "d", "text", b"0000-00-00", False),
        (3, "id", "integer", b"3", True),
        (3, "d", "text", b"2024-01-03", True),
        (3, "n", "text", b"three", True),
        (3, "x", "integer", b"3", True),
        (4, "d", "text", b"soon", False),
    ):
        database.query(
            "INSERT INTO golive_webstack.quarantine VALUES (%s, 'public', 't', %s, %s, %s, %s, "
            "'bad', %s)",
            (number, column, json.dumps({"rowid": rowid}), kind, original, whole),
        )
    dest = tmp_path / "back.db"
    outcome = back(database, dest, schema_from=str(source))
    assert outcome.tables[0]["restored"] == 1
    connection = sqlite3.connect(dest)
    assert connection.execute("SELECT * FROM t ORDER BY id").fetchall() == [
        (1, "2024-01-01", 1, 1),
        (2, "0000-00-00", 2, 2),
        (3, "2024-01-03", "three", 3),
        (4, "2024-04-04", 4, 4),
        (5, None, 5, "five"),
    ]
    connection.close()


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_every_awkward_value(database: Database, tmp_path: Path, encoding: str) -> None:
    """All that the fidelity cases have, with what PostgreSQL can't hold in the quarantine."""
    source = tmp_path / "values.db"
    build(source, encoding)
    database.migrate(source, on_bad_value="quarantine")
    moved = []
    for depth in ("checksums", "full"):
        evidence = verify(VerifyRequest(str(source), database.target, depth=depth)).evidence
        assert evidence is not None
        moved.append([table.get("moved") for table in evidence["tables"]])
    assert moved[0] == moved[1] and any(moved[0])
    dest = tmp_path / "back.db"
    back(database, dest, schema_from=str(source))
    assert dump(dest) == dump(source)


def test_as_a_play_uses_it(database: Database, source: Path, tmp_path: Path) -> None:
    """Check mode, the file with its mode, a second run without a change, and the proof."""
    database.migrate(source)
    folder = tmp_path / "play"
    folder.mkdir()
    login = {
        "login_host": database.target.host,
        "login_port": database.target.port,
        "login_user": database.target.user,
        "login_password": database.target.password,
        "login_db": database.target.database,
    }
    dest = folder / "back.db"
    module = {
        "golive.webstack.postgres_to_sqlite": {
            **login,
            "dest": str(dest),
            "schema_from": str(source),
            "mode": "0640",
        },
        "register": "result",
    }
    right = "result.changed and result.verified and result.rows_total == 2104"
    evidence = str(folder / "evidence.json")
    verification = {**login, "src": str(dest), "depth": "full", "evidence_file": evidence}
    tasks: list[dict[str, Any]] = [
        {**module, "check_mode": True},
        {"ansible.builtin.assert": {"that": "result.changed and not result.verified"}},
        module,
        {"ansible.builtin.assert": {"that": right}},
        module,
        {"ansible.builtin.assert": {"that": "not result.changed and result.verified"}},
        {"golive.webstack.sqlite_postgres_verify": verification},
    ]
    code, output = run_play(folder, tasks, "-v", "--diff")
    assert code == 0, output
    assert "+CREATE TABLE users" in output
    assert database.target.password not in output
    assert stat.S_IMODE(dest.stat().st_mode) == 0o640
    assert json.loads(Path(evidence).read_text())["equal"]
