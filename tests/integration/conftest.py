# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real PostgreSQL servers: GOLIVE_TEST_DSNS holds their addresses, separated by spaces.

Each is a URL (postgresql://role:password@host:port/database) whose role may create
databases; every test gets a new one, which is dropped afterwards.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest

psycopg2 = pytest.importorskip("psycopg2")

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.load import (  # noqa: E402
    Outcome,
    Request,
    migrate,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.target import (  # noqa: E402
    Target,
)

DSNS = os.environ.get("GOLIVE_TEST_DSNS", "").split()

APPLICATION = """
CREATE TABLE users (
    id INTEGER NOT NULL,
    email VARCHAR(120) NOT NULL,
    active BOOLEAN DEFAULT 1 NOT NULL,
    balance NUMERIC(10, 2),
    picture BLOB,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT pk_users PRIMARY KEY (id),
    CONSTRAINT uq_users_email UNIQUE (email),
    CHECK (active IN (0, 1)),
    CONSTRAINT ck_users_balance CHECK (balance >= 0)
);
CREATE TABLE logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER REFERENCES users (id) ON DELETE CASCADE,
    level VARCHAR(10) NOT NULL,
    message TEXT,
    data JSON,
    took REAL,
    day DATE,
    at DATETIME NOT NULL
);
CREATE INDEX ix_logs_at ON logs (at DESC);
CREATE INDEX ix_logs_errors ON logs (user_id) WHERE level = 'ERROR';
CREATE UNIQUE INDEX ux_users_lower ON users (lower(email));
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE VIEW errors AS SELECT * FROM logs WHERE level = 'ERROR';
INSERT INTO settings VALUES ('a', 'tab	and \\ and
line'), ('b', NULL), ('c', '\\N'), ('d', '');
"""


@dataclass
class Database:
    """A database of its own for one test."""

    target: Target
    url: str

    def query(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.url)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()

    def relations(self, schema: str = "public") -> list[str]:
        rows = self.query(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE nspname = %s ORDER BY 1",
            (schema,),
        )
        return [row[0] for row in rows]

    def migrate(self, source: Path, **options: Any) -> Outcome:
        return migrate(Request(str(source), self.target, **options))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DSNS:
        return
    skip = pytest.mark.skip(
        reason="GOLIVE_TEST_DSNS is not set: addresses of PostgreSQL databases whose role may "
        "create databases, separated by spaces"
    )
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)


def drop(run: Callable[[str], Any], name: str) -> None:
    for attempt in range(100):
        try:
            run(f"DROP DATABASE {name} WITH (FORCE)")
            return
        except psycopg2.errors.InsufficientPrivilege:
            # The server's own vacuum is in it, which the role may not end.
            if attempt == 99:
                raise
            time.sleep(0.1)


@pytest.fixture(params=DSNS or ["none"], ids=lambda dsn: urlsplit(dsn).netloc.rsplit("@")[-1])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    parts = urlsplit(request.param)
    name = f"golive_test_{uuid.uuid4().hex[:12]}"

    def administer(sql: str) -> None:
        connection = psycopg2.connect(request.param)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
        finally:
            connection.close()

    administer(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
    try:
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        yield Database(
            Target(
                host=parts.hostname or "",
                port=parts.port or 5432,
                user=user,
                password=password,
                database=name,
            ),
            f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{parts.hostname}"
            f":{parts.port or 5432}/{name}",
        )
    finally:
        drop(administer, name)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small application's database."""
    return build(tmp_path / "source" / "app.db", APPLICATION, fill)


@pytest.fixture
def make_source(tmp_path: Path) -> Callable[[str], Path]:
    def make(script: str) -> Path:
        return build(tmp_path / "source" / "made.db", script)

    return make


@contextlib.contextmanager
def child_of(
    database: Database, script: str, *arguments: str, says: str
) -> Iterator[subprocess.Popen[str]]:
    """Another process that reads its target from standard input, once it has said a line."""
    child = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
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
        assert child.stdout.readline() == f"{says}\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        with contextlib.suppress(OSError):
            child.stdin.close()


def build(
    path: Path, script: str, more: Callable[[sqlite3.Connection], None] | None = None
) -> Path:
    path.parent.mkdir(exist_ok=True)
    connection = sqlite3.connect(path)
    connection.executescript(script)
    if more:
        more(connection)
    connection.commit()
    connection.close()
    return path


def fill(connection: sqlite3.Connection, logs: int = 2000) -> None:
    connection.executemany(
        "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)",
        [
            (i, f"u{i}@example.com", i % 2, i / 4, bytes([i, 0, 255]), "2024-05-06 07:08:09.123456")
            for i in range(1, 101)
        ],
    )
    connection.executemany(
        "INSERT INTO logs (user_id, level, message, data, took, day, at) VALUES (?,?,?,?,?,?,?)",
        [
            (
                i % 100 + 1 if i % 7 else None,
                "ERROR" if i % 5 == 0 else "INFO",
                f"message {i}\twith \\ and\nlines ünïcödé 😀",
                f'{{"n": {i}, "text": "a\\nb"}}' if i % 3 else None,
                i / 3,
                "2024-02-29",
                f"2024-01-01 00:{i // 60 % 60:02}:{i % 60:02}",
            )
            for i in range(logs)
        ],
    )
    # The last number was used once, so it must not be given again.
    connection.execute("INSERT INTO logs (id, level, at) VALUES (9000, 'INFO', '2024-01-01')")
    connection.execute("DELETE FROM logs WHERE id = 9000")
