# SPDX-License-Identifier: GPL-3.0-or-later
"""A consistent copy of a SQLite database that is in use: SOURCE COPY.

Made by SQLite's own backup, in one go: an application that writes meanwhile waits for it, or
writes to its -wal, and the copy is the database at one moment.
"""

import contextlib
import os
import shutil
import sqlite3
import sys
from urllib.parse import quote

source, copy = sys.argv[1:]
need = os.stat(source).st_size
if os.path.exists(source + "-wal"):
    need += os.stat(source + "-wal").st_size
free = shutil.disk_usage(os.path.dirname(copy)).free
if free < need * 1.1:
    sys.exit(f"The copy for the rehearsal needs {need} bytes, and {copy} has room for {free}.")
with contextlib.suppress(FileNotFoundError):
    os.unlink(copy)
descriptor = os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
os.close(descriptor)
origin = sqlite3.connect(f"file:{quote(source)}?mode=ro", uri=True, timeout=60)
target = sqlite3.connect(copy)
origin.backup(target)
# A copy in WAL mode would bring a -wal file of its own.
target.execute("PRAGMA journal_mode = DELETE")
target.close()
origin.close()
print(need)
