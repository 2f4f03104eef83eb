# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets SQLite roll back what a stopped writer left half done: FILE.

A writer that was stopped within a transaction leaves a journal (FILE-journal) with the pages as
they were before. The next connection that may write puts them back, as the application's own would
have. A file without such a journal is not opened. Prints whether there was something to roll back.
"""

import os
import sqlite3
import sys
from urllib.parse import quote

path = os.path.realpath(sys.argv[1])
try:
    with open(path + "-journal", "rb") as journal:
        # A journal that is kept between transactions begins with zeros.
        hot = journal.read(1) not in (b"", b"\0")
except FileNotFoundError:
    hot = False
if hot:
    connection = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=60)
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.close()
    print("rolled back")
