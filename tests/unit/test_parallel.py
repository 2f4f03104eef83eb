# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several processes read one snapshot and give the same bytes as one; none outlives its parent."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import parallel
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.pack import (
    Packer,
    PackStream,
    Rows,
    sample_rows,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.parallel import (
    PackingFailed,
    Workers,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.plan import (
    PlannedColumn,
    PlannedTable,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.source import (
    SourceDatabase,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.target import (
    Target,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.types import (
    TargetType,
)

COLUMNS = [
    PlannedColumn("n", "INTEGER", TargetType("bigint", "bigint", ""), True),
    PlannedColumn("v", "TEXT", TargetType("text", "text", ""), False),
]


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_LARGE_TABLE", 0)
    monkeypatch.setattr(parallel, "_RANGE_ROWS", 7)


def make(path: Path, rows: list[tuple[Any, Any]], wal: bool = False) -> Path:
    # In another process, as no connection to SQLite may be open where one forks.
    script = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1])\n"
        "if sys.argv[2] == 'wal': c.execute('PRAGMA journal_mode = WAL')\n"
        "c.execute('CREATE TABLE t (n INTEGER PRIMARY KEY, v TEXT)')\n"
        "c.executemany('INSERT INTO t VALUES (?, ?)', eval(sys.stdin.read()))\n"
        "c.commit()\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(path), "wal" if wal else "delete"],
        input=repr(rows), text=True, check=True,
    )  # fmt: skip
    return path


def planned(rows: int, row_label: str = "rowid") -> PlannedTable:
    return PlannedTable("t", rows, row_label, COLUMNS, ["n"], "", rowid=COLUMNS[0])


def drained(stream: Any) -> bytes:
    blocks = []
    while block := stream.read():
        blocks.append(block)
    return b"".join(blocks)


def both_ways(path: Path, count: int, rows: int) -> tuple[bytes, bytes]:
    ticks: list[int] = []
    with Workers(count) as workers, SourceDatabase(str(path)) as source:
        workers.join(source)
        assert len(workers) == count
        source.connection.text_factory = bytes
        sample = sample_rows(source.connection, "t", COLUMNS)
        packer = Packer("t", COLUMNS, sample)
        stream = workers.stream(
            source, planned(rows), packer, sample, lambda n, _b: ticks.append(n)
        )
        assert stream is not None
        several = drained(stream)
        assert stream.rows == sum(ticks) == rows and stream.read() == b""
        stream.close()
        assert len(workers) == count
        alone = PackStream(Rows(source.connection, packer), packer, rowid="n")
        one = drained(alone)
        assert stream.rowid_sum == alone.rowid_sum
        total = sum(n for (n,) in source.query("SELECT n FROM t"))
        assert stream.rowid_sum == (total + 2**63) % 2**64 - 2**63
        workers.end()
    return several, one


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "rowids",
    [
        range(1, 501),
        range(-250, 250),
        range(1, 100_000, 311),
        [1, 2, 3, 2**40, 2**62, 2**63 - 1],
        [-(2**63), 0, 2**63 - 1],
        [5],
    ],
    ids=["dense", "negative", "sparse", "outliers", "extremes", "one"],
)
def test_the_same_bytes(tmp_path: Path, rowids: Any, count: int) -> None:
    rows = [(n, None if n % 5 == 0 else f"text {n}") for n in rowids]
    several, one = both_ways(make(tmp_path / "a.db", rows), count, len(rows))
    assert several == one


def test_a_process_reads_without_locks_between_threads(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", [(1, "x")])
    script = (
        "import ctypes, sqlite3, sys, _sqlite3\n"
        f"from {parallel.__name__} import _drop_locks_between_threads\n"
        "library = ctypes.CDLL(_sqlite3.__file__)\n"
        "library.sqlite3_db_mutex.restype = ctypes.c_void_p\n"
        "def mutex(connection):\n"
        "    # SQLite's own pointer is the first field of Python's object.\n"
        "    pointer = ctypes.c_void_p.from_address(id(connection) + object.__basicsize__)\n"
        "    return library.sqlite3_db_mutex(pointer)\n"
        "before = sqlite3.connect(sys.argv[1])\n"
        "locked = mutex(before)\n"
        "before.close()\n"
        "_drop_locks_between_threads()\n"
        "after = sqlite3.connect(sys.argv[1])\n"
        "print(bool(locked), mutex(after), after.execute('SELECT v FROM t').fetchall())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout == "True None [('x',)]\n"


def test_values_larger_than_the_pipe(tmp_path: Path) -> None:
    rows = [(n, "x" * (3 << 20) if n in (5, 90) else "y") for n in range(1, 301)]
    several, one = both_ways(make(tmp_path / "a.db", rows), 2, len(rows))
    assert several == one


def stream_of(workers: Workers, source: SourceDatabase, table: PlannedTable) -> Any:
    workers.join(source)
    source.connection.text_factory = bytes
    sample = sample_rows(source.connection, "t", COLUMNS)
    source.connection.text_factory = str
    packer = Packer("t", COLUMNS, sample)
    return workers.stream(source, table, packer, sample, lambda _rows, _bytes: None)


def test_what_goes_the_single_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.db", [(n, "x" * 100) for n in range(100)])
    with Workers(2) as workers, SourceDatabase(str(path)) as source:
        assert stream_of(workers, source, planned(100, "NULL")) is None
        monkeypatch.setattr(parallel, "_LONG_ROW", 50)
        assert stream_of(workers, source, planned(100)) is None
        monkeypatch.undo()
        assert stream_of(workers, source, planned(100)) is None, "a small table"
        workers.end()
        assert stream_of(workers, source, planned(10**6)) is None, "no processes"


@pytest.mark.parametrize(
    ("host", "by_processors"),
    [
        ("127.0.0.1", {1: 0, 2: 1, 3: 2, 4: 3, 64: 3}),
        ("db.example", {1: 0, 2: 2, 3: 3, 64: 3}),
    ],
    ids=["beside the server", "server elsewhere"],
)
def test_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, by_processors: dict[int, int]
) -> None:
    path, target = tmp_path / "a.db", Target(host=host)
    with path.open("wb") as handle:
        handle.truncate(1 << 30)
    for cores, count in by_processors.items():
        monkeypatch.setattr(parallel, "processors", lambda cores=cores: cores)
        assert parallel.wanted(str(path), target) == count
    path.write_bytes(b"small")
    assert parallel.wanted(str(path), target) == 0
    assert parallel.wanted(str(tmp_path / "none.db"), target) == 0


def test_a_full_pipe(tmp_path: Path) -> None:
    """Parts of all sizes arrive whole, though no write takes them at once."""
    parts = [os.urandom(n) for n in (0, 3, 70_000, *[1] * 2000, 1 << 20, 0, 5)]
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        parallel._write(writing, *parts)
        os._exit(0)
    os.close(writing)
    time.sleep(0.2)
    with os.fdopen(reading, "rb") as stream:
        assert stream.read() == b"".join(parts)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def gone(pids: list[int]) -> bool:
    for _attempt in range(200):
        if not any(os.path.exists(f"/proc/{pid}/fd/0") for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("bad", "kind"), [(b"a blob in a text", sqlite3.DatabaseError), (2**40, PackingFailed)]
)
def test_a_value_that_does_not_fit(tmp_path: Path, bad: Any, kind: type[Exception]) -> None:
    column = "n" if isinstance(bad, int) else "v"
    rows: list[tuple[Any, Any]] = [(n, "text") for n in range(400)]
    rows[399] = (bad, "text") if column == "n" else (399, bad)
    path = make(tmp_path / "a.db", rows)
    columns = [PlannedColumn("n", "INTEGER", TargetType("int4", "integer", ""), True), COLUMNS[1]]
    table = PlannedTable("t", 400, "rowid", columns, ["n"], "")
    with Workers(2) as workers, SourceDatabase(str(path)) as source:
        workers.join(source)
        pids = workers.pids
        packer = Packer("t", columns, [])
        stream = workers.stream(source, table, packer, [], lambda _rows, _bytes: None)
        assert stream is not None
        with pytest.raises(kind):
            drained(stream)
        assert isinstance(stream.failure, kind)
        stream.close()
        assert len(workers) == 0 and gone(pids), "what is half-way is of no use"


def test_a_killed_process_is_said(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", [(n, "x" * 3000) for n in range(5000)])
    with Workers(2) as workers, SourceDatabase(str(path)) as source:
        stream = stream_of(workers, source, planned(5000))
        for _number in range(20):
            stream.read()
        os.kill(workers.pids[1], signal.SIGKILL)
        with pytest.raises(MigrationError, match=rf"Process {workers.pids[1]}.*from outside"):
            drained(stream)
        workers.end()


def test_killed_before_its_first_order(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", [(1, "x")])
    with Workers(2) as workers, SourceDatabase(str(path)) as source:
        os.kill(workers.pids[0], signal.SIGKILL)
        assert gone(workers.pids[:1])
        workers.join(source)
        assert len(workers) == 0, "then the parent does it alone"


class Writer:
    """Another process that commits when told to."""

    def __init__(self, path: Path) -> None:
        script = (
            "import sqlite3, sys\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "c.execute('PRAGMA wal_autocheckpoint = 0')\n"
            "for line in sys.stdin:\n"
            "    c.execute('INSERT INTO t (v) VALUES (1)')\n"
            "    print('done', flush=True)\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def commit(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def count_of(source: SourceDatabase) -> int:
    return int(source.query("SELECT count(*) FROM t")[0][0])


@pytest.mark.parametrize("commits", [0, 1, 3, 99])
def test_one_snapshot_beside_a_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    """A commit between the snapshots is seen each time; all readers have the same rows at last."""
    path = make(tmp_path / "a.db", [(n, "x") for n in range(1, 101)], wal=True)
    writer = Writer(path)
    try:
        with Workers(2) as workers, SourceDatabase(str(path)) as source:
            order, left = parallel._Worker.order, [commits]

            def disturbed(worker: Any, given: Any) -> None:
                if worker.pid == workers.pids[1] and isinstance(given, parallel._Open) and left[0]:
                    left[0] -= 1
                    writer.commit()
                order(worker, given)

            monkeypatch.setattr(parallel._Worker, "order", disturbed)
            workers.join(source)
            if commits == 99:
                assert len(workers) == 0, "a writer that never rests: the parent reads alone"
                return
            assert len(workers) == 2 and source.renewed == commits
            writer.commit()
            assert count_of(source) == 100 + commits
            stream = stream_without_join(workers, source, 100 + commits)
            drained(stream)
            assert stream.rows == 100 + commits
            workers.end()
    finally:
        writer.close()


def stream_without_join(workers: Workers, source: SourceDatabase, rows: int) -> Any:
    packer = Packer("t", COLUMNS, [])
    return workers.stream(source, planned(rows), packer, [], lambda _rows, _bytes: None)


PARENT = """
import atexit, sys, time
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import parallel
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.source import (
    SourceDatabase,
)
atexit.register(print, "at exit")
sys.stdout.write("unflushed ")
with parallel.Workers(2) as workers, SourceDatabase(sys.argv[1]) as source:
    workers.join(source)
    if sys.argv[2] == "stay":
        print(*workers.pids, flush=True)
        time.sleep(600)
    workers.end()
"""


def parent(path: Path, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, str(path), what],
        stdout=subprocess.PIPE, text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip


def test_none_outlives_its_parent(tmp_path: Path) -> None:
    child = parent(make(tmp_path / "a.db", [(1, "x")]), "stay")
    assert child.stdout
    pids = [int(word) for word in child.stdout.readline().split()[1:]]
    assert len(pids) == 2 and all(os.path.exists(f"/proc/{pid}/fd/0") for pid in pids)
    child.kill()
    assert child.stdout.read() == "", "nobody else holds its output"
    child.wait()
    assert gone(pids)
    child.stdout.close()


def test_nothing_of_the_parents_runs_in_them(tmp_path: Path) -> None:
    child = parent(make(tmp_path / "a.db", [(1, "x")]), "end")
    assert child.communicate()[0] == "unflushed at exit\n"


def test_an_error_that_is_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect of ours ends the migration; it doesn't pass for a bad value."""

    def broken(*_given: Any) -> Callable[..., Any]:
        raise RuntimeError("a defect")

    path = make(tmp_path / "a.db", [(n, "x") for n in range(50)])
    monkeypatch.setattr(parallel, "_pack", broken)
    with Workers(2) as workers, SourceDatabase(str(path)) as source:
        stream = stream_of(workers, source, planned(50))
        with pytest.raises(RuntimeError, match="a defect"):
            drained(stream)
