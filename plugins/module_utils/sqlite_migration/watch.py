# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far PostgreSQL is with one long statement, and its end if nobody waits any more."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from . import target as pg
from .errors import MigrationError
from .progress import Progress

_SECONDS = 1.0
_ASK = """
SELECT phase, CASE WHEN phase LIKE '%%tuples%%' THEN tuples_done ELSE blocks_done END,
       CASE WHEN phase LIKE '%%tuples%%' THEN tuples_total ELSE blocks_total END
FROM pg_catalog.pg_stat_progress_create_index WHERE pid = %(pid)s
UNION ALL
SELECT phase, sample_blks_scanned, sample_blks_total
FROM pg_catalog.pg_stat_progress_analyze WHERE pid = %(pid)s
"""


def stage(phase: str, done: int, total: int) -> str:
    """'building index: scanning table', 430, 1000 -> 'scanning table 43 %'."""
    name = phase.rpartition(": ")[2]
    return f"{name} {100 * done // total} %" if total else name


class ServerWatch:
    """Use as a context manager around statements; `now` names the one that comes next.

    Asks on a connection of its own, and only where somebody watches the progress.
    """

    def __init__(self, connection: Any, target: pg.Target, progress: Progress) -> None:
        self._connection = connection
        self._target = target
        self._progress = progress
        self._pid = connection.info.backend_pid
        self._what = ""
        self._gone: MigrationError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ServerWatch:
        if self._progress.is_watched:
            self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        if self._progress.is_watched:
            self._thread.join()
        self._progress.note = ""
        if self._gone is not None:
            raise self._gone

    def now(self, what: str) -> None:
        self._what = self._progress.note = what
        self._progress.write()

    def _run(self) -> None:
        own: Any = None
        try:
            while not self._over.wait(_SECONDS):
                try:
                    self._progress.check_alive()
                except MigrationError as error:
                    # Again and again, as there may be no statement at just this moment.
                    self._gone = error
                    with contextlib.suppress(Exception):
                        self._connection.cancel()
                    continue
                # Without a connection to spare, only the statement is named.
                with contextlib.suppress(Exception):
                    if own is None:
                        own = pg.connect(self._target, "progress")
                        own.autocommit = True
                    what = self._what
                    found = pg.fetch(own, _ASK, {"pid": self._pid})
                    if what == self._what:
                        parts = [what, *(stage(*row) for row in found)]
                        self._progress.note = ", ".join(part for part in parts if part)
                        self._progress.write()
        finally:
            if own is not None:
                own.close()
