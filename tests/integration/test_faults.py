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

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import load
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import (
    source as source_side,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)

if TYPE_CHECKING:
    from tests.integration.conftest import Database

psycopg2 = pytest.importorskip("psycopg2")

from tests.integration.conftest import drop  # noqa: E402

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
import sys
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import load, progress
where = sys.argv[2]
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


@contextlib.contextmanager
def stopped(database: Database, source: Path, where: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(source), where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdin and child.stdout
    given = {k: v for k, v in vars(database.target).items() if v is not None}
    child.stdin.write(repr(given) + "\n")
    child.stdin.flush()
    try:
        assert child.stdout.readline() == "waiting\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        with contextlib.suppress(OSError):
            child.stdin.close()


def last_words(child: subprocess.Popen[str]) -> str:
    assert child.stdin and child.stdout
    child.stdin.write("\n")
    child.stdin.flush()
    return child.stdout.read()


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
        child.send_signal(number)
        child.wait(30)
    as_it_was(database)
    assert digest(logs) == before
    completes(database, logs)


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
    """A large file's checks run while the server makes indexes, and stop the load all the same."""
    connection = sqlite3.connect(logs)
    connection.execute("INSERT INTO logs VALUES (50000, 99, '2024-01-01', 'no such user')")
    connection.commit()
    monkeypatch.setattr(source_side, "_LARGE", 0)
    for integrity in ("full", "quick"):
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
