# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far long work has come: a small JSON file for whoever watches, and a look at them.

Beside the file may stand one named `alive`, which the watcher touches. When that stops, nobody
waits for the result any more, and the work ends with everything rolled back.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from typing import Any

from .errors import MigrationError

PHASES = (
    "check",
    "plan",
    "load",
    "index",
    "foreign_keys",
    "analyze",
    "count",
    "verify",
    "commit",
    "done",
)
_INTERVAL = 1.0
_GONE_AFTER = 90.0


class Progress:
    """Counters that cost next to nothing; the file is written at most once a second."""

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._alive = os.path.join(os.path.dirname(os.path.abspath(path)), "alive") if path else ""
        self._began = time.monotonic()
        self._phase_began = self._began
        self._next = self._began
        self._phase = "check"
        self._table: str | None = None
        self._tables_done = 0
        self._tables_total = 0
        self._rows_done = 0
        self._rows_total = 0
        self._bytes_done = 0
        # What is done at the moment, in words.
        self.note = ""
        # A statement's watcher writes, too.
        self._lock = threading.Lock()

    @property
    def is_watched(self) -> bool:
        return bool(self._path)

    def begin(self, phase: str, tables: int, rows: int) -> None:
        """A phase that counts, from zero."""
        self._tables_done = self._rows_done = self._bytes_done = 0
        self._tables_total, self._rows_total = tables, rows
        self.phase(phase)

    def phase(self, phase: str) -> None:
        self._phase = phase
        self._table = None
        self._phase_began = time.monotonic()
        self.write()

    def table(self, name: str) -> None:
        self._table = name
        self._maybe()

    def table_done(self) -> None:
        self._tables_done += 1
        self._maybe()

    def rows(self, count: int, size: int = 0) -> None:
        self._rows_done += count
        self._bytes_done += size
        self._maybe()

    def rows_again(self, count: int, size: int = 0) -> None:
        """These rows were rolled back, and will come again."""
        self._rows_done -= count
        self._bytes_done -= size

    def _maybe(self) -> None:
        if self._path and time.monotonic() >= self._next:
            self.write()

    def as_dict(self) -> dict[str, Any]:
        now = time.monotonic()
        counted = now - self._phase_began
        rate = self._rows_done / counted if counted > 0 and self._phase in ("load", "verify") else 0
        left = None
        if rate and self._rows_total:
            left = round(max(0, self._rows_total - self._rows_done) / rate, 1)
        return {
            "phase": self._phase,
            "table": self._table,
            "tables_done": self._tables_done,
            "tables_total": self._tables_total,
            "rows_done": self._rows_done,
            "rows_total": self._rows_total,
            "bytes_done": self._bytes_done,
            "seconds": round(now - self._began, 1),
            "rows_per_second": round(rate),
            "note": self.note,
            "seconds_left": left,
            "updated": time.time(),
        }

    def write(self) -> None:
        """Also asks whether anyone is still there."""
        if not self._path:
            return
        self.check_alive()
        self._next = time.monotonic() + _INTERVAL
        partial = f"{self._path}.{os.getpid()}.partial"
        # The watcher may have removed the folder; the work goes on without it.
        with self._lock, contextlib.suppress(OSError):
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as handle:
                json.dump(self.as_dict(), handle)
            os.replace(partial, self._path)

    def check_alive(self) -> None:
        if not self._path:
            return
        try:
            touched = os.stat(self._alive).st_mtime
        except OSError:
            return
        if time.time() - touched > _GONE_AFTER:
            raise MigrationError("the control node is gone; rolled back", phase=self._phase)
