# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever goes wrong, the target is as it was, the source untouched, and the next run completes.

The full disk needs a small tablespace that the test's role may use, which only a superuser of
the server can make: a tmpfs of 48 MB, CREATE TABLESPACE golive_small LOCATION '...', and
GRANT CREATE ON TABLESPACE golive_small TO the role. Without it that test is skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import load, parallel
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import (
    source as source_side,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from tests.integration.conftest import child_of, drop

if TYPE_CHECKING:
    from tests.integration.conftest import Database

MakeSource = Callable[[str], Path]
ROWS = 20000
SCRIPT = f"""
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE logs (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER REFERENCES users (id),
                   at DATETIME NOT NULL, message TEXT);
CREATE INDEX ix_logs_at ON logs (at);
INSERT INTO users VALUES (1, 'one'), (2, 'two');
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < {ROWS - 2})
INSERT INTO logs SELECT i, i % 2 + 1, datetime(1700000000 + i, 'unixepoch'),
                        'message ' || i || ' of a length that fills the pages' FROM c;
"""
# Stops at a share of the rows, or when a phase begins, says so, and waits.
CHILD = """
import signal, sys
# Whoever runs the tests in the background of a shell has made them deaf to it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import (
    load, parallel, progress
)
where = sys.argv[2]
if sys.argv[3] != "0":
    parallel._LARGE_FILE = parallel._LARGE_TABLE = 0
    parallel._RANGE_ROWS, parallel._PIPE_BYTES = 100, 4096
    parallel.processors = lambda: int(sys.argv[3])
    parallel.is_local = lambda _target: False
def wait():
    global where
    where = ""
    print("waiting", flush=True)
    sys.stdin.readline()
rows, phase = progress.Progress.rows, progress.Progress.phase
def counted(self, count, size=0):
    rows(self, count, size)
    if where.isdigit() and self._rows_done * 100 >= int(where) * self._rows_total:
        wait()
def begun(self, name):
    phase(self, name)
    if name == where:
        wait()
progress.Progress.rows, progress.Progress.phase = counted, begun
try:
    load.migrate(load.Request(sys.argv[1], load.Target(**eval(sys.stdin.readline()))))
    print("done", flush=True)
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


def stopped(
    database: Database, source: Path, where: str, workers: int = 0
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    return child_of(database, CHILD, str(source), where, str(workers), says="waiting")


def last_words(child: subprocess.Popen[str]) -> str:
    assert child.stdin and child.stdout
    child.stdin.write("\n")
    child.stdin.flush()
    return child.stdout.read()


def end_by(child: subprocess.Popen[str], number: int) -> None:
    # Python misses a signal that comes just before a read that waits: then it takes a second one.
    for _attempt in range(6):
        child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)
            return
    raise AssertionError(f"the signal {number} did not end it")


def digest(source: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in source.parent.iterdir()}


def as_it_was(database: Database) -> None:
    for _attempt in range(100):
        if not database.query(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name LIKE 'golive.webstack%'"
        ):
            break
        time.sleep(0.1)
    assert database.relations() == [] and database.relations("golive_webstack") == []


def completes(database: Database, source: Path, **options: Any) -> None:
    outcome = database.migrate(source, **options)
    assert outcome.changed and outcome.rows_total == ROWS
    assert database.query("SELECT count(*), max(id) FROM logs") == [(ROWS - 2, ROWS - 2)]


@pytest.fixture
def logs(make_source: MakeSource) -> Path:
    return make_source(SCRIPT)


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("10", signal.SIGKILL),
        ("50", signal.SIGKILL),
        ("90", signal.SIGKILL),
        ("index", signal.SIGKILL),
        ("commit", signal.SIGKILL),
        ("50", signal.SIGTERM),
        ("50", signal.SIGINT),
    ],
)
def test_killed(database: Database, logs: Path, where: str, number: int) -> None:
    before = digest(logs)
    with stopped(database, logs, where) as child:
        assert database.relations() == []
        end_by(child, number)
    as_it_was(database)
    assert digest(logs) == before
    completes(database, logs)


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in found.split()]


def none_left(pids: list[int]) -> bool:
    for _attempt in range(100):
        # A process that has ended has no descriptors, even before its parent asks for its status.
        if not any(os.path.exists(f"/proc/{pid}/fd/0") for pid in pids):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_with_workers(database: Database, logs: Path, number: int) -> None:
    before = digest(logs)
    with stopped(database, logs, "50", 2) as child:
        pids = children_of(child.pid)
        assert len(pids) == 2
        end_by(child, number)
    assert none_left(pids)
    as_it_was(database)
    assert digest(logs) == before
    completes(database, logs)


def test_a_worker_is_killed(database: Database, logs: Path) -> None:
    before = digest(logs)
    with stopped(database, logs, "50", 2) as child:
        pids = children_of(child.pid)
        os.kill(pids[1], signal.SIGKILL)
        said = last_words(child)
        assert said.startswith(f"MigrationError Process {pids[1]}") and "rolled back" in said
        child.wait(30)
    assert none_left(pids)
    as_it_was(database)
    assert digest(logs) == before
    completes(database, logs)


def test_the_session_ends_under_workers(database: Database, logs: Path) -> None:
    with stopped(database, logs, "50", 3) as child:
        pids = children_of(child.pid)
        database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'golive.webstack%'"
        )
        assert last_words(child).startswith("MigrationError PostgreSQL stopped the migration")
    assert none_left(pids)
    as_it_was(database)
    completes(database, logs)


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Processes for small files too; the streams that they fed are counted."""
    monkeypatch.setattr(parallel, "_LARGE_FILE", 0)
    monkeypatch.setattr(parallel, "_LARGE_TABLE", 0)
    monkeypatch.setattr(parallel, "_RANGE_ROWS", 100)
    monkeypatch.setattr(parallel, "processors", lambda: 2)
    # On the server's own host there would be one.
    monkeypatch.setattr(parallel, "is_local", lambda _target: False)
    fed: list[int] = []
    close = parallel.ParallelStream.close

    def counted(stream: parallel.ParallelStream) -> None:
        fed.append(stream.rows)
        close(stream)

    monkeypatch.setattr(parallel.ParallelStream, "close", counted)
    return fed


def test_workers_load_the_same(
    database: Database, logs: Path, two_workers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest(logs)
    completes(database, logs)
    assert two_workers == [2, ROWS - 2] and digest(logs) == before
    one = "SELECT md5(string_agg(l::text, ' ' ORDER BY ctid)) FROM logs l"
    several = database.query(one)
    monkeypatch.setattr(parallel, "processors", lambda: 1)
    database.query("DROP SCHEMA golive_webstack CASCADE")
    completes(database, logs, replace=["*"])
    assert two_workers == [2, ROWS - 2] and database.query(one) == several


BAD = [(0, "fail"), (ROWS // 2, "fail"), (ROWS // 2, "null"), (ROWS // 2, "quarantine")]


@pytest.mark.parametrize(("row", "policy"), BAD)
def test_workers_meet_a_bad_value(
    database: Database,
    logs: Path,
    two_workers: list[int],
    monkeypatch: pytest.MonkeyPatch,
    row: int,
    policy: str,
) -> None:
    """The same is said and done as without them; and the tables after it arrive all the same."""
    connection = sqlite3.connect(logs)
    connection.execute("UPDATE logs SET message = x'00ff' WHERE id % ? = 7", (row or ROWS,))
    connection.execute("CREATE TABLE more AS SELECT id, message FROM logs WHERE message > ''")
    connection.commit()
    connection.close()
    found = []
    for cores in (2, 1):
        monkeypatch.setattr(parallel, "processors", lambda cores=cores: cores)
        if policy == "fail":
            with pytest.raises(MigrationError, match="logs.message: .*rowid 7") as caught:
                database.migrate(logs, on_bad_value=policy)
            as_it_was(database)
            found.append(caught.value.message)
            continue
        outcome = database.migrate(logs, on_bad_value=policy)
        rows = database.query("SELECT * FROM logs ORDER BY id")
        kept = database.query(
            "SELECT row_key::text, original::text FROM golive_webstack.quarantine ORDER BY 1, 2"
        ) if policy == "quarantine" else []  # fmt: skip
        found.append(repr([outcome.nulled, outcome.quarantined, rows, kept]))
        database.query("DROP SCHEMA golive_webstack CASCADE")
        database.query("DROP TABLE logs, users, more")
    assert found[0] == found[1]
    assert two_workers, "the first of the two had workers"


WRITER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
c.execute("PRAGMA journal_mode = WAL")
print("open", flush=True)
while True:
    c.execute("BEGIN IMMEDIATE")
    for name in ("first", "second", "third"):
        c.execute(f"UPDATE {name} SET v = v + 1")
    c.execute("COMMIT")
"""


def test_workers_beside_an_active_writer(
    database: Database, make_source: MakeSource, two_workers: list[int]
) -> None:
    """Every commit adds one to every row of three tables: a torn reading would differ in them."""
    rows = "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 2000)"
    path = make_source(
        "".join(
            f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, v INTEGER NOT NULL);"
            f"INSERT INTO {name} {rows} SELECT i, 0 FROM c;"
            for name in ("first", "second", "third")
        )
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout and writer.stdout.readline() == "open\n"
        for _round in range(3):
            outcome = database.migrate(path, replace=["*"])
            assert outcome.rows_total == 6000
            states = {
                value
                for name in ("first", "second", "third")
                for value in database.query(f"SELECT min(v), max(v) FROM {name}")
            }
            assert len({v for pair in states for v in pair}) == 1, states
            assert any("written to during" in text for text in outcome.warnings)
            database.query("DROP SCHEMA golive_webstack CASCADE")
    finally:
        writer.kill()
        writer.wait()
        assert writer.stdout
        writer.stdout.close()


@pytest.mark.parametrize(
    ("where", "how"),
    [
        ("50", "pg_terminate_backend"),
        ("50", "pg_cancel_backend"),
        ("foreign_keys", "pg_terminate_backend"),
    ],
)
def test_server_ends_the_session(database: Database, logs: Path, where: str, how: str) -> None:
    with stopped(database, logs, where) as child:
        database.query(
            f"SELECT {how}(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'golive.webstack%'"
        )
        assert last_words(child).startswith("MigrationError PostgreSQL stopped the migration")
    as_it_was(database)
    completes(database, logs)


def test_two_at_once(database: Database, logs: Path) -> None:
    with stopped(database, logs, "50") as child:
        with pytest.raises(MigrationError, match="Another migration.*is running") as caught:
            database.migrate(logs)
        assert str(child.pid) in caught.value.details["running"][0]["application_name"]
        assert last_words(child) == "done\n"
    assert database.migrate(logs).already_migrated


def damage(path: Path, table: str) -> None:
    """Overwrites the middle of a page that belongs to a table or an index."""
    connection = sqlite3.connect(path)
    (root,) = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)
    ).fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with path.open("r+b") as handle:
        handle.seek((root - 1) * size + 12)
        child = int.from_bytes(handle.read(2), "big")
        handle.seek((root - 1) * size + child)
        leaf = int.from_bytes(handle.read(4), "big")
        handle.seek((leaf - 1) * size)
        handle.write(b"\xaa" * 200)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("what", ["logs", "ix_logs_at"])
def test_corrupt_page(
    database: Database, logs: Path, monkeypatch: pytest.MonkeyPatch, what: str, overlap: bool
) -> None:
    """Of an index too, which the load itself never reads."""
    damage(logs, what)
    if overlap:
        monkeypatch.setattr(source_side, "_LARGE", 0)
    with pytest.raises(MigrationError, match="corrupt.*nothing was migrated|corrupt.*recover"):
        database.migrate(logs)
    as_it_was(database)


def test_checks_beside_the_load(
    database: Database, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file's checks run beside the load, and stop it all the same."""
    connection = sqlite3.connect(logs)
    connection.execute("INSERT INTO logs VALUES (50000, 99, '2024-01-01', 'no such user')")
    connection.commit()
    monkeypatch.setattr(source_side, "_LARGE", 0)
    for integrity in ("rows", "full", "quick"):
        with pytest.raises(MigrationError, match="foreign keys.*rowids 50000"):
            database.migrate(logs, integrity=integrity)
        as_it_was(database)
    connection.execute("DELETE FROM logs WHERE id = 50000")
    connection.commit()
    connection.close()
    completes(database, logs)
    assert not database.migrate(logs).changed, "the fingerprint is the same in both ways"


@pytest.fixture
def small(database: Database) -> Iterator[Database]:
    """A database in the small tablespace."""
    allowed = database.query(
        "SELECT has_tablespace_privilege(oid, 'CREATE') FROM pg_tablespace "
        "WHERE spcname = 'golive_small'"
    )
    if allowed != [(True,)]:
        pytest.skip("the server has no tablespace golive_small that the role may use")
    name = f"golive_small_{uuid.uuid4().hex[:8]}"
    database.query(f"CREATE DATABASE {name} TEMPLATE template0 TABLESPACE golive_small")
    try:
        yield replace(
            database,
            target=replace(database.target, database=name),
            url=f"{database.url.rpartition('/')[0]}/{name}",
        )
    finally:
        drop(database.query, name)


def test_full_disk(small: Database, logs: Path) -> None:
    connection = sqlite3.connect(logs)
    connection.execute("CREATE TABLE large (id INTEGER PRIMARY KEY, v BLOB)")
    connection.executemany(
        "INSERT INTO large (v) VALUES (?)", [(os.urandom(1 << 20),) for _ in range(48)]
    )
    connection.commit()
    connection.close()
    with pytest.raises(MigrationError, match="PostgreSQL stopped the migration") as caught:
        small.migrate(logs)
    assert caught.value.details["sqlstate"] == "53100"
    as_it_was(small)
    completes(small, logs, exclude=["large"])


def test_a_second_try_forgets_nothing(
    database: Database, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast way fails for no reason of the values: the careful one takes all rows."""
    monkeypatch.setattr(load.PackStream, "_next", lambda self: {}["broken"])
    completes(database, logs)
