# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source is read in one snapshot, and left exactly as it was."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import (
    source as source_side,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.source import (
    RowSum,
    SourceDatabase,
    content_fingerprint,
)

WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
print("open", connection.execute("SELECT count(*) FROM t").fetchone()[0], flush=True)
for line in sys.stdin:
    connection.execute(line)
    print("done", flush=True)
"""


class Writer:
    """Another process with the database open, as an application has it."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def _answer(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline()

    def run(self, sql: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(sql + "\n")
        self.process.stdin.flush()
        self._answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def make(path: Path, wal: bool = False, rows: int = 3) -> Path:
    connection = sqlite3.connect(path)
    if wal:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (a INTEGER, b TEXT)")
    connection.executemany("INSERT INTO t VALUES (?, 'x')", [(i,) for i in range(rows)])
    connection.commit()
    connection.close()
    return path


def picture(folder: Path) -> dict[str, str]:
    """Names and contents. The -shm file is SQLite's lock table, not content."""
    return {
        p.name: "" if p.name.endswith("-shm") else hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.iterdir()
    }


def count(source: SourceDatabase) -> int:
    return int(source.query("SELECT count(*) FROM t")[0][0])


@pytest.mark.parametrize("wal", [False, True])
def test_nothing_is_changed_or_left_behind(tmp_path: Path, wal: bool) -> None:
    path = make(tmp_path / "a.db", wal)
    before = picture(tmp_path)
    with SourceDatabase(str(path)) as source:
        source.fingerprint()
        source.check_integrity(["t"])
        assert count(source) == 3
    assert picture(tmp_path) == before


def test_rows_of_a_live_writer_are_seen_and_kept_out_by_the_snapshot(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", wal=True)
    writer = Writer(path)
    try:
        writer.run("INSERT INTO t VALUES (10, 'in the -wal')")
        before = picture(tmp_path)
        with SourceDatabase(str(path)) as source:
            fingerprint = source.fingerprint()
            assert count(source) == 4 and not source.written_meanwhile()
            assert picture(tmp_path) == before
            writer.run("INSERT INTO t VALUES (11, 'later')")
            assert count(source) == 4 and source.written_meanwhile()
        assert fingerprint != content_fingerprint(str(path))
    finally:
        writer.close()


def test_a_checkpoint_is_no_change(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", wal=True)
    writer = Writer(path)
    writer.run("INSERT INTO t VALUES (10, 'in the -wal')")
    writer.run("UPDATE t SET b = 'again'")
    with_wal = content_fingerprint(str(path))
    writer.close()
    assert not (tmp_path / "a.db-wal").exists()
    assert content_fingerprint(str(path)) == with_wal


def test_any_written_row_is_a_change(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db")
    before = content_fingerprint(str(path))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE t SET b = 'y' WHERE a = 1")
    connection.commit()
    connection.close()
    assert content_fingerprint(str(path)) != before


def test_committed_rows_of_a_killed_writer_are_read(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", wal=True)
    writer = Writer(path)
    writer.run("INSERT INTO t VALUES (10, 'in the -wal')")
    writer.kill()
    (tmp_path / "a.db-shm").unlink()
    before = picture(tmp_path)
    assert "a.db-wal" in before
    with SourceDatabase(str(path)) as source:
        assert count(source) == 4
    assert picture(tmp_path) == before


def test_a_writer_that_came_meanwhile_keeps_its_files(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", wal=True)
    with SourceDatabase(str(path)):
        writer = Writer(path)
    try:
        assert (tmp_path / "a.db-shm").exists()
        writer.run("INSERT INTO t VALUES (10, 'x')")
    finally:
        writer.close()


def test_hashing_keeps_the_lock_of_the_snapshot(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db")
    with SourceDatabase(str(path)) as source:
        source.fingerprint()
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=0.1);"
                "c.execute('INSERT INTO t VALUES (9, 9)'); c.commit()",
                str(path),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "database is locked" in done.stderr


def read_as_nobody(path: Path) -> str:
    """In a fork, as another user may not even be able to start this Python."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with SourceDatabase(str(path)) as source:
                text = f"rows {count(source)} {source.immutable}"
        except BaseException as error:
            text = f"{type(error).__name__} {error}"
        os.write(sender, text.encode())
        os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text


@pytest.fixture
def shared_folder(tmp_path: Path) -> Path:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    for folder in [tmp_path, *tmp_path.parents]:
        if "pytest-of" in str(folder):
            folder.chmod(0o755)
    return tmp_path


def test_folder_that_is_not_writable(shared_folder: Path) -> None:
    path = make(shared_folder / "a.db", wal=True)
    before = picture(shared_folder)
    assert read_as_nobody(path) == "rows 3 True"
    assert picture(shared_folder) == before


def test_folder_that_is_not_writable_with_rows_in_the_wal(shared_folder: Path) -> None:
    path = make(shared_folder / "a.db", wal=True)
    writer = Writer(path)
    writer.run("INSERT INTO t VALUES (10, 'in the -wal')")
    writer.kill()
    (shared_folder / "a.db-shm").unlink()
    assert "isn't writable" in read_as_nobody(path)


def test_file_that_is_not_readable(shared_folder: Path) -> None:
    path = make(shared_folder / "a.db")
    path.chmod(0o600)
    assert "Permission denied. Run the task with become" in read_as_nobody(path)


def damaged(path: Path) -> None:
    make(path, rows=5000)
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 3] = b"\xff" * 4096
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda p: None, "does not exist.*Set src"),
        (lambda p: p.mkdir(), "not a regular file"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_text("id,name\n" * 100), "not a SQLite database"),
        (lambda p: p.write_bytes(os.urandom(8192)), "encrypted"),
        (lambda p: p.write_bytes(b"SQLite format 3\x00"), "truncated"),
        (damaged, "corrupt"),
    ],
)
def test_files_that_are_none(tmp_path: Path, prepare, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "a.db"
    prepare(path)
    with pytest.raises(MigrationError, match=message):
        with SourceDatabase(str(path)) as source:
            source.fingerprint()
            source.check_integrity(["t"])


def behind_the_index(path: Path, tables: str, change: str, index: str = "i") -> None:
    """Changes rows while SQLite doesn't know of an index, as a failing disk or a wrong lock may."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(tables)
    connection.execute("PRAGMA writable_schema = ON")
    (entry,) = connection.execute("SELECT * FROM sqlite_master WHERE name = ?", (index,))
    connection.execute("DELETE FROM sqlite_master WHERE name = ?", (index,))
    connection.close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(change)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", entry)
    connection.close()


PLAIN = "CREATE TABLE t (id INTEGER PRIMARY KEY, a); CREATE INDEX i ON t (a);"
PARTIAL = "CREATE TABLE t (id INTEGER PRIMARY KEY, a); CREATE INDEX i ON t (a) WHERE a > 1;"
EXPRESSION = "CREATE TABLE t (id INTEGER PRIMARY KEY, a); CREATE INDEX i ON t (a * 2);"
NO_ROWID = "CREATE TABLE t (id PRIMARY KEY, a) WITHOUT ROWID; CREATE INDEX i ON t (a);"
NAMES_TAKEN = 'CREATE TABLE t (id, a, "Rowid", _rowid_, oid); CREATE INDEX i ON t (a);'
ROWS = "INSERT INTO t (id, a) VALUES (1, 1), (2, 2), (3, 3);"
HUGE = "INSERT INTO t VALUES (9223372036854775807, 1), (9223372036854775806, 2);"


@pytest.mark.parametrize(
    ("tables", "change", "message"),
    [
        (PLAIN + ROWS, "DELETE FROM t WHERE id = 2", "wrong # of entries in index i"),
        (PLAIN + ROWS, "INSERT INTO t VALUES (4, 4)", "row 4 missing from index i"),
        (PLAIN + ROWS, "UPDATE t SET id = 7 WHERE id = 1", "missing from index i"),
        (PLAIN + HUGE, "DELETE FROM t WHERE a = 2", "wrong # of entries in index i"),
        (PARTIAL + ROWS, "DELETE FROM t WHERE id = 2", "wrong # of entries in index i"),
        (EXPRESSION + ROWS, "DELETE FROM t WHERE id = 2", "wrong # of entries in index i"),
        (NO_ROWID + ROWS, "DELETE FROM t WHERE id = 2", "wrong # of entries in index i"),
        (NAMES_TAKEN + ROWS, "DELETE FROM t WHERE id = 2", "wrong # of entries in index i"),
    ],
)
@pytest.mark.parametrize("integrity", ["rows", "full"])
def test_an_index_with_other_rows_than_its_table(
    tmp_path: Path, tables: str, change: str, message: str, integrity: str
) -> None:
    """Rows that the table has lost, or that the application never saw."""
    behind_the_index(tmp_path / "a.db", tables, change)
    with SourceDatabase(str(tmp_path / "a.db"), integrity) as source:
        with pytest.raises(MigrationError, match=f"is corrupt: .*{message}"):
            source.check_integrity(["t"])
    with SourceDatabase(str(tmp_path / "a.db"), "quick") as source:
        source.check_integrity(["t"])


def test_only_full_reads_the_values_in_an_index(tmp_path: Path) -> None:
    """PostgreSQL makes its index from the rows, which are right."""
    behind_the_index(tmp_path / "a.db", PLAIN + ROWS, "UPDATE t SET a = 9 WHERE id = 2")
    with SourceDatabase(str(tmp_path / "a.db")) as source:
        source.check_integrity(["t"])
    with SourceDatabase(str(tmp_path / "a.db"), "full") as source:
        with pytest.raises(MigrationError, match="row 2 missing from index i"):
            source.check_integrity(["t"])


@pytest.mark.parametrize(
    "tables",
    [
        PLAIN + ROWS,
        PLAIN + HUGE,
        PLAIN,
        PARTIAL + ROWS,
        EXPRESSION + ROWS,
        NO_ROWID + ROWS,
        NAMES_TAKEN + ROWS,
        'CREATE TABLE "a b" (x UNIQUE, y, PRIMARY KEY (y, x));'
        'CREATE INDEX "i""" ON "a b" (y DESC);'
        "INSERT INTO \"a b\" VALUES (NULL, 1), (NULL, 1), ('x', x'00')",
    ],
)
def test_sound_indexes(tmp_path: Path, tables: str) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.executescript(tables)
    connection.close()
    with SourceDatabase(str(tmp_path / "a.db")) as source:
        source.check_integrity([])


def checked_beside(path: Path, told: dict[str, RowSum], monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a large file: the target tells what it has when the load is done."""
    monkeypatch.setattr(source_side, "_LARGE", 0)
    with SourceDatabase(str(path), overlap=True) as source:
        source.check_integrity(["t"])
        source.start_checks([], ["t"])
        source.finish_checks(told)


def test_indexes_are_compared_with_what_the_target_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.executescript(PLAIN + ROWS)
    connection.close()
    checked_beside(path, {"t": (3, 6)}, monkeypatch)
    # Some rows went into quarantine.
    checked_beside(path, {}, monkeypatch)
    for told in ((3, 7), (2, 6), (0, None)):
        with pytest.raises(MigrationError, match="t has other rows .* 3 with the rowids' sum 6"):
            checked_beside(path, {"t": told}, monkeypatch)


@pytest.mark.parametrize("told", [{"t": (2, 4)}, {}])
def test_a_bad_index_beside_the_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, RowSum]
) -> None:
    behind_the_index(tmp_path / "a.db", PLAIN + ROWS, "DELETE FROM t WHERE id = 2")
    with pytest.raises(MigrationError, match="is corrupt: .*wrong # of entries in index i"):
        checked_beside(tmp_path / "a.db", told, monkeypatch)


def test_a_writer_between_snapshot_and_check_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(PLAIN + ROWS)
    monkeypatch.setattr(source_side, "_LARGE", 0)
    with SourceDatabase(str(path), overlap=True) as source:
        source.check_integrity(["t"])
        connection.execute("INSERT INTO t VALUES (4, 4)")
        source.start_checks([], ["t"])
        source.finish_checks({"t": (3, 6)})
    connection.close()


def test_unfinished_transaction_is_explained(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", rows=5000)
    script = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        "c.execute('PRAGMA cache_size = 1'); c.execute('UPDATE t SET b = zeroblob(500)');"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert (tmp_path / "a.db-journal").exists()
    before = picture(tmp_path)
    with pytest.raises(MigrationError, match="unfinished transaction"):
        with SourceDatabase(str(path)):
            pass
    assert picture(tmp_path) == before


def test_broken_foreign_keys_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p INTEGER REFERENCES p);"
        "INSERT INTO c VALUES (1), (2), (NULL)"
    )
    connection.close()
    with SourceDatabase(str(path)) as source:
        with pytest.raises(MigrationError, match=r"2 rows of c .* p .*rowids 1, 2"):
            source.check_integrity(["p", "c"])
        source.check_integrity(["c"])


def test_copied_database_with_its_wal(tmp_path: Path) -> None:
    """As a backup brings it: the file and its -wal, without the -shm."""
    path = make(tmp_path / "a.db", wal=True)
    writer = Writer(path)
    writer.run("INSERT INTO t VALUES (10, 'x')")
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", copy / f"a.db{suffix}")
    writer.close()
    with SourceDatabase(str(copy / "a.db")) as source:
        assert count(source) == 4
    assert sorted(p.name for p in copy.iterdir()) == ["a.db", "a.db-wal"]
