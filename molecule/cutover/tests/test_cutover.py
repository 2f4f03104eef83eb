# SPDX-License-Identifier: GPL-3.0-or-later
"""An application live on SQLite goes to PostgreSQL, and no acknowledged write is lost."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from playbook_run import ROOT, play
from visitor import Visitor

pytestmark = pytest.mark.units(
    "live-dashboard.service",
    "live-dashboard@a.service",
    "live-dashboard@b.service",
    "nginx.service",
    "client.service",
)

FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PSQL = "runuser -u postgres -- psql -XAtq -d live_validation_dashboard -c "
SQLITE = "/srv/live-dashboard/shared/validation_dashboard.db"
MARK = "/etc/golive/live-dashboard/cutover.json"


@pytest.fixture
def visitor(host):
    return Visitor(host.check_output("hostname -I").split()[0])


def acknowledged(host) -> list[tuple[str, str]]:
    lines = host.check_output("cat /var/tmp/acknowledged").splitlines()
    return [tuple(line.split()) for line in lines]


def written(host) -> list[str]:
    query = "\"SELECT message FROM log_entries WHERE message LIKE 'client-%'\""
    return host.check_output(PSQL + query).splitlines()


def in_sqlite(host, query: str) -> str:
    script = (
        "import sqlite3, sys; connection = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro',"
        " uri=True); print(connection.execute(sys.argv[2]).fetchone()[0])"
    )
    return host.check_output("python3 -c %s %s %s", script, SQLITE, query)


def test_the_application_is_on_postgresql(host, visitor):
    address = host.check_output("grep ^DATABASE_URL= /etc/live-dashboard/environment | cut -c1-27")
    assert address == 'DATABASE_URL="postgresql://'
    assert visitor.json("/health")["status"] == "healthy"
    assert json.loads(host.check_output(f"cat {MARK}"))["sqlite_file"] == SQLITE


def test_no_acknowledged_write_is_lost(host):
    answers = acknowledged(host)
    stored = set(written(host))
    good = [message for status, message in answers if status == "201"]
    assert {status for status, _ in answers} <= {"201", "503"}
    assert len(good) > 20
    assert [message for message in good if message not in stored] == []
    # Both before and after the switch, or the test has shown nothing.
    before = int(in_sqlite(host, "SELECT count(*) FROM log_entries WHERE message LIKE 'client-%'"))
    assert 0 < before < len(good)


def test_every_refused_write_came_with_the_maintenance_page(host):
    refused = [message for status, message in acknowledged(host) if status == "503"]
    assert refused
    assert not set(refused) & set(written(host))


def test_the_job_beside_the_application_is_stopped_for_good_and_its_rows_are_there(host):
    assert not host.service("importer.service").is_running
    assert not host.service("importer.service").is_enabled
    query = "SELECT count(*) FROM log_entries WHERE message LIKE 'importer-%'"
    rows = int(in_sqlite(host, query))
    assert rows > 1
    assert host.check_output(PSQL + f'"{query}"') == str(rows)


def test_what_the_job_had_not_committed_is_nowhere(host):
    query = "SELECT count(*) FROM log_entries WHERE message = 'half done'"
    assert in_sqlite(host, query) == "0"
    assert host.check_output(PSQL + f'"{query}"') == "0"
    assert host.service("importer.service").exists
    assert "status=9/KILL" in host.check_output("journalctl --no-pager -o cat -u importer.service")


def test_the_rehearsal_left_nothing(host):
    query = "\"SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'golive_rehearsal%'\""
    assert host.check_output(PSQL + query) == "0"
    assert not host.file("/var/lib/golive/live-dashboard/rehearsal").exists
    assert not host.file("/var/lib/nginx/maintenance/live-dashboard").exists


def test_the_next_insert_gets_a_number_of_its_own(host):
    query = "'SELECT count(*) - count(DISTINCT id) FROM log_entries'"
    assert host.check_output(PSQL + query) == "0"


def test_the_application_stays_there_and_a_second_run_changes_nothing(host, visitor):
    before = host.check_output("systemctl show -p MainPID 'live-dashboard@*.service'")
    # The cut-over runs the phases of database, cache and proxy itself.
    code, output = play("phase3_application", str(ROOT / "playbooks" / "cutover.yml"))
    assert code == 0, output[-4000:]
    assert set(re.findall(r"changed=(\d+)", output.partition("PLAY RECAP")[2])) == {"0"}
    assert host.check_output("systemctl show -p MainPID 'live-dashboard@*.service'") == before
    test_the_application_is_on_postgresql(host, visitor)


PAGE = "/var/lib/nginx/maintenance/live-dashboard"
UNITS = "live-dashboard.socket live-dashboard.service"


def test_an_abort_is_refused_once_users_may_have_written(host):
    code, output = play("cutover", "-e", "webstack_cutover_abort=true")
    assert code != 0 and "return_to_sqlite.yml takes it back to SQLite" in output
    # A switch that was cut off, and the page taken down by hand.
    kept = host.check_output(f"cat {MARK} && rm {MARK}")
    code, output = play("cutover", "-e", "webstack_cutover_abort=true")
    host.check_output("printf %%s %s > " + MARK, kept)
    assert code != 0 and "the maintenance page is down" in output
    assert len(written(host)) > 20


def test_a_switch_that_was_cut_off_is_finished(host, visitor):
    """The environment is PostgreSQL's, the application stopped, the page up; there is no mark."""
    host.check_output(f"touch {PAGE} && systemctl stop {UNITS} && rm {MARK}")
    before = written(host)
    code, output = play("cutover")
    assert code == 0, output[-4000:]
    assert "the switch was finished" in output and "rehearsal while" not in output
    assert not host.file(PAGE).exists and json.loads(host.check_output(f"cat {MARK}"))
    assert set(before) <= set(written(host))
    test_the_application_is_on_postgresql(host, visitor)
