# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back to SQLite, and a cut-over that fails after the application was stopped."""

from __future__ import annotations

import json
import threading
import time

import pytest
from playbook_run import kill, play, start
from visitor import Visitor

pytestmark = pytest.mark.units(
    "live-dashboard.service",
    "live-dashboard@a.service",
    "live-dashboard@b.service",
    "nginx.service",
    "saboteur.service",
)

PSQL = "runuser -u postgres -- psql -XAtq -d live_validation_dashboard -c "
SQLITE = "/srv/live-dashboard/shared/validation_dashboard.db"
NUMBERS = "SELECT count(*), max(id), min(message) FROM log_entries"

# Puts a text into a numeric column as soon as the maintenance page is up: after the rehearsal,
# before the final load.
SABOTEUR = f"""
import os, sqlite3, time
while not os.path.exists("/var/lib/nginx/maintenance/live-dashboard"):
    time.sleep(0.02)
connection = sqlite3.connect("{SQLITE}", timeout=30)
connection.execute("UPDATE log_entries SET duration_ms = 'slow' WHERE id = 4711")
connection.commit()
"""


def address(host) -> str:
    return host.check_output("grep ^DATABASE_URL= /etc/live-dashboard/environment | cut -d: -f1")


def in_sqlite(host, query: str) -> list:
    script = (
        "import json, sqlite3, sys; connection = sqlite3.connect('file:' + sys.argv[1] +"
        " '?mode=ro', uri=True); print(json.dumps(connection.execute(sys.argv[2]).fetchone()))"
    )
    return json.loads(host.check_output("python3 -c %s %s %s", script, SQLITE, query))


@pytest.fixture(scope="module")
def stopped_client(host) -> None:
    host.check_output("systemctl stop client.service")


@pytest.fixture(scope="module")
def returned(host, stopped_client) -> tuple[list[str], str]:
    """What PostgreSQL held, and what the play said."""
    held = host.check_output(PSQL + f'"{NUMBERS}"').split("|")
    code, output = play("return_to_sqlite")
    assert code == 0, output[-4000:]
    return held, output


def test_the_way_back_takes_along_what_was_written_since(host, returned):
    held, output = returned
    assert address(host) == 'DATABASE_URL="sqlite'
    assert [str(value) for value in in_sqlite(host, NUMBERS)] == held
    assert in_sqlite(host, "PRAGMA integrity_check") == ["ok"]
    assert "the pause that users saw" in output
    visitor = Visitor(host.check_output("hostname -I").split()[0])
    assert visitor.json("/health")["status"] == "healthy"
    assert str(visitor.json("/api/stats")["counts"]["log_entries"]) == held[0]


def test_a_return_that_was_cut_off_is_finished(host, returned):
    """The environment is the file's, the application stopped, the page up; the mark is there."""
    held, _output = returned
    mark = "/etc/golive/live-dashboard/cutover.json"
    page = "/var/lib/nginx/maintenance/live-dashboard"
    units = "live-dashboard.socket live-dashboard.service"
    host.check_output(f"touch {page} && systemctl stop {units} && echo {{}} > {mark}")
    code, output = play("cutover")
    assert code != 0 and "return_to_sqlite.yml again, which finishes it" in output
    code, output = play("return_to_sqlite")
    assert code == 0, output[-4000:]
    assert "an earlier run had been cut off" in output
    assert not host.file(page).exists and not host.file(mark).exists
    assert address(host) == 'DATABASE_URL="sqlite'
    visitor = Visitor(host.check_output("hostname -I").split()[0])
    assert str(visitor.json("/api/stats")["counts"]["log_entries"]) == held[0]


def test_a_second_cut_over_does_not_replace_the_first_ones_rows_unasked(host, returned):
    code, output = play("cutover")
    assert code != 0
    assert "has changed since it was migrated" in output or "is another database" in output
    assert address(host) == 'DATABASE_URL="sqlite'


def test_a_cut_over_that_fails_leaves_the_application_on_sqlite(host, returned):
    host.check_output("systemd-run --unit=saboteur python3 -c %s", SABOTEUR)
    before = in_sqlite(host, NUMBERS)
    code, output = play("cutover", "-e", "webstack_cutover_replace=live_validation_dashboard")
    assert code != 0
    assert "log_entries.duration_ms" in output and "4711" in output, output[-4000:]
    assert "The application is back on" in output
    assert in_sqlite(host, NUMBERS) == before
    assert address(host) == 'DATABASE_URL="sqlite'
    assert not host.file("/var/lib/nginx/maintenance/live-dashboard").exists
    visitor = Visitor(host.check_output("hostname -I").split()[0])
    assert visitor.json("/health")["status"] == "healthy"
    assert (
        host.check_output(PSQL + "'SELECT count(*) FROM pg_tables WHERE schemaname = $$public$$'")
        == "0"
    )


def test_a_cut_over_that_is_killed_in_the_switch_can_be_aborted(host, returned):
    """From the environment on, the next run goes by that, and not by what the run had in mind."""
    mend = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1]);"
        " connection.execute('UPDATE log_entries SET duration_ms = 1 WHERE id = 4711');"
        " connection.commit()"
    )
    host.check_output("python3 -c %s %s", mend, SQLITE)
    before = in_sqlite(host, NUMBERS)
    process = start("cutover")
    # A full pipe would stop it.
    printed: list[str] = []
    reader = threading.Thread(target=lambda: printed.extend(process.stdout), daemon=True)
    reader.start()
    while process.poll() is None and address(host) == 'DATABASE_URL="sqlite':
        time.sleep(0.05)
    assert process.poll() is None, "".join(printed)[-4000:]
    kill(process)
    assert address(host) == 'DATABASE_URL="postgresql'
    page = host.file("/var/lib/nginx/maintenance/live-dashboard")
    assert page.exists and not host.file("/etc/golive/live-dashboard/cutover.json").exists
    code, output = play("cutover", "-e", "webstack_cutover_abort=true")
    assert code == 0, output[-4000:]
    assert "the application is on SQLite, as asked" in output
    assert address(host) == 'DATABASE_URL="sqlite' and not page.exists
    assert in_sqlite(host, NUMBERS) == before
    visitor = Visitor(host.check_output("hostname -I").split()[0])
    assert visitor.json("/health")["status"] == "healthy"
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = $$public$$"
    assert host.check_output(PSQL + f"'{tables}'") == "0"
