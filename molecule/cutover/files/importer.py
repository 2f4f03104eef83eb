# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a row into the SQLite file each half second, past the application."""

import itertools
import sqlite3
import sys
import time

connection = sqlite3.connect(sys.argv[1], timeout=30)
for number in itertools.count():
    with connection:
        connection.execute(
            "INSERT INTO log_entries (app_id, level, message, source, is_valid, created_at)"
            " SELECT min(id), 'info', ?, 'importer', 1, strftime('%Y-%m-%d %H:%M:%f', 'now')"
            " FROM apps",
            (f"importer-{number}",),
        )
    time.sleep(0.5)
