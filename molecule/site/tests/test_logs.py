# SPDX-License-Identifier: GPL-3.0-or-later
"""One request is found in every log by its id, and a rotation under load loses no line."""

from __future__ import annotations

import itertools
import json
import threading
import time

import pytest
from visitor import Visitor

PSQL = "runuser -u postgres -- psql -XAtq -d live_validation_dashboard"
ACCESS = "/var/log/nginx/live_dashboard_access.log"


@pytest.fixture
def address(host):
    return host.check_output("hostname -I").split()[0]


def test_a_slow_request_is_found_by_its_id_in_every_log(host, address):
    visitor = Visitor(address)
    visitor.log_in()
    lock = "BEGIN; LOCK TABLE log_entries IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(2); COMMIT"
    holder = threading.Thread(target=host.check_output, args=(f"{PSQL} -c '{lock}'",))
    holder.start()
    held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"
    for _ in range(50):
        if host.check_output(f'{PSQL} -c "{held}"') != "0":
            break
        time.sleep(0.1)
    status, _, headers = visitor.get("/api/logs?limit=7")
    holder.join()
    assert status == 200
    identity = headers["X-Request-ID"]
    (access,) = host.check_output(f"grep -F {identity} {ACCESS}").splitlines()
    assert "/api/logs?limit=7" in access
    said = host.check_output(f"journalctl -u 'live-dashboard@*' -o cat | grep -F {identity}")
    (line,) = [json.loads(line) for line in said.splitlines()]
    assert (line["path"], line["level"]) == ("/api/logs", "warning")
    statements = host.check_output(f"grep -rhF request_id={identity} /var/log/postgresql")
    assert "duration: " in statements and "log_entries" in statements


def test_a_rotation_under_load_loses_no_line(host, address):
    stop, asked = threading.Event(), []

    def ask(name: int) -> None:
        visitor = Visitor(address)
        for number in itertools.count():
            if stop.is_set():
                return
            mark = f"mark-{name}-{number}-end"
            visitor.get(f"/{mark}")
            asked.append(mark)

    visitors = [threading.Thread(target=ask, args=(name,)) for name in range(4)]
    for thread in visitors:
        thread.start()
    for _ in range(3):
        time.sleep(1)
        host.check_output("logrotate --force /etc/logrotate.d/nginx")
    time.sleep(1)
    stop.set()
    for thread in visitors:
        thread.join()
    lines = host.check_output(f"zcat -f {ACCESS} {ACCESS}.[1-9]* | grep -o 'mark-[0-9-]*-end'")
    assert sorted(lines.splitlines()) == sorted(asked)
    assert len(asked) > 50
    host.run_expect([0], f"test -s {ACCESS}.1 && test -s {ACCESS}")
