# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The migration against real servers."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import hashlib
import json
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import load
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import target as pg
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.verify import (
    Verdict,
    VerifyRequest,
    verify,
)
from tests.integration.conftest import child_of, drop

if TYPE_CHECKING:
    from tests.integration.conftest import Database

MakeSource = Callable[[str], Path]
CHILD = """
import sys, time
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import load
read = load.PackStream.read
def slow(self, size=-1):
    if self.rows > 500:
        print("loading", flush=True)
        time.sleep(0.5)
    return read(self, size)
load.PackStream.read = slow
try:
    load.migrate(load.Request(sys.argv[1], load.Target(**eval(sys.stdin.readline()))))
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


def picture(folder: Path) -> dict[str, str]:
    return {
        p.name: "" if p.name.endswith("-shm") else hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.iterdir()
    }


def prove(database: Database, source: Path, **options: Any) -> Verdict:
    return verify(VerifyRequest(str(source), database.target, **options))


def slow_child(
    database: Database, source: Path
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """A migration in another process that has sent some rows and takes its time."""
    return child_of(database, CHILD, str(source), says="loading")


def test_everything_arrives(database: Database, source: Path) -> None:
    before = picture(source.parent)
    outcome = database.migrate(source)
    assert picture(source.parent) == before
    assert outcome.changed and not outcome.already_migrated
    assert {t["name"]: (t["source_rows"], t["target_rows"]) for t in outcome.tables} == {
        "users": (100, 100),
        "logs": (2000, 2000),
        "settings": (4, 4),
    }
    assert outcome.rows_total == 2104 and outcome.bytes > 100000 and outcome.rate > 0
    assert [x["kind"] for x in outcome.not_carried] == ["view"]
    user = database.query("SELECT * FROM users WHERE id = 5")[0]
    assert user == (
        5,
        "u5@example.com",
        True,
        decimal.Decimal("1.25"),
        user[4],
        datetime.datetime(2024, 5, 6, 7, 8, 9, 123456),
    )
    assert bytes(user[4]) == b"\x05\x00\xff"
    here = sqlite3.connect(source)
    logs = here.execute("SELECT message, data, took FROM logs ORDER BY id").fetchall()
    settings = here.execute("SELECT * FROM settings ORDER BY name").fetchall()
    here.close()
    assert database.query("SELECT message, data::text, took FROM logs ORDER BY id") == logs
    assert database.query("SELECT * FROM settings ORDER BY name") == settings


def test_structure(database: Database, source: Path) -> None:
    database.migrate(source)
    indexes = dict(
        database.query("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
    )
    assert set(indexes) == {
        "pk_users",
        "uq_users_email",
        "ux_users_lower",
        "logs_pkey",
        "ix_logs_at",
        "ix_logs_errors",
        "settings_pkey",
    }
    assert "at DESC" in indexes["ix_logs_at"]
    assert "WHERE ((level)::text = 'ERROR'::text)" in indexes["ix_logs_errors"]
    assert "UNIQUE" in indexes["ux_users_lower"] and "lower(" in indexes["ux_users_lower"]
    with pytest.raises(psycopg2.errors.CheckViolation):
        database.query("UPDATE users SET balance = -1")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        database.query("INSERT INTO logs (user_id, level, at) VALUES (12345, 'x', now())")
    with pytest.raises(psycopg2.errors.NotNullViolation):
        database.query("INSERT INTO logs (level) VALUES (NULL)")
    database.query("DELETE FROM users WHERE id = 1")
    assert database.query("SELECT count(*) FROM logs WHERE user_id = 1") == [(0,)]


def test_next_insert_works(database: Database, source: Path) -> None:
    database.migrate(source)
    assert database.query("INSERT INTO users (email) VALUES ('new') RETURNING id, active") == [
        (101, True)
    ]
    assert database.query("INSERT INTO logs (level, at) VALUES ('x', now()) RETURNING id") == [
        (9001,)
    ]
    created = database.query("SELECT created_at FROM users WHERE id = 101")[0][0]
    utc = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    assert abs(utc - created) < datetime.timedelta(minutes=5)


def test_second_run_changes_nothing(database: Database, source: Path) -> None:
    first = database.migrate(source)
    database.query("INSERT INTO users (email) VALUES ('written by the application')")
    second = database.migrate(source)
    assert not second.changed and second.already_migrated
    assert second.record == first.record and second.rows_total == 2104
    assert database.query("SELECT count(*) FROM users") == [(101,)]
    record = first.record
    assert record and record["source_path"] == str(source) and record["verified_at"] is None
    assert record["source_sha256"] and record["started_at"] < record["finished_at"]
    json.dumps(vars(second))


def test_changed_source(database: Database, source: Path) -> None:
    database.migrate(source)
    connection = sqlite3.connect(source)
    connection.execute("INSERT INTO users (email) VALUES ('late')")
    connection.commit()
    connection.close()
    with pytest.raises(MigrationError, match="has changed since it was migrated.*source_changed"):
        database.migrate(source)
    ignored = database.migrate(source, source_changed="ignore")
    assert ignored.already_migrated and not ignored.changed
    assert "has changed since" in ignored.warnings[0]
    assert database.query("SELECT count(*) FROM users") == [(100,)]


def test_source_is_gone(database: Database, source: Path) -> None:
    database.migrate(source)
    source.unlink()
    again = database.migrate(source)
    assert again.already_migrated and "is gone" in again.notes[0]


def test_another_source(database: Database, source: Path, make_source: MakeSource) -> None:
    database.migrate(source)
    with pytest.raises(MigrationError, match="is another database than"):
        database.migrate(make_source("CREATE TABLE t (a)"))


def test_tables_dropped_after_the_migration(database: Database, source: Path) -> None:
    database.migrate(source)
    database.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    with pytest.raises(MigrationError, match="none of its tables.*DELETE FROM golive_webstack"):
        database.migrate(source)
    database.query("DELETE FROM golive_webstack.migration")
    assert database.migrate(source).changed


@pytest.mark.parametrize(
    ("occupy", "shown"),
    [
        ("CREATE TABLE mine (a int)", "table mine"),
        ("CREATE VIEW mine AS SELECT 1", "view mine"),
        ("CREATE SEQUENCE mine", "sequence mine"),
    ],
)
def test_occupied_target(database: Database, source: Path, occupy: str, shown: str) -> None:
    database.query(occupy)
    before = database.relations()
    with pytest.raises(MigrationError, match=f"isn't empty.*{shown}"):
        database.migrate(source)
    assert database.relations() == before


def test_own_schema(database: Database, source: Path) -> None:
    database.query("CREATE TABLE mine (a int)")
    outcome = database.migrate(source, schema="Odd Name")
    assert outcome.changed and "users" in database.relations("Odd Name")
    assert prove(database, source, schema="Odd Name").evidence
    assert database.query('INSERT INTO "Odd Name".users (email) VALUES (1) RETURNING id') == [
        (101,)
    ]


BAD = """
CREATE TABLE fine (id INTEGER PRIMARY KEY, a TEXT);
INSERT INTO fine VALUES (1, 'x');
CREATE TABLE bad (id INTEGER PRIMARY KEY, n INTEGER, d DATE, t TEXT, s VARCHAR(3), b BOOLEAN,
                  at DATETIME, j JSON, m NUMERIC(5, 2), must TEXT);
