# SPDX-License-Identifier: GPL-3.0-or-later
"""The pause as a user sees it: asks URL (with header Host) until STOP exists, prints JSON.

Usage: URL HOST STOP LIMIT, with LIMIT in seconds. The pause is the longest time from one good
answer (a status below 500) to the next with others between them, in seconds. If the site was away
already at the start, it counts from there, and the pause was longer.
"""

import contextlib
import http.client
import json
import os
import ssl
import sys
import time
from urllib.parse import urlsplit

url, host, stop, limit = sys.argv[1:]
parts = urlsplit(url)
end = time.monotonic() + float(limit)


def ask() -> int:
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(parts.netloc, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    try:
        connection.request("GET", parts.path or "/", headers={"Host": host})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


asked = refused = 0
pause = 0.0
statuses: dict = {}
began = time.monotonic()
last_good = None
broken = False
away_at_start = False
while time.monotonic() < end:
    status = ask()
    now = time.monotonic()
    asked += 1
    statuses[status] = statuses.get(status, 0) + 1
    if 0 < status < 500:
        if broken:
            pause = max(pause, now - (began if last_good is None else last_good))
        last_good, broken = now, False
    else:
        refused += 1
        broken = True
        away_at_start = away_at_start or last_good is None
    if os.path.exists(stop):
        break
    time.sleep(0.05)
with contextlib.suppress(FileNotFoundError):
    os.unlink(stop)
answering = not broken and last_good is not None
print(
    json.dumps(
        {
            "pause_seconds": round(pause, 2),
            "requests": asked,
            "refused": refused,
            "statuses": statuses,
            "away_at_start": away_at_start,
            "answering_at_end": answering,
        }
    )
)
