# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large tables read and packed by several processes, each with its own connection to SQLite.

The processes are made before SQLite is opened, as its locks don't survive a fork. They take
turns with ranges of rowids; the parent sends their blocks on in the table's order, so that
PostgreSQL gets the same bytes as from one. Each has a pipe for orders and one for frames: the
number of rows and of bytes, then the bytes. A full pipe stops a process that is ahead.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import pickle
import signal
import sqlite3
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from .errors import MigrationError
from .pack import BinaryStream, Packer, PackStream, Rows, sum_64
from .plan import PlannedColumn, PlannedTable
from .source import SourceDatabase, open_reading, quote_sqlite
from .target import Target, is_local, processors

# Below these a process isn't worth its start.
_LARGE_FILE = 16 << 20
_LARGE_TABLE = 50_000
# PostgreSQL's one process takes in less than these pack; each more would cost 8 MB for nothing.
_MOST = 3
_PIPE_BYTES = 1 << 20
# A range has to fit the pipe, or its process waits for the others' turns.
_RANGE_BYTES = 1 << 20
_RANGE_ROWS = 8192
# What is written at once. Each write wakes the parent, and costs both more than the copy.
_FRAME_BYTES = 512 << 10
# Systems take 1024 in one call.
_PARTS = 512
# Longer rows cost more in copies than in packing, and each process would hold some of them.
_LONG_ROW = 32 << 10
_READ = 256 << 10
_BUSY_MS = 500
_CACHE_KIB = 512
_HEAD = struct.Struct(">ii")
# After a range: the sum of its rowids.
_SUM = struct.Struct(">q")
_FAILED = -1
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MEMORY_KEPT = 2 << 20
_SQLITE_CONFIG_SINGLETHREAD = 1


class PackingFailed(ValueError):
    """A process met a value that isn't of the usual kind."""


@dataclass
class _Open:
    path: str
    immutable: bool


@dataclass
class _Table:
    name: str
    columns: list[PlannedColumn]
    sample: list[tuple[Any, ...]]
    rowid: str
    rowid_column: str | None
    low: int
    high: int
    width: int
    turn: int
    turns: int

    def ranges(self) -> Iterator[tuple[int, int]]:
        for first in range(self.low + self.turn * self.width, self.high + 1,
                           self.turns * self.width):  # fmt: skip
            yield first, min(first + self.width - 1, self.high)


def wanted(path: str, target: Target) -> int:
    """How many processes are worth it for this file; 0 is the parent alone."""
    try:
        large = os.stat(path).st_size >= _LARGE_FILE
    except OSError:
        return 0
    # One processor is the server's, which has as much to do as one of them.
    count = min(processors() - is_local(target), _MOST)
    return count if large and processors() > 1 else 0


@dataclass
class _Worker:
    pid: int
    orders: int
    frames: int

    def order(self, order: _Open | _Table) -> None:
        data = pickle.dumps(order)
        left = memoryview(_HEAD.pack(0, len(data)) + data)
        try:
            while left:
                left = left[os.write(self.orders, left) :]
        except BrokenPipeError:
            raise self._gone() from None

    def head(self) -> tuple[int, int]:
        rows, size = _HEAD.unpack(self._exactly(_HEAD.size))
        return rows, size

    def rowid_sum(self) -> int:
        total: int = _SUM.unpack(self._exactly(_SUM.size))[0]
        return total

    def piece(self, size: int) -> bytes:
        data = os.read(self.frames, min(size, _READ))
        if not data:
            raise self._gone()
        return data

    def _gone(self) -> MigrationError:
        return MigrationError(
            f"Process {self.pid}, which read the source for this one, was ended from outside, "
            "maybe because the host is short of memory. Everything was rolled back; run it again."
        )

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.piece(size - len(data))
        return data

    def raise_failure(self, size: int) -> NoReturn:
        kind, _colon, text = self._exactly(size).decode("utf-8", "replace").partition(":")
        if kind == "sqlite":
            raise sqlite3.DatabaseError(text)
        if kind == "value":
            raise PackingFailed(text)
        raise RuntimeError(text)


