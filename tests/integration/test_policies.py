# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of values that the target can't hold, and that both ways of loading agree."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import load, watch
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import target as pg
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)

if TYPE_CHECKING:
    from tests.integration.conftest import Database

psycopg2 = pytest.importorskip("psycopg2")

MakeSource = Callable[[str], Path]

MIXED = """
CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, d DATE NOT NULL, s VARCHAR(3), j JSON,
                e TEXT, b BLOB);
INSERT INTO t VALUES
    (1, 10, '2024-01-01', 'abc', '{}', 'x', x'00'),
    (2, 'ten', '2024-01-02', 'abcd', '{broken', 'a' || char(0), 'text'),
    (3, 1.5, 'no date', 'ab', '[1]', CAST(x'ff' AS TEXT), NULL),
    (4, NULL, '2024-01-04', x'6162', 'NaN', NULL, x'01');
CREATE TABLE fine (k TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID;
INSERT INTO fine VALUES ('a', 'b');
"""


def found(listed: list[dict[str, Any]]) -> dict[str, tuple[int, list[int]]]:
    together: dict[str, tuple[int, list[int]]] = {}
    for item in listed:
        count, rows = together.get(item["column"], (0, []))
        numbers = [row["rowid"] for row in item["rows"]]
        together[item["column"]] = (count + item["count"], sorted(rows + numbers))
    return together


def test_fail_lists_every_kind(database: Database, make_source: MakeSource) -> None:
    source = make_source(MIXED)
    for check_mode in (True, False):
        with pytest.raises(MigrationError, match="on_bad_value") as caught:
            database.migrate(source, check_mode=check_mode)
        assert found(caught.value.details["bad_values"]) == {
            "n": (2, [2, 3]),
            "d": (1, [3]),
            "s": (2, [2, 4]),
            "j": (2, [2, 4]),
            "e": (2, [2, 3]),
            "b": (1, [2]),
        }
        assert all(p["action"] == "stops the migration" for p in caught.value.details["problems"])
        assert "abcd" not in str(caught.value) and "ten" not in str(caught.value)
    assert database.relations() == []


def test_null(database: Database, make_source: MakeSource) -> None:
    source = make_source(MIXED)
    with pytest.raises(MigrationError, match="NOT NULL|no date"):
        database.migrate(source, on_bad_value="null")
    assert database.relations() == []
    planned = database.migrate(
        source,
        on_bad_value="null",
        bad_value_columns={"t.d": "quarantine"},
        check_mode=True,
    )
    assert len(planned.plan["problems"]) == 10 and database.relations() == []
    assert "becomes NULL" in planned.plan_text
    outcome = database.migrate(source, on_bad_value="null", bad_value_columns={"t.d": "quarantine"})
    rows = database.query("SELECT id, n, d::text, s, j::text, e, b FROM t ORDER BY id")
    assert rows[0][:6] == (1, 10, "2024-01-01", "abc", "{}", "x")
    assert rows[1] == (2, None, "2024-01-02", None, None, None, None)
    assert rows[2][:6] == (4, None, "2024-01-04", None, None, None)
    assert bytes(rows[2][6]) == b"\x01" and len(rows) == 3
    assert found(outcome.nulled) == {
        "n": (1, [2]),
        "s": (2, [2, 4]),
        "j": (2, [2, 4]),
        "e": (1, [2]),
        "b": (1, [2]),
    }
    listed = database.query(
        "SELECT column_name, (row_key->>'rowid')::int, storage_class, migration_id = "
        "(SELECT id FROM golive_webstack.migration), reason <> '' FROM golive_webstack.nulled "
        "WHERE schema_name = 'public' AND table_name = 't' ORDER BY 1, 2"
    )
    assert [x[:3] for x in listed] == [
        ("b", 2, "text"),
        ("e", 2, "text"),
        ("j", 2, "text"),
        ("j", 4, "text"),
        ("n", 2, "text"),
        ("s", 2, "text"),
        ("s", 4, "blob"),
    ]
    assert all(x[3:] == (True, True) for x in listed)
    assert found(outcome.quarantined) == {"n": (1, [3]), "d": (1, [3]), "e": (1, [3])}
    table = next(t for t in outcome.tables if t["name"] == "t")
    assert (table["source_rows"], table["target_rows"], table["quarantined_rows"]) == (4, 3, 1)
    kept = database.query(
        "SELECT column_name, storage_class, original, whole_row, row_key "
        "FROM golive_webstack.quarantine ORDER BY column_name"
    )
    assert {k[0]: (k[1], k[2] and bytes(k[2])) for k in kept} == {
        "b": ("null", None),
        "d": ("text", b"no date"),
        "e": ("text", b"\xff"),
        "id": ("integer", b"3"),
        "j": ("text", b"[1]"),
        "n": ("real", b"1.5"),
        "s": ("text", b"ab"),
    }
    assert all(k[3] and k[4] == {"rowid": 3} for k in kept)
    record = outcome.record
    assert record and len(record["moved_values"]) == len(outcome.nulled) + len(outcome.quarantined)


