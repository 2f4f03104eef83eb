# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQLite side: opened read-only, one snapshot, nothing left behind.

A read-only connection to a WAL database still creates the -wal and -shm files
when they are missing, and can't remove them again. They are removed here, under
the lock that SQLite itself takes for it, so that another process that has opened
the database meanwhile keeps its files.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import hashlib
import os
import sqlite3
import stat
import struct
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Optional
from urllib.parse import quote

from .errors import MigrationError

_MAGIC = b"SQLite format 3\x00"
_CHUNK = 1 << 20
_SHARED_FIRST = 0x40000002
_SHARED_SIZE = 510
# Change counter, its copy and the version that wrote last: they move without a change of
# content. Bytes 18 and 19 are the journal mode.
_VOLATILE = ((18, 20), (24, 28), (92, 100))
_PROBLEMS_SHOWN = 10
_ROWID_NAMES = ("rowid", "_rowid_", "oid")
_SHARE_ATTEMPTS = 5
_LOW_PRIORITY = 10
# Below this the checks take no time worth a thread.
_LARGE = 32 << 20


# The number of rows and the sum of their rowids, which is None without rows.
RowSum = tuple[int, Optional[int]]


@dataclass(frozen=True)
class Fingerprint:
    """SHA-256 over the pages as a reader sees them; a checkpoint doesn't change it."""

    sha256: str | None
    size: int


def _fail_os(path: str, error: OSError) -> MigrationError:
    if isinstance(error, FileNotFoundError):
        return MigrationError(
            f"The SQLite file {path} does not exist on this host. Set src to the path of the "
            "application's database file."
        )
    if isinstance(error, PermissionError):
        return MigrationError(
            f"The SQLite file {path} can't be read: {error.strerror}. Run the task with become, "
            "or as the file's owner."
        )
    return MigrationError(f"The SQLite file {path} can't be read: {error.strerror}.")


def read_header(path: str) -> bytes:
    """The first 100 bytes, after all checks that need no SQLite."""
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise MigrationError(
                f"{path} is not a regular file. Set src to the application's SQLite file."
            )
        with open(path, "rb") as handle:
            header = handle.read(100)
    except OSError as error:
        raise _fail_os(path, error) from error
    if not header:
        raise MigrationError(
            f"The SQLite file {path} is empty (0 bytes): there is nothing to migrate. "
            "Check that src is the file that the application uses."
        )
    if not header.startswith(_MAGIC):
        raise MigrationError(
            f"{path} is not a SQLite database: it doesn't start with SQLite's header. It is "
            "another kind of file, or encrypted (SQLCipher, SEE); an encrypted database must be "
            "exported to a plain one first."
        )
    if len(header) < 100:
        raise MigrationError(f"The SQLite file {path} is truncated: {len(header)} bytes.")
    return header


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def _wal_pages(handle: Any, page_size: int) -> tuple[dict[int, int], int | None]:
    """Offsets of the newest committed image of each page in a -wal file, and the page count."""
    head = handle.read(32)
    if len(head) < 32:
        return {}, None
    magic, _version, wal_page_size = struct.unpack(">III", head[:12])
    salts = head[16:24]
    if magic & ~1 != 0x377F0682 or wal_page_size != page_size:
        return {}, None
    committed: dict[int, int] = {}
    pending: dict[int, int] = {}
    pages: int | None = None
    offset = 32
    while True:
        handle.seek(offset)
        frame = handle.read(24)
        if len(frame) < 24 or frame[8:16] != salts:
            break
        number, size_after = struct.unpack(">II", frame[:8])
        pending[number] = offset + 24
        if size_after:
            committed.update(pending)
            pending.clear()
            pages = size_after
        offset += 24 + page_size
    return committed, pages


def _masked(page: bytes) -> bytes:
    masked = bytearray(page)
    for first, last in _VOLATILE:
        masked[first:last] = bytes(last - first)
    return bytes(masked)


def content_fingerprint(path: str) -> Fingerprint:
    """Hash of the database's pages: the file's, overlaid with those committed in its -wal."""
    read_header(path)
    try:
        with open(path, "rb") as handle:
            return _fingerprint(path, handle)
    except OSError as error:
        raise _fail_os(path, error) from error