class Workers:
    """The processes; use as a context manager. Without any, everything goes the single way."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers:
        try:
            for _number in range(self._count):
                self._workers.append(self._start())
        except OSError:
            # No memory or no process left: the single way needs neither.
            self.end()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._workers]

    def _start(self) -> _Worker:
        orders_in, orders_out = os.pipe()
        frames_in, frames_out = os.pipe()
        # The kernel may allow less; then a process waits more often.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(frames_out, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            parent = os.getpid()
            pid = os.fork()
        except OSError:
            for descriptor in (orders_in, orders_out, frames_in, frames_out):
                os.close(descriptor)
            raise
        if pid == 0:
            # No handler, destructor or buffer of the parent's may run here.
            try:
                _be_a_worker(parent, orders_in, frames_out)
            finally:
                os._exit(0)
        os.close(orders_in)
        os.close(frames_out)
        return _Worker(pid, orders_out, frames_in)

    def end(self) -> None:
        for worker in self._workers:
            os.close(worker.orders)
            os.close(worker.frames)
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
        for worker in self._workers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(worker.pid, 0)
        self._workers = []

    def join(self, source: SourceDatabase) -> None:
        """All take the source's snapshot, or all are ended."""

        def open_all() -> bool:
            try:
                for worker in self._workers:
                    worker.order(_Open(source.real_path, source.immutable))
                # All are asked, so that none of the answers is left in its pipe.
                answers = [worker.head()[0] for worker in self._workers]
                return _FAILED not in answers
            except (OSError, MigrationError):
                return False

        if self._workers and not source.share(open_all):
            self.end()

    def stream(
        self,
        source: SourceDatabase,
        table: PlannedTable,
        packer: Packer,
        sample: list[tuple[Any, ...]],
        tick: Callable[[int, int], None],
    ) -> ParallelStream | None:
        """None if the table is better read by the parent alone."""
        if not self._workers or table.rows < max(1, _LARGE_TABLE) or table.row_label == "NULL":
            return None
        quoted, rowid = quote_sqlite(table.name), table.row_label
        length = _row_length(source, table, packer.columns)
        if length > _LONG_ROW:
            return None
        low, high = source.query(
            f"SELECT (SELECT min({rowid}) FROM {quoted}), (SELECT max({rowid}) FROM {quoted})"
        )[0]
        rows = max(1, min(_RANGE_ROWS, int(_RANGE_BYTES / length)))
        width = -(-(high - low + 1) * rows // table.rows)
        columns = [column for column in table.columns if not column.generated]
        column = table.rowid.name if table.rowid else None
        turns = len(self._workers)
        for turn, worker in enumerate(self._workers):
            worker.order(
                _Table(table.name, columns, sample, rowid, column, low, high, width, turn, turns)
            )
        ranges = -(-(high - low + 1) // width)
        stream = ParallelStream(self, self._workers, packer.columns, ranges, tick)
        stream.rowid_sum = None if column is None else 0
        return stream


def _row_length(source: SourceDatabase, table: PlannedTable, columns: list[PlannedColumn]) -> float:
    """About the bytes of a row, by the first ones: only for the size of ranges."""
    total = " + ".join(f"coalesce(length({quote_sqlite(c.name)}), 0) + 4" for c in columns)
    found = source.query(
        f"SELECT avg(n) FROM (SELECT {total} AS n FROM {quote_sqlite(table.name)} "
        "NOT INDEXED LIMIT 200)"
    )[0][0]
    return max(1.0, found or 1.0)


class ParallelStream(BinaryStream):
    """From the processes, a range of rows from each in turn."""

    def __init__(
        self,
        owner: Workers,
        workers: list[_Worker],
        columns: list[PlannedColumn],
        ranges: int,
        tick: Callable[[int, int], None],
    ) -> None:
        super().__init__(columns, tick)
        self._owner = owner
        self._workers = workers
        self._ranges = ranges
        self._range = 0
        self._left = 0

    def block(self) -> bytes:
        while not self._left:
            if self._range == self._ranges:
                return b""
            worker = self._workers[self._range % len(self._workers)]
            rows, self._left = worker.head()
            if rows == _FAILED:
                worker.raise_failure(self._left)
            if not self._left:
                if self.rowid_sum is not None:
                    self.rowid_sum = sum_64(self.rowid_sum, worker.rowid_sum())
                self._range += 1
                continue
            self._count(rows, self._left)
        data = self._workers[self._range % len(self._workers)].piece(self._left)
        self._left -= len(data)
        return data

    def close(self) -> None:
        """Processes in the middle of a table are of no use for the next one."""
        if not self._ended:
            self._owner.end()


# --- in the processes -----------------------------------------------------------------------------


def _be_a_worker(parent: int, orders: int, frames: int) -> None:
    # Else a collection would copy the parent's pages, and end what belongs to it.
    gc.disable()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    # Ctrl-C goes to the whole group, and the parent says what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _let_go({orders, frames})
    with contextlib.suppress(Exception):
        import ctypes

        library = ctypes.CDLL(None)
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # Else glibc gives each block's memory back to the system, to ask for it again.
        library.mallopt(_M_TRIM_THRESHOLD, _MEMORY_KEPT)
        library.mallopt(_M_MMAP_THRESHOLD, _MEMORY_KEPT)
    with contextlib.suppress(Exception):
        _drop_locks_between_threads()
    if os.getppid() == parent:
        with contextlib.suppress(BrokenPipeError), os.fdopen(orders, "rb") as stream:
            _serve(stream, frames)


def _drop_locks_between_threads() -> None:
    """SQLite's mutexes, one for each value that is read; this process has one thread.

    Must come before the first connection. An interpreter with a SQLite of its own inside keeps
    them, if it doesn't show SQLite's functions.
    """
    import _sqlite3
    import ctypes

    # The very library that Python's module is linked with: a symbol is looked for in it too.
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    if library.sqlite3_shutdown() == sqlite3.SQLITE_OK:
        library.sqlite3_config(_SQLITE_CONFIG_SINGLETHREAD)
        library.sqlite3_initialize()


def _let_go(kept: set[int]) -> None:
    """Whoever waits for the end of a pipe of the parent's must not wait for this process."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    # By name: the highest number that is allowed can be a thousand million.
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        numbers = list(range(1024))
    for number in numbers:
        if number > 2 and number not in kept:
            with contextlib.suppress(OSError):
                os.close(number)


def _serve(orders: BinaryIO, frames: int) -> None:
    connection: sqlite3.Connection | None = None
    while head := orders.read(_HEAD.size):
        order = pickle.loads(orders.read(_HEAD.unpack(head)[1]))
        try:
            if isinstance(order, _Open):
                if connection is not None:
                    connection.close()
                connection = _open(order)
                _write(frames, _HEAD.pack(0, 0))
            else:
                if connection is None:
                    raise AssertionError("connection is not there yet")
                _pack(connection, order, frames)
        except BrokenPipeError:
            return
        except Exception as error:
            _write_failure(frames, error)


def _write_failure(frames: int, error: Exception) -> None:
    kind, text = "other", f"{type(error).__name__}: {error}"
    if isinstance(error, sqlite3.DatabaseError):
        kind, text = "sqlite", str(error)
    elif isinstance(
        error,
        (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, struct.error),
    ):
        # Without the value.
        kind, text = "value", type(error).__name__
    data = f"{kind}:{text}".encode()
    _write(frames, _HEAD.pack(_FAILED, len(data)), data)


def _open(order: _Open) -> sqlite3.Connection:
    connection = open_reading(order.path, order.immutable)
    # A writer that waits for the parent's lock would let nobody else in.
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    # Each page is read once, but for the few on the way to it.
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.text_factory = bytes
    return connection


def _pack(connection: sqlite3.Connection, table: _Table, frames: int) -> None:
    packer = Packer(table.name, table.columns, table.sample)
    also = "AND" if packer.has_where else "WHERE"
    stream = PackStream(None, packer, rowid=table.rowid_column)
    before = 0
    for bounds in table.ranges():
        stream.follow(Rows(connection, packer, f" {also} {table.rowid} BETWEEN ? AND ?", bounds))
        blocks: list[bytes] = []
        size = 0
        while block := stream.block():
            blocks.append(block)
            size += len(block)
            if size >= _FRAME_BYTES:
                _write(frames, _HEAD.pack(stream.rows - before, size), *blocks)
                blocks, size, before = [], 0, stream.rows
        if blocks:
            blocks.insert(0, _HEAD.pack(stream.rows - before, size))
            before = stream.rows
        blocks.append(_HEAD.pack(0, 0))
        if stream.rowid_sum is not None:
            blocks.append(_SUM.pack(stream.rowid_sum))
            stream.rowid_sum = 0
        _write(frames, *blocks)
    stream.close()


def _write(descriptor: int, *parts: bytes) -> None:
    sent = os.writev(descriptor, parts[:_PARTS])
    for part in parts:
        left = memoryview(part)[min(sent, len(part)) :]
        sent -= len(part) - len(left)
        while left:
            left = left[os.write(descriptor, left) :]