def test_quarantine_of_single_values(database: Database, make_source: MakeSource) -> None:
    source = make_source(MIXED + "DELETE FROM t WHERE id = 3;")
    outcome = database.migrate(source, on_bad_value="quarantine")
    assert database.query("SELECT count(*), count(n), count(s), count(b) FROM t") == [(3, 1, 1, 2)]
    kept = database.query(
        "SELECT row_key->>'rowid', column_name, original, whole_row, migration_id, table_name "
        "FROM golive_webstack.quarantine ORDER BY 1, 2"
    )
    assert [(k[0], k[1], bytes(k[2])) for k in kept] == [
        ("2", "b", b"text"),
        ("2", "e", b"a\x00"),
        ("2", "j", b"{broken"),
        ("2", "n", b"ten"),
        ("2", "s", b"abcd"),
        ("4", "j", b"NaN"),
        ("4", "s", b"ab"),
    ]
    assert outcome.record and {k[3:] for k in kept} == {(False, outcome.record["id"], "t")}
    assert not outcome.nulled and sum(q["count"] for q in outcome.quarantined) == 7


def test_text(database: Database, make_source: MakeSource) -> None:
    source = make_source(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, s VARCHAR(3), fine INTEGER);"
        "INSERT INTO t VALUES (1, 5, 'abc', 1), (2, 'five', 'abcd', 2), (3, 1.5, x'00ff', 3);"
        "CREATE TABLE u (id INTEGER PRIMARY KEY, d DATE); INSERT INTO u VALUES (1, 'today');"
    )
    planned = database.migrate(source, on_bad_value="text", check_mode=True)
    assert {p["action"] for p in planned.plan["problems"]} == {"the column becomes text"}
    outcome = database.migrate(source, on_bad_value="text")
    assert database.query("SELECT n, s, fine FROM t ORDER BY id") == [
        ("5", "abc", 1),
        ("five", "abcd", 2),
        ("1.5", "\\x00ff", 3),
    ]
    assert database.query("SELECT d FROM u") == [("today",)]
    types = {c["name"]: c["type"] for t in outcome.tables for c in t["columns"]}
    assert types == {"id": "bigint", "n": "text", "s": "text", "fine": "bigint", "d": "text"}


def test_a_nul_fits_no_text(database: Database, make_source: MakeSource) -> None:
    source = make_source("CREATE TABLE t (v TEXT); INSERT INTO t VALUES ('a' || char(0))")
    with pytest.raises(MigrationError, match="NUL"):
        database.migrate(source, on_bad_value="text")
    assert database.relations() == []