CREATE TABLE keyed (k TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID;
INSERT INTO bad (id) VALUES (1), (2);
"""


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("statement", "column", "reason", "rows"),
    [
        ("UPDATE bad SET n = 'text' WHERE id = 2", "n", "a text where an integer", [2]),
        ("UPDATE bad SET n = 1.5", "n", "a real where an integer", [1, 2]),
        ("UPDATE bad SET n = 9223372036854775808", "n", "a real where an integer", [1, 2]),
        ("UPDATE bad SET d = 'now' WHERE id = 1", "d", "no date", [1]),
        ("UPDATE bad SET d = '01/02/2024' WHERE id = 1", "d", "no date", [1]),
        ("UPDATE bad SET d = '2024-02-30' WHERE id = 1", "d", "no date", [1]),
        ("UPDATE bad SET at = 'infinity' WHERE id = 1", "at", "no timestamp", [1]),
        ("UPDATE bad SET t = 'a' || char(0) || 'b' WHERE id = 2", "t", "NUL", [2]),
        ("UPDATE bad SET t = CAST(x'ff41' AS TEXT) WHERE id = 2", "t", "no UTF-8", [2]),
        ("UPDATE bad SET t = x'41' WHERE id = 2", "t", "a blob where a text", [2]),
        ("UPDATE bad SET s = 'abcd' WHERE id = 2", "s", "longer than 3", [2]),
        ("UPDATE bad SET b = 2 WHERE id = 2", "b", "other than 0 and 1", [2]),
        ("UPDATE bad SET j = '{broken' WHERE id = 2", "j", "no JSON", [2]),
        ("UPDATE bad SET m = 1234.5 WHERE id = 2", "m", "doesn't fit numeric", [2]),
        ("INSERT INTO keyed VALUES ('key', 'x')", "n", "a text where an integer", ["key"]),
    ],
)
def test_bad_values(
    database: Database,
    make_source: MakeSource,
    statement: str,
    column: str,
    reason: str,
    rows: list[Any],
    check_mode: bool,
) -> None:
    source = make_source(BAD + statement)
    with pytest.raises(MigrationError, match="Nothing was migrated") as caught:
        database.migrate(source, check_mode=check_mode)
    bad = caught.value.details["bad_values"]
    assert len(bad) == 1 and bad[0]["column"] == column and bad[0]["count"] == len(rows)
    assert reason in bad[0]["reason"]
    assert [next(iter(row.values())) for row in bad[0]["rows"]] == rows
    assert database.relations() == []
    assert database.relations("golive_webstack") == []


def test_all_bad_values_are_listed_at_once(database: Database, make_source: MakeSource) -> None:
    many = "WITH RECURSIVE c(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM c WHERE i < 1009) "
    source = make_source(
        BAD + many + "INSERT INTO bad (id, n, s) SELECT i, 'x', 'toolong' FROM c;"
        "INSERT INTO keyed VALUES ('k', 'x')"
    )
    with pytest.raises(MigrationError) as caught:
        database.migrate(source)
    found = {(b["table"], b["column"]): b["count"] for b in caught.value.details["bad_values"]}
    assert found == {("bad", "n"): 1000, ("bad", "s"): 1000, ("keyed", "n"): 1}
    assert len(caught.value.details["bad_values"][0]["rows"]) == 5
    assert "toolong" not in str(caught.value)


def test_unique_index_that_postgres_sees_otherwise(
    database: Database, make_source: MakeSource
) -> None:
    source = make_source(
        "CREATE TABLE t (a TEXT); CREATE UNIQUE INDEX u ON t (lower(a));"
        "INSERT INTO t VALUES ('Ä'), ('ä')"
    )
    folds = database.query("SELECT lower('Ä') = lower('ä')")[0][0]
    if not folds:
        assert database.migrate(source).changed
        return
    with pytest.raises(MigrationError, match="2 x the same lower.a. as another row, unique by u "):
        database.migrate(source)
    assert database.relations() == []


def test_live_writer_in_wal_mode(database: Database, source: Path) -> None:
    script = """
import sqlite3, sys, time
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode = WAL")
c.execute("INSERT INTO users (id, email) VALUES (500, 'in the -wal')")
print("ready", flush=True)
for line in sys.stdin:
    c.execute("INSERT INTO users (email) VALUES (?)", (line,))
    print("done", flush=True)
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdin and writer.stdout
    try:
        assert writer.stdout.readline() == "ready\n"
        before = picture(source.parent)
        assert set(before) == {"app.db", "app.db-wal", "app.db-shm"}
        outcome = database.migrate(source)
        assert outcome.changed and picture(source.parent) == before
        assert database.query("SELECT count(*) FROM users") == [(101,)]
        assert database.migrate(source).already_migrated
        writer.stdin.write("late\n")
        writer.stdin.flush()
        writer.stdout.readline()
        with pytest.raises(MigrationError, match="has changed since"):
            database.migrate(source)
    finally:
        writer.stdin.close()
        writer.wait()
        writer.stdout.close()


def test_wal_mode_without_a_writer(database: Database, source: Path) -> None:
    connection = sqlite3.connect(source)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    before = picture(source.parent)
    assert database.migrate(source).changed
    assert picture(source.parent) == before == {"app.db": before["app.db"]}


LOSING_ROWS = """
CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RETURN CASE WHEN NEW.id <> 7 THEN NEW END; END $$;
CREATE TRIGGER loses BEFORE INSERT ON public.logs FOR EACH ROW EXECUTE FUNCTION public.lose();
"""


def test_a_row_that_the_server_does_not_keep(
    database: Database, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COPY's own count tells, though no error was raised."""
    begin = load._Run._begin_table

    def armed(run: Any, table: Any) -> None:
        begin(run, table)
        if table.name == "logs":
            pg.execute(run.connection, LOSING_ROWS)

    monkeypatch.setattr(load._Run, "_begin_table", armed)
    with pytest.raises(MigrationError, match="row counts differ after the load: logs 2000 / 1999"):
        database.migrate(source)
    assert database.query("SELECT to_regclass('public.users')") == [(None,)]


def test_rows_written_while_loading_are_told(
    database: Database, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = sqlite3.connect(source)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    copy = load._Run._copy
    write = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "c.execute(\"INSERT INTO users (email) VALUES ('late')\"); c.commit()"
    )

    def copy_and_write(*given: Any) -> Any:
        monkeypatch.setattr(load._Run, "_copy", copy)
        subprocess.run([sys.executable, "-c", write, str(source)], check=True)
        return copy(*given)

    monkeypatch.setattr(load._Run, "_copy", copy_and_write)
    outcome = database.migrate(source)
    assert "was written to during the migration" in outcome.warnings[-1]
    assert database.query("SELECT count(*) FROM users") == [(100,)]
    with pytest.raises(MigrationError, match="has changed since"):
        database.migrate(source)


def test_check_mode(database: Database, source: Path) -> None:
    before = picture(source.parent)
    outcome = database.migrate(source, check_mode=True)
    assert outcome.changed and outcome.rows_total == 2104
    assert [t["target_rows"] for t in outcome.tables] == [None, None, None]
    assert 'CREATE TABLE "public"."users"' in outcome.plan_text
    assert database.relations() == [] and picture(source.parent) == before
    database.migrate(source)
    assert not database.migrate(source, check_mode=True).changed


def test_check_mode_before_anything_is_there(
    database: Database, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ({"port": 1}, {"database": "not_yet"}, {"unix_socket": "/nonexistent"}):
        target = replace(database.target, **wrong)
        outcome = load.migrate(load.Request(str(source), target, check_mode=True))
        assert outcome.changed and outcome.notes and outcome.plan["tables"]
        with pytest.raises(MigrationError, match="login_|Create it"):
            load.migrate(load.Request(str(source), target))
        verdict = verify(VerifyRequest(str(source), target, check_mode=True))
        assert not verdict.compared and verdict.notes
    assert not prove(database, source, check_mode=True, record=True).compared
    monkeypatch.setattr(pg, "HAVE_PSYCOPG2", False)
    assert "psycopg2" in database.migrate(source, check_mode=True).notes[0]
    with pytest.raises(MigrationError, match="python3-psycopg2"):
        database.migrate(source)


@pytest.mark.parametrize("check_mode", [False, True])
def test_wrong_password(database: Database, source: Path, check_mode: bool) -> None:
    target = replace(database.target, password="hidden-and-wrong")
    with pytest.raises(MigrationError, match="refuses the connection.*login_password") as caught:
        load.migrate(load.Request(str(source), target, check_mode=check_mode))
    assert "hidden" not in str(caught.value) and "hidden" not in repr(target)
    with pytest.raises(MigrationError, match="refuses the connection"):
        verify(VerifyRequest(str(source), target, check_mode=check_mode))


def test_password_is_not_where_others_see_it(database: Database, source: Path) -> None:
    with slow_child(database, source) as child:
        shown = Path(f"/proc/{child.pid}/cmdline").read_text()
        shown += Path(f"/proc/{child.pid}/environ").read_text()
        shown += str(database.query("SELECT * FROM pg_stat_activity"))
        assert database.target.password and database.target.password not in shown


def test_no_right_to_create(database: Database, source: Path) -> None:
    database.query("REVOKE CREATE ON SCHEMA public FROM PUBLIC, CURRENT_USER")
    database.query("CREATE SCHEMA closed")
    database.query("REVOKE ALL ON SCHEMA closed FROM CURRENT_USER")
    owner = database.query("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")[0][0]
    if owner:
        pytest.skip("the role of this server is a superuser")
    with pytest.raises(MigrationError, match="may not create tables in schema closed.*GRANT"):
        database.migrate(source, schema="closed")
    with pytest.raises(MigrationError, match="reserved"):
        database.migrate(source, schema="golive_webstack")


def test_old_server(database: Database, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of the tests are new enough, so that the limit is raised."""
    monkeypatch.setattr(pg, "MINIMUM_VERSION", 990000)
    with pytest.raises(MigrationError, match="is PostgreSQL 1[0-9.]+.*; 14 is the oldest"):
        database.migrate(source)
    assert database.relations() == []


def test_other_encoding(database: Database, source: Path) -> None:
    name = f"{database.target.database}_latin1"
    options = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    database.query(f"CREATE DATABASE {name} {options}")
    other = replace(
        database,
        target=replace(database.target, database=name),
        url=f"{database.url.rpartition('/')[0]}/{name}",
    )
    try:
        with pytest.raises(MigrationError, match="encoding .* is LATIN1.*ENCODING 'UTF8'"):
            other.migrate(source)
        assert other.relations() == []
    finally:
        drop(database.query, name)


def test_parallel_readers_of_the_record(database: Database, source: Path) -> None:
    database.migrate(source)
    results: list[bool] = []
    threads = [
        threading.Thread(target=lambda: results.append(database.migrate(source).already_migrated))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_verify(database: Database, source: Path) -> None:
    with pytest.raises(MigrationError, match="no migration into schema"):
        prove(database, source, record=True)
    database.migrate(source)
    verdict = prove(database, source, record=True)
    assert verdict.compared and verdict.changed and verdict.evidence
    evidence = verdict.evidence
    assert evidence["rows_total"] == 2104 and evidence["source"]["same_as_recorded"]
    users = evidence["tables"][0]
    assert users["source"]["max_key"] == users["target"]["max_key"] == 100
    assert users["target"]["next_id"] == 101
    database.query("DELETE FROM users WHERE id = 1")
    again = prove(database, source, record=True)
    assert not again.compared and not again.changed and again.evidence == evidence
    with pytest.raises(MigrationError, match="differ"):
        prove(database, source, record=True, again=True)
    recorded = database.query("SELECT verified_at IS NOT NULL FROM golive_webstack.migration")
    assert recorded == [(True,)]


@pytest.mark.parametrize(
    ("damage", "table", "what"),
    [
        ("DELETE FROM logs WHERE id = 77", "logs", "rows"),
        ("DELETE FROM users WHERE id = 100", "users", "max_key"),
        ("UPDATE logs SET message = NULL WHERE id = 3", "logs", "NULLs in message"),
        ("SELECT setval('users_id_seq', 5)", "users", "next id"),
        ("DROP TABLE settings", "settings", "table"),
        ("ALTER TABLE logs DROP COLUMN took", "logs", "column took"),
    ],
)
def test_verify_finds(database: Database, source: Path, damage: str, table: str, what: str) -> None:
    database.migrate(source)
    database.query(damage)
    with pytest.raises(MigrationError) as caught:
        prove(database, source)
    found = {(d["table"], d["what"]) for d in caught.value.details["differences"]}
    assert (table, what) in found
    assert table in str(caught.value) and not caught.value.details["evidence"]["equal"]


def test_include(database: Database, source: Path) -> None:
    outcome = database.migrate(source, include=["logs"])
    assert [t["name"] for t in outcome.tables] == ["logs"]
    kinds = [(x["kind"], x["name"]) for x in outcome.not_carried]
    assert ("foreign key", "logs(user_id) -> users") in kinds and ("table", "users") in kinds
    assert prove(database, source, include=["logs"]).evidence


def test_statement_that_only_postgres_refuses_is_named(
    database: Database, make_source: MakeSource
) -> None:
    source = make_source(
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p TEXT REFERENCES p (id))"
    )
    outcome = database.migrate(source)
    assert [x["kind"] for x in outcome.not_carried] == ["foreign key"]
    assert outcome.not_carried[0]["reason"].startswith("PostgreSQL:")


def test_values_come_back_exactly(database: Database, make_source: MakeSource) -> None:
    source = make_source(
        "CREATE TABLE v (id INTEGER PRIMARY KEY, t TEXT, r REAL, i INTEGER, b BLOB, j JSON)"
    )
    random = Random(2024)
    characters = [chr(c) for c in range(1, 0x11000) if not 0xD800 <= c < 0xE000]
    rows = []
    for number in range(3000):
        text = "".join(random.choices(characters, k=random.randrange(60)))
        real = struct.unpack(">d", random.randbytes(8))[0]
        rows.append(
            (
                number - 1500,
                text + random.choice(["\\", "\\N", "\n", "\r", "\t", "\\.", ""]),
                None if real != real else real,
                random.randrange(-(2**63), 2**63),
                random.randbytes(random.randrange(40)),
                json.dumps([text, number], ensure_ascii=bool(number % 2)),
            )
        )
    connection = sqlite3.connect(source)
    connection.executemany("INSERT INTO v VALUES (?, ?, ?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    database.migrate(source)
    found = database.query("SELECT id, t, r, i, b, j::text FROM v ORDER BY id")
    assert [(*row[:4], bytes(row[4]), row[5]) for row in found] == rows
    assert not prove(database, source).differences


def test_statistics_are_there_of_columns_and_of_an_indexs_expression(
    database: Database, make_source: MakeSource
) -> None:
    source = make_source(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT NOT NULL);"
        "CREATE INDEX folded ON t (lower(name));"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)"
        " INSERT INTO t SELECT i, 'Name ' || (i % 7) FROM n;"
    )
    database.migrate(source)
    known = database.query(
        "SELECT tablename, attname, n_distinct FROM pg_stats WHERE schemaname = 'public'"
        " AND tablename IN ('t', 'folded') ORDER BY 1, 2"
    )
    assert known == [("folded", "lower", 7.0), ("t", "id", -1.0), ("t", "name", 7.0)]


def test_the_largest_index_is_built_last(database: Database, make_source: MakeSource) -> None:
    source = make_source(
        "CREATE TABLE large (id INTEGER PRIMARY KEY, word TEXT, number INTEGER, other INTEGER);"
        "CREATE INDEX a_word ON large (word, number);"
        "CREATE INDEX b_two ON large (number, other);"
        "CREATE INDEX c_one ON large (other);"
        "CREATE TABLE small (id INTEGER PRIMARY KEY, word TEXT);"
        "CREATE INDEX d_small ON small (word);"
        "INSERT INTO large VALUES (1, 'a', 1, 1), (2, 'b', 2, 2);"
        "INSERT INTO small VALUES (1, 'a');"
    )
    database.migrate(source)
    made = database.query(
        "SELECT relname FROM pg_class WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace"
        " ORDER BY oid"
    )
    names = [name for (name,) in made if name[1] == "_"]
    assert names == ["d_small", "c_one", "b_two", "a_word"]
