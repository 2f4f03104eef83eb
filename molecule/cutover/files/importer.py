# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a row into the SQLite file each half second, past the application.

When it is told to stop it dies within a transaction of which a part is in the file already, as a
job may that is stopped at any time.
"""

import itertools
import os
import signal
import sqlite3
import sys
import threading

INSERT = """INSERT INTO log_entries (app_id, level, message, source, is_valid, created_at)
 SELECT min(id), 'info', ?, 'importer', 1, strftime('%Y-%m-%d %H:%M:%f', 'now') FROM apps"""
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_unused: told.set())
connection = sqlite3.connect(sys.argv[1], timeout=30)
for number in itertools.count():
    with connection:
        connection.execute(INSERT, (f"importer-{number}",))
        if told.wait(0):
            connection.execute("PRAGMA cache_size = 10")
            connection.executemany(INSERT, [("half done",)] * 5000)
            os.kill(os.getpid(), signal.SIGKILL)
    told.wait(0.5)