def test_types_that_only_the_server_knows(database: Database, make_source: MakeSource) -> None:
    database.query("CREATE TYPE public.mood AS ENUM ('happy', 'sad')")
    source = make_source(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, m TEXT, a TEXT, i TEXT);"
        "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 3000) "
        "INSERT INTO t SELECT i, CASE i % 1000 WHEN 7 THEN 'angry' ELSE 'sad' END, "
        "CASE i WHEN 2500 THEN '{1' ELSE '{1,2}' END, '10.0.0.' || (i % 300) FROM c"
    )
    given = {
        "type_overrides": {"t.m": "public.mood", "t.a": "int[]", "t.i": "inet"},
        "bad_value_columns": {"t.m": "quarantine", "t.a": "null", "t.i": "null"},
    }
    with pytest.raises(MigrationError) as caught:
        database.migrate(source, type_overrides=given["type_overrides"])
    bad = {b["column"]: (b["count"], b["rows"]) for b in caught.value.details["bad_values"]}
    assert bad["m"] == (3, [{"rowid": 7}, {"rowid": 1007}, {"rowid": 2007}])
    assert bad["a"] == (1, [{"rowid": 2500}]) and bad["i"][0] == 440
    assert "angry" not in str(caught.value)
    outcome = database.migrate(source, **given)
    assert sum(f["count"] for f in outcome.nulled) == 441
    assert database.query("SELECT count(*) FROM golive_webstack.nulled") == [(441,)]
    assert database.query("SELECT count(*), count(m), count(a), count(i) FROM t") == [
        (3000, 2997, 2999, 2560)
    ]
    assert database.query("SELECT m::text, a FROM t WHERE id = 8") == [("sad", [1, 2])]


BOTH = """
CREATE TABLE v (id INTEGER PRIMARY KEY, i INTEGER, f REAL, t TEXT, b BLOB, j JSON, o BOOLEAN,
    d DATE, c TIME, s DATETIME, m NUMERIC(12, 3), p NUMERIC, x VARCHAR(10), e INTEGER, w INTEGER,
    u TEXT, z TEXT);
"""