def _fingerprint(
    path: str, handle: BinaryIO, stopped: Callable[[], bool] = lambda: False
) -> Fingerprint:
    handle.seek(0)
    header = handle.read(100)
    page_size = int.from_bytes(header[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size
    if page_size < 512 or page_size & (page_size - 1):
        raise MigrationError(f"The SQLite file {path} is corrupt: page size {page_size}.")
    digest = hashlib.sha256()
    wal_handle = None
    try:
        overlay: dict[int, int] = {}
        pages: int | None = None
        if header[18] == 2 and _size(path + "-wal"):
            with contextlib.suppress(FileNotFoundError):
                wal_handle = open(path + "-wal", "rb")
                overlay, pages = _wal_pages(wal_handle, page_size)
        if pages is None:
            pages = os.fstat(handle.fileno()).st_size // page_size
        per_read = max(1, _CHUNK // page_size)
        number = 1
        while number <= pages:
            if stopped():
                raise MigrationError(f"The reading of {path} was stopped.")
            count = min(per_read, pages - number + 1)
            handle.seek((number - 1) * page_size)
            block = handle.read(count * page_size)
            plain = number > 1 and not (
                overlay and any(n in overlay for n in range(number, number + count))
            )
            if plain:
                digest.update(block)
            else:
                for index in range(count):
                    page = block[index * page_size : (index + 1) * page_size]
                    if wal_handle is not None and number + index in overlay:
                        wal_handle.seek(overlay[number + index])
                        page = wal_handle.read(page_size)
                    digest.update(_masked(page) if number + index == 1 else page)
            number += count
    finally:
        if wal_handle is not None:
            wal_handle.close()
    return Fingerprint(digest.hexdigest(), pages * page_size)


class _Job(threading.Thread):
    """A call in a thread; SQLite and hashlib let others run meanwhile."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self.join()
        if self._error is not None:
            raise self._error
        return self._result


def open_reading(
    path: str, immutable: bool = False, check_same_thread: bool = True
) -> sqlite3.Connection:
    """A connection that can't change the file."""
    uri = f"file:{quote(path)}?mode=ro" + ("&immutable=1" if immutable else "")
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=30, check_same_thread=check_same_thread
    )
    connection.execute("PRAGMA query_only = ON")
    # A mapped file would count as our memory.
    connection.execute("PRAGMA mmap_size = 0")
    return connection


def _ask_sqlite(connection: sqlite3.Connection, pragma: str) -> list[str]:
    rows = connection.execute(f"PRAGMA {pragma}").fetchmany(_PROBLEMS_SHOWN)
    lines = [line for row in rows for line in str(row[0]).splitlines()]
    problems = [line for line in lines if line != "ok" and not line.startswith("***")]
    # A NULL or a failed CHECK is a bad row, not a damaged file: the load names it.
    damage = [p for p in problems if not p.startswith(("NULL value in", "CHECK constraint"))]
    return damage[:_PROBLEMS_SHOWN]


def _ask_whole(connection: sqlite3.Connection, table: str) -> list[str]:
    """SQLite before 3.33 checks all tables here."""
    return _ask_sqlite(connection, f"integrity_check({quote_sqlite(table)})")


def rowid_name(columns: Iterable[str]) -> str | None:
    """What SQLite calls a row's number; None if columns have all of its names."""
    taken = {column.lower() for column in columns}
    return next((name for name in _ROWID_NAMES if name not in taken), None)


def _rowid_of(connection: sqlite3.Connection, table: str) -> str | None:
    return rowid_name(
        str(c[1]) for c in connection.execute(f"PRAGMA table_xinfo({quote_sqlite(table)})")
    )


def _sum_rows(
    connection: sqlite3.Connection, table: str, rowid: str | None, way: str = "NOT INDEXED"
) -> RowSum:
    """Of the rows in the table itself, or in one of its indexes."""
    return connection.execute(  # type: ignore[no-any-return]
        f"SELECT count(*), sum({rowid}) FROM {quote_sqlite(table)} {way}"
    ).fetchone()


def _sum_indexes(connection: sqlite3.Connection) -> tuple[dict[str, RowSum], list[str]]:
    """By table what all of its indexes have, and the tables of which that can't be said."""
    agreed: dict[str, RowSum] = {}
    unclear: list[str] = []
    tables = connection.execute(
        "SELECT DISTINCT t.name FROM sqlite_master AS t JOIN sqlite_master AS i "
        "ON i.tbl_name = t.name WHERE t.type = 'table' AND i.type = 'index'"
    ).fetchall()
    for (table,) in tables:
        indexes = connection.execute(f"PRAGMA index_list({quote_sqlite(table)})").fetchall()
        partial = any(index[4] for index in indexes)
        rowid = _rowid_of(connection, table)
        found: set[RowSum] = set()
        if rowid and not partial:
            try:
                for index in indexes:
                    way = f"INDEXED BY {quote_sqlite(index[1])}"
                    found.add(_sum_rows(connection, table, rowid, way))
            except sqlite3.OperationalError:
                # No rowid, a sum beyond 64 bits, or an index that a plain scan can't use.
                found.clear()
        if len(found) == 1:
            agreed[table] = found.pop()
        else:
            unclear.append(table)
    return agreed, unclear


def _raise_damage(path: str, damage: list[str]) -> None:
    if damage:
        raise MigrationError(
            f"The SQLite file {path} is corrupt: {'; '.join(damage)}. Restore it from a "
            "backup, or repair it with sqlite3's .recover command; nothing was migrated.",
            integrity_check=damage,
        )


class SourceDatabase:
    """A read-only snapshot of a SQLite database; use as a context manager.

    `integrity` is full or quick, as SQLite's two checks are, or rows: quick, and that each index
    has the rows of its table. `overlap` puts the checks of a large file off, to be done by a
    thread beside the load.
    """

    def __init__(self, path: str, integrity: str = "rows", overlap: bool = False) -> None:
        self.integrity = integrity
        self.overlap = overlap
        self._jobs: list[_Job] = []
        self._apart: sqlite3.Connection | None = None
        self._ending = False
        self._fingerprint_later = False
        self._unchecked: list[str] = []
        self._in_indexes: dict[str, RowSum] = {}
        self.path = os.path.abspath(path)
        self.real_path = os.path.realpath(path)
        self.connection: sqlite3.Connection
        self.wal_mode = False
        self.immutable = False
        self._watcher: sqlite3.Connection | None = None
        self._handle: BinaryIO | None = None
        self._version: Any = None
        self._had: dict[str, bool] = {}
        self.renewed = 0

    def __enter__(self) -> SourceDatabase:
        header = read_header(self.real_path)
        self.wal_mode = header[18] == 2
        self._had = {suffix: os.path.exists(self.real_path + suffix) for suffix in ("-wal", "-shm")}
        folder = os.path.dirname(self.real_path)
        if self.wal_mode and not os.access(folder, os.W_OK):
            if not _size(self.real_path + "-wal"):
                # Nothing is in the -wal, and no file may be created: read the file as it is,
                # and prove at the end that nobody has written to it.
                self.immutable = True
            elif not self._had["-shm"]:
                raise MigrationError(
                    f"The SQLite file {self.path} has committed rows in {self.path}-wal, and "
                    f"the folder {folder} isn't writable, so SQLite can't build the index that "
                    "it needs to read them. Run the task with become, or as the file's owner, "
                    "or stop the application cleanly so that it empties the -wal file."
                )
        try:
            # Closing any descriptor of a file drops all of the process's locks on it, SQLite's
            # too. So this one is opened before SQLite's and closed after them.
            self._handle = open(self.real_path, "rb")
            self.connection = self._connect()
            # Before the snapshot: a write between the two is then reported, not missed.
            self._watch()
            self._begin()
        except OSError as error:
            self.__exit__()
            raise _fail_os(self.path, error) from error
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end_jobs()
        for connection in (getattr(self, "connection", None), self._watcher):
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
        if self._handle is not None:
            self._handle.close()
        self._remove_own_files()

    def _connect(self, check_same_thread: bool = True) -> sqlite3.Connection:
        try:
            return open_reading(self.real_path, self.immutable, check_same_thread)
        except sqlite3.Error as error:
            raise self.explain(error) from error

    def _begin(self) -> None:
        try:
            self.connection.execute("BEGIN")
            self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise self.explain(error) from error

    def _stat(self) -> tuple[int, int, int]:
        info = os.stat(self.real_path)
        return (info.st_size, info.st_mtime_ns, _size(self.real_path + "-wal") or 0)

    def _watch(self) -> None:
        if self.immutable:
            self._version = self._stat()
            return
        self._watcher = self._connect()
        self._version = self._data_version()

    def _data_version(self) -> Any:
        if self._watcher is None:
            raise AssertionError("watcher is not there yet")
        try:
            return self._watcher.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            raise self.explain(error) from error

    def written_meanwhile(self) -> bool:
        """Whether another process has committed since the snapshot was taken."""
        if self.immutable:
            return bool(self._stat() != self._version)
        return bool(self._data_version() != self._version)

    def explain(self, error: sqlite3.Error) -> MigrationError:
        text = str(error)
        if "malformed" in text or "disk image" in text:
            cause = "the file is corrupt. Restore it from a backup, or repair it with sqlite3's "
            return MigrationError(
                f"The SQLite file {self.path} can't be read: {text}; {cause}.recover command."
            )
        if "not a database" in text:
            return MigrationError(
                f"{self.path} is not a SQLite database, or it is encrypted: {text}. An encrypted "
                "database must be exported to a plain one first."
            )
        if "readonly" in text and os.path.exists(self.real_path + "-journal"):
            return MigrationError(
                f"The SQLite file {self.path} has an unfinished transaction in "
                f"{self.path}-journal, which only a writing connection can roll back. Start and "
                "stop the application once, so that it is rolled back, and run this again."
            )
        if "locked" in text or "busy" in text:
            return MigrationError(
                f"The SQLite file {self.path} is locked by another process: {text}. Stop the "
                "application, or wait for its long transaction, and run this again."
            )
        return MigrationError(
            f"The SQLite file {self.path} can't be read: {text}. Check that the file and its "
            "folder can be read by the user that the task runs as."
        )

    def query(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self.connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self.explain(error) from error

    def current_fingerprint(self) -> Fingerprint:
        """Of what is in the files now, which may be newer than the snapshot."""
        if self._handle is None:
            raise AssertionError("handle is not there yet")
        try:
            return _fingerprint(self.real_path, self._handle, lambda: self._ending)
        except OSError as error:
            raise _fail_os(self.path, error) from error

    def fingerprint(self) -> Fingerprint | None:
        """The snapshot's own fingerprint; no hash if a writer is too busy to get it in peace.

        With `overlap` a large file's is left to start_checks, unless a -wal file makes it move.
        """
        if (
            self.overlap
            and self.is_large
            and not (self.wal_mode and _size(self.real_path + "-wal"))
        ):
            self._fingerprint_later = True
            return None
        for _attempt in range(3):
            found = self.current_fingerprint()
            if not self.written_meanwhile():
                return found
            self._renew()
        return Fingerprint(None, found.size)

    def _renew(self) -> None:
        """Takes a newer snapshot. Nothing has been read from the old one yet."""
        self.connection.execute("ROLLBACK")
        self._version = self._stat() if self.immutable else self._data_version()
        self._begin()
        self.renewed += 1

    def share(self, join: Callable[[], bool]) -> bool:
        """Has others take this snapshot by `join`; False if they can't, or a writer is too busy.

        Nobody has committed between the moment before our own and the one after the last of
        theirs: then all are the same.
        """
        for _attempt in range(_SHARE_ATTEMPTS):
            if not join():
                return False
            if not self.written_meanwhile():
                return True
            self._renew()
        return False

    @property
    def is_large(self) -> bool:
        return os.stat(self.real_path).st_size >= _LARGE

    def fingerprint_now(self) -> Fingerprint:
        found = self.current_fingerprint()
        return Fingerprint(None, found.size) if self.written_meanwhile() else found

    def check_integrity(self, tables: list[str]) -> None:
        """Stops on a corrupt file and on broken foreign keys.

        With `overlap` a large file is checked by start_checks and finish_checks instead.
        """
        if self.overlap and self.is_large:
            self._unchecked = tables
            return
        _raise_damage(self.path, self._find_damage(self.connection))
        self.check_foreign_keys(tables)

    def _find_damage(
        self, connection: sqlite3.Connection, told_later: Collection[str] = ()
    ) -> list[str]:
        """What SQLite says is wrong; nothing if all is well.

        An index has the rows of its table if their number and the sum of their rowids are the
        same: a sixth of the time that SQLite takes to look each entry up. Where they differ, or
        can't be asked, it does.
        """
        pragma = "integrity_check" if self.integrity == "full" else "quick_check"
        try:
            found = _ask_sqlite(connection, pragma)
            if self.integrity == "rows" and not found:
                agreed, whole = _sum_indexes(connection)
                for table, rows in agreed.items():
                    if table in told_later:
                        self._in_indexes[table] = rows
                    elif _sum_rows(connection, table, _rowid_of(connection, table)) != rows:
                        whole.append(table)
                for table in whole:
                    found += _ask_whole(connection, table)
        except sqlite3.Error as error:
            raise self.explain(error) from error
        return found[:_PROBLEMS_SHOWN]

    def start_checks(self, children: list[str], told_later: Collection[str] = ()) -> None:
        """Integrity and fingerprint of a large file, in what time the load leaves.

        `children` are the tables whose foreign keys are to be checked here, as the target won't.
        Of those in `told_later` finish_checks is told the rows, which then aren't read for it.
        """
        self._jobs = []
        self._in_indexes = {}
        if self._unchecked or self._fingerprint_later:
            self._jobs.append(_Job(lambda: self._check_apart(children, told_later)))

    def _check_apart(self, children: list[str], told_later: Collection[str]) -> Fingerprint | None:
        # Only what nobody else of ours needs; on Linux this is the thread's own.
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOW_PRIORITY)
        # The fingerprint first: it reads the file in order, so that the check finds it in memory.
        found = self.current_fingerprint() if self._fingerprint_later else None
        if self._unchecked:
            connection = self._connect(check_same_thread=False)
            self._apart = connection
            try:
                # One state of the file for all, even if it isn't the one that is loaded.
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                _raise_damage(self.path, self._find_damage(connection, told_later))
                self._check_foreign_keys(connection, self._unchecked, children)
            finally:
                self._apart = None
                connection.close()
        return found

    @property
    def checking(self) -> bool:
        """Whether the checks that start_checks began still run."""
        return any(job.is_alive() for job in self._jobs)

    def finish_checks(self, told: dict[str, RowSum]) -> Fingerprint | None:
        """What start_checks found; the fingerprint, if it was left for later.

        `told` is what came into the target of tables whose rowid is a column.
        """
        found: Fingerprint | None = None
        for job in self._jobs:
            found = job.result()
        self._jobs = []
        for table, rows in self._in_indexes.items():
            if told.get(table) != rows:
                self._compare_rows(table, rows, told.get(table))
        if found is not None and self.written_meanwhile():
            return Fingerprint(None, found.size)
        return found

    def _compare_rows(self, table: str, in_indexes: RowSum, told: RowSum | None) -> None:
        """In the snapshot itself: a writer may have come before the check apart from it."""
        try:
            here = _sum_rows(self.connection, table, _rowid_of(self.connection, table))
            if here != in_indexes:
                _raise_damage(self.path, _ask_whole(self.connection, table))
        except sqlite3.Error as error:
            raise self.explain(error) from error
        if told is not None and told != here:
            raise MigrationError(
                f"{table} has other rows after the load: {here[0]} with the rowids' sum {here[1]} "
                f"in SQLite, {told[0]} with {told[1]} in PostgreSQL. Everything was rolled back.",
                table=table,
            )

    def _end_jobs(self) -> None:
        self._ending = True
        for job in self._jobs:
            while job.is_alive():
                apart = self._apart
                if apart is not None:
                    with contextlib.suppress(sqlite3.Error):
                        apart.interrupt()
                job.join(0.05)
        self._jobs = []

    def check_foreign_keys(self, tables: list[str], children: list[str] | None = None) -> None:
        """Those between `tables`; of `children` alone, if given."""
        self._check_foreign_keys(self.connection, tables, tables if children is None else children)

    def _check_foreign_keys(
        self, connection: sqlite3.Connection, tables: list[str], children: list[str]
    ) -> None:
        orphans: dict[tuple[str, str], list[Any]] = {}
        counts: dict[tuple[str, str], int] = {}
        for table in children:
            try:
                cursor = connection.execute(f"PRAGMA foreign_key_check({quote_sqlite(table)})")
                for child, rowid, parent, _number in cursor:
                    key = (str(child), str(parent))
                    counts[key] = counts.get(key, 0) + 1
                    if len(orphans.setdefault(key, [])) < 5:
                        orphans[key].append(rowid)
            except sqlite3.OperationalError as error:
                # A foreign key without a unique key on the other side: SQLite can't check this
                # table, and the plan says which key isn't carried.
                if "mismatch" not in str(error) and "no such table" not in str(error):
                    raise self.explain(error) from error
            except sqlite3.Error as error:
                raise self.explain(error) from error
        wrong: list[dict[str, Any]] = [
            {"table": child, "parent": parent, "rows": count, "rowids": orphans[child, parent]}
            for (child, parent), count in counts.items()
            if parent in tables
        ]
        if wrong:
            text = "; ".join(
                f"{w['rows']} rows of {w['table']} refer to rows that {w['parent']} doesn't have "
                f"(rowids {', '.join(str(r) for r in w['rowids'])}{_more(w)})"
                for w in wrong
            )
            raise MigrationError(
                f"The SQLite file {self.path} breaks its own foreign keys: {text}. PostgreSQL "
                "can't hold them; delete or mend these rows in SQLite first. Nothing was "
                "migrated.",
                foreign_key_violations=wrong,
            )

    def each(self, sql: str, text_factory: Any = str) -> Iterator[tuple[Any, ...]]:
        """The result row by row, so that memory stays constant."""
        self.connection.text_factory = text_factory
        try:
            yield from self.connection.execute(sql)
        except sqlite3.Error as error:
            raise self.explain(error) from error
        finally:
            self.connection.text_factory = str

    def copy_to(self, folder: str) -> str:
        """A checked copy of the snapshot with its SHA-256 beside it; the copy's path."""
        stem, suffix = os.path.splitext(os.path.basename(self.path))
        moment = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        final = os.path.join(folder, f"{stem}-{moment}{suffix or '.db'}")
        partial = final + ".partial"
        try:
            check_copy_room(folder, os.stat(self.real_path).st_size)
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            digest = self._write_copy(partial)
            _write_synced(final + ".sha256", f"{digest}  {os.path.basename(final)}\n")
            os.rename(partial, final)
        except OSError as error:
            raise MigrationError(
                f"The copy {final} can't be written: {error.strerror}. Set backup_copy to a folder "
                "that exists and is writable, with room for the database."
            ) from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(partial)
        return final

    def _write_copy(self, path: str) -> str:
        copy = sqlite3.connect(path, isolation_level=None)
        try:
            self.connection.backup(copy, pages=4096)
            # Else every later reader would leave a -wal and a -shm file beside it.
            copy.execute("PRAGMA journal_mode = DELETE").fetchone()
            _raise_damage(path, self._find_damage(copy))
        except sqlite3.Error as error:
            raise self.explain(error) from error
        finally:
            copy.close()
        digest = hashlib.sha256()
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
            while block := handle.read(_CHUNK):
                digest.update(block)
        return digest.hexdigest()

    def _remove_own_files(self) -> None:
        if not self.wal_mode or self.immutable:
            return
        mine = [suffix for suffix in ("-wal", "-shm") if self._had.get(suffix) is False]
        if not any(os.path.exists(self.real_path + suffix) for suffix in mine):
            return
        try:
            descriptor = os.open(self.real_path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return
        try:
            # Every connection to a WAL database holds a shared lock on these bytes for as
            # long as it is open: getting them exclusively proves that there is none.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
            if not _size(self.real_path + "-wal"):
                for suffix in mine:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.real_path + suffix)
            elif "-shm" in mine:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.real_path + "-shm")
        except OSError:
            pass
        finally:
            os.close(descriptor)


def check_copy_room(folder: str, size: int) -> None:
    if not os.path.isdir(folder):
        raise MigrationError(
            f"backup_copy is {folder}, which is no folder on this host. Make it, or set another."
        )
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if free < size:
        raise MigrationError(
            f"backup_copy: {folder} has {free >> 20} MB free, and the database has "
            f"{size >> 20} MB. Make room, or set another folder."
        )


def remove_copy(path: str) -> None:
    for name in (path, path + ".sha256"):
        with contextlib.suppress(OSError):
            os.unlink(name)


def _write_synced(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())


def _more(wrong: dict[str, Any]) -> str:
    return ", ..." if wrong["rows"] > len(wrong["rowids"]) else ""


def quote_sqlite(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
