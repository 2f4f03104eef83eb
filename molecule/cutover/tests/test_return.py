# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back to SQLite, and a cut-over that fails after the application was stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A play in the background, with its lines; killed at the end."""
    process = start(*arguments)
    # A full pipe would stop it.
    printed: list[str] = []
    reader = threading.Thread(target=lambda: printed.extend(process.stdout), daemon=True)
    reader.start()
    try:
        yield process, printed
    finally:
        if process.poll() is None:
            kill(process)
        reader.join()


@pytest.fixture(scope="module")
def stopped_client(host) -> None:
    host.check_output("systemctl stop client.service")


def refused_return(host, *arguments: str) -> str:
    """What a return says whose rehearsal fails: nobody is kept out."""
    code, output = play("return_to_sqlite", *arguments)
    assert code != 0 and "Put the maintenance page up" not in output, output[-4000:]
    assert address(host) == 'DATABASE_URL="postgresql'
    visitor = Visitor(host.check_output("hostname -I").split()[0])
    assert visitor.json("/health")["status"] == "healthy"
    assert not host.file("/var/lib/golive/live-dashboard/rehearsal").exists
    return " ".join(output.split())


def test_a_return_that_would_take_too_long_is_not_begun(host, stopped_client):
    said = refused_return(host, "-e", "webstack_cutover_max_pause=10")
    assert "more than webstack_cutover_max_pause (10 s)" in said


def test_a_value_that_sqlite_cant_hold_is_told_before_the_pause(host, stopped_client):
    row = "log_entries WHERE id = 4711"
    kept = host.check_output(PSQL + f"'SELECT duration_ms FROM {row}'") or "NULL"
    change = PSQL + '"UPDATE log_entries SET duration_ms = {} WHERE id = 4711"'
    host.check_output(change.format("'NaN'"))
    said = refused_return(host)
    host.check_output(change.format(kept))
    assert "log_entries.duration_ms" in said, said[-4000:]


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
    assert "rehearsal while the application served" in output
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
    with started("cutover") as (process, printed):
        while process.poll() is None and address(host) == 'DATABASE_URL="sqlite':
            time.sleep(0.05)
        assert process.poll() is None, "".join(printed)[-4000:]
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


GUARD = "/run/golive-live-dashboard-pause.sh"
NOTE = "/var/lib/golive/live-dashboard/cutover-ended-by-itself"
PAGE = "/var/lib/nginx/maintenance/live-dashboard"
LOADED = "SELECT count(*) FROM golive_webstack.migration WHERE schema_name = $$public$$"
# More than the data and the fifteen seconds beside it.
LIMIT = "webstack_cutover_max_pause=45"


def until(wanted: Callable[[], bool], seconds: float, printed: list[str]) -> None:
    end = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < end, "".join(printed)[-4000:]
        time.sleep(0.1)


def add_entry(host) -> None:
    """As the application's user, which waits for nobody's lock."""
    script = (
        "import sqlite3, sys; connection = sqlite3.connect(sys.argv[1], timeout=0.1);"
        ' connection.execute("INSERT INTO log_entries (app_id, level, message, is_valid,'
        " created_at) SELECT min(id), 'info', 'after the pause', 1, CURRENT_TIMESTAMP FROM apps\");"
        " connection.commit()"
    )
    host.check_output("runuser -u live-dashboard -- python3 -c %s %s", script, SQLITE)


@pytest.mark.parametrize("fate", ["stopped", "killed"])
def test_a_pause_that_is_too_long_ends_by_itself(host, returned, fate):
    """The play stands still, or is gone, between the load and the switch."""
    with started("cutover", "-e", LIMIT) as (process, printed):
        until(lambda: host.file(PAGE).exists or process.poll() is not None, 300, printed)
        until(lambda: host.run(PSQL + f"'{LOADED}'").stdout.strip() == "1", 60, printed)
        os.killpg(process.pid, signal.SIGSTOP if fate == "stopped" else signal.SIGKILL)
        if fate == "stopped":
            code, said = play("return_to_sqlite")
            assert code != 0 and re.search("Another run is at work here: [^,]+, cut-over", said)
        assert host.file(PAGE).exists
        until(lambda: not host.file(PAGE).exists, 60, printed)
        visitor = Visitor(host.check_output("hostname -I").split()[0])
        assert visitor.json("/health")["status"] == "healthy"
        assert address(host) == 'DATABASE_URL="sqlite'
        add_entry(host)
        held = in_sqlite(host, NUMBERS)
        server = host.check_output("systemctl show -p MainPID 'live-dashboard@*.service'")
        if fate == "stopped":
            os.killpg(process.pid, signal.SIGCONT)
            assert process.wait(120) != 0
        output = " ".join("".join(printed).split())
    if fate == "stopped":
        assert "The pause lasted longer than webstack_cutover_max_pause (45 s)" in output
        assert "The application is back on" in output and "Users saw a pause of" in output
        # It is not stopped again.
        assert host.check_output("systemctl show -p MainPID 'live-dashboard@*.service'") == server
    else:
        # A rehearsal alone: it finds the copy that nobody used, and moves nothing.
        code, output = play("cutover", "-e", "webstack_cutover_rehearse_only=true")
        assert code == 0, output[-4000:]
        assert "rehearsal while the application served" in output
        assert "the pause that users saw" not in output
    assert host.file(NOTE).exists == (fate == "stopped")
    assert in_sqlite(host, NUMBERS) == held and address(host) == 'DATABASE_URL="sqlite'
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = $$public$$"
    assert host.check_output(PSQL + f"'{tables}'") == "0"
    assert host.run("systemctl is-active golive-live-dashboard-pause.timer").rc != 0


def test_a_pause_that_would_be_too_long_is_not_begun(host, returned):
    code, output = play("cutover", "-e", "webstack_cutover_max_pause=10")
    assert code != 0 and "more than webstack_cutover_max_pause (10 s)" in output
    assert "Put the maintenance page up" not in output
    assert address(host) == 'DATABASE_URL="sqlite'


def test_what_is_claimed_or_disarmed_does_not_end_by_itself(host):
    """The script alone, which decides between the play and the host."""
    base = "/run/golive-test-pause"
    host.check_output(f"cp {GUARD} {base}.sh && touch /run/golive-test-file")
    arm = f"sh {base}.sh arm 1 /run/golive-test-file '' /run/golive-test-page ''"
    for action in ("claim", "disarm"):
        host.check_output(f"touch /run/golive-test-page && {arm} && sh {base}.sh {action}")
        time.sleep(3)
        assert host.file("/run/golive-test-page").exists
        assert not host.file(f"{base}.expired").exists
    # A reader of the file goes, as it would keep the application from writing.
    hold = "import time; file = open('/run/golive-test-file'); time.sleep(600)"
    host.check_output("systemd-run --unit=reader python3 -c %s", hold)
    host.check_output(arm)
    until(lambda: not host.file("/run/golive-test-page").exists, 20, [])
    assert host.file(f"{base}.expired").exists
    assert host.run(f"sh {base}.sh claim").rc != 0
    assert not host.service("reader.service").is_running