def test_both_ways_agree(
    database: Database, make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Binary COPY, and the careful text that is its measure."""
    from random import Random

    source = make_source(BOTH)
    random = Random(7)
    connection = sqlite3.connect(source)

    def digits(count: int) -> str:
        return f"{random.randrange(10**count):0{count}}"

    def day() -> str:
        year, month, date = (random.randrange(1, n) for n in (10000, 13, 29))
        return f"{year:04}-{month:02}-{date:02}"

    def clock() -> str:
        text = f"{random.randrange(24):02}:{random.randrange(60):02}:{random.randrange(60):02}"
        return text + random.choice(["", "." + digits(3), "." + digits(6), ".5"])

    rows = [
        (
            number,
            random.choice([None, number, -(2**63), 2**63 - 1]),
            random.choice([None, random.random() * 10 ** random.randrange(-300, 300)]),
            random.choice([None, "", "\\N", "a\tb\n", "ü😀" * random.randrange(9)]),
            random.choice([None, b"", random.randbytes(random.randrange(9))]),
            random.choice([None, '{"a": [1, 2.50]}', "12", "1.5", '"x"']),
            random.choice([None, 0, 1]),
            random.choice([None, day()]),
            random.choice([None, clock()]),
            random.choice([None, day(), day() + random.choice(" T") + clock()]),
            random.choice([None, random.randrange(-(10**9), 10**9) / 1000, number]),
            random.choice([None, random.randrange(10**15), random.random(), -1e-7, 1e20]),
            random.choice([None, "x" * random.randrange(11), "ü" * 10]),
            random.choice([None, random.randrange(-(10**9), 10**10)]),
            random.choice([None, random.randrange(-(10**15), 10**15)]),
            random.choice([None, digits(32)]),
            random.choice([None, day() + " " + clock() + random.choice(["Z", "+02:00", "-1130"])]),
        )
        for number in range(3000)
    ]
    connection.executemany(f"INSERT INTO v VALUES ({', '.join('?' * 17)})", rows)
    connection.execute("UPDATE v SET z = NULL WHERE z LIKE '0001-01-01%'")
    connection.commit()
    connection.close()
    given = {
        "type_overrides": {
            "v.e": "timestamptz using epoch_s",
            "v.w": "interval using interval_us",
            "v.u": "uuid",
            "v.z": "timestamptz",
        }
    }
    assert database.migrate(source, schema="fast", **given).rows_total == 3000
    monkeypatch.setattr(load, "can_pack", lambda _target: False)
    assert database.migrate(source, schema="slow", **given).rows_total == 3000
    for one, other in (("fast", "slow"), ("slow", "fast")):
        assert (
            database.query(
                f"SELECT x.id FROM {one}.v AS x JOIN {other}.v AS y USING (id) "
                "WHERE x.*::text <> y.*::text"
            )
            == []
        )
    assert database.query("SELECT count(DISTINCT x.*::text) FROM fast.v AS x") == [(3000,)]


def test_backup_copy(database: Database, source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    with pytest.raises(MigrationError, match="backup_copy.*no folder"):
        database.migrate(source, backup_copy=str(folder))
    folder.mkdir()
    with pytest.raises(MigrationError, match="no such table|exclude names"):
        database.migrate(source, backup_copy=str(folder), exclude=["nothing"])
    assert list(folder.iterdir()) == []
    connection = sqlite3.connect(source)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    outcome = database.migrate(source, backup_copy=str(folder))
    copy = Path(outcome.backup_copy)
    assert sorted(folder.iterdir()) == sorted([copy, Path(f"{copy}.sha256")])
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert Path(f"{copy}.sha256").read_text() == (
        f"{hashlib.sha256(copy.read_bytes()).hexdigest()}  {copy.name}\n"
    )
    here, there = sqlite3.connect(source), sqlite3.connect(copy)
    assert list(here.iterdump()) == list(there.iterdump())
    here.close()
    there.close()
    assert outcome.record and outcome.record["backup_copy"] == str(copy)


def test_progress_and_a_control_node_that_is_gone(
    database: Database, source: Path, tmp_path: Path
) -> None:
    path = tmp_path / "progress.json"
    (tmp_path / "alive").touch()
    os.utime(tmp_path / "alive", (time.time() - 100, time.time() - 100))
    with pytest.raises(MigrationError, match="control node is gone"):
        database.migrate(source, progress_file=str(path))
    assert database.relations() == []
    (tmp_path / "alive").touch()
    database.migrate(source, progress_file=str(path))
    figures = json.loads(path.read_text())
    assert figures["phase"] == "done" and figures["rows_done"] == figures["rows_total"] == 2104


def watched(path: Path, seen: list[dict[str, Any]], over: threading.Event) -> None:
    while not over.wait(0.005):
        with contextlib.suppress(OSError, ValueError):
            seen.append(json.loads(path.read_text()))


def test_progress_of_an_index(
    database: Database, make_source: MakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_SECONDS", 0.02)
    # No fork beside this test's own thread.
    monkeypatch.setattr(load, "wanted", lambda _path, _target: 0)
    source = make_source(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE INDEX by_value ON t (v);"
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 300000)"
        "INSERT INTO t SELECT n, hex(n * 7919 % 300007) || 'xxxxxxxxxxxxxxxxxxxx' FROM c"
    )
    seen: list[dict[str, Any]] = []
    over = threading.Event()
    path = tmp_path / "progress.json"
    watcher = threading.Thread(target=watched, args=(path, seen, over))
    watcher.start()
    try:
        database.migrate(source, progress_file=str(path))
    finally:
        over.set()
        watcher.join()
    notes = {figures["note"] for figures in seen if figures["phase"] == "index"}
    line = re.compile(r"index by_value on t \(2 of 2\), (scanning table|loading tuples).* \d+ %")
    assert any(line.fullmatch(note) for note in notes), sorted(notes)
    assert json.loads(path.read_text())["note"] == ""


def test_a_long_statement_ends_when_the_control_node_is_gone(
    database: Database, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, alive = tmp_path / "progress.json", tmp_path / "alive"
    alive.touch()
    apply = load._apply

    def long(connection: Any, statement: Any, *more: Any) -> None:
        if statement.kind == "index":
            os.utime(alive, (time.time() - 100, time.time() - 100))
            pg.execute(connection, "SELECT pg_sleep(120)")
        apply(connection, statement, *more)

    monkeypatch.setattr(load, "_apply", long)
    began = time.monotonic()
    with pytest.raises(MigrationError, match="control node is gone"):
        database.migrate(source, progress_file=str(path))
    assert time.monotonic() - began < 60
    assert database.relations() == []


def test_disk_that_is_too_small(
    database: Database, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pg, "data_folder", lambda *_given: str(tmp_path))

    class Full:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr(os, "statvfs", lambda _path: Full)
    with pytest.raises(MigrationError, match="rows can't fit"):
        database.migrate(source)
