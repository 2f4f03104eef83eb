# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that can't work stop the run before a host is touched; the message says what to set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD = {"webstack_app_source": str(ROOT / "examples/live_dashboard"), "webstack_app_wsgi": "a:b()"}


def preflight(
    folder: Path,
    hosts: dict[str, object],
    settings: dict[str, object],
    groups: dict[str, list[str]] | None = None,
    playbook: str = "preflight",
    limit: str = "all",
) -> str:
    inventory = folder / "hosts.json"
    children = {name: {"hosts": dict.fromkeys(own)} for name, own in (groups or {}).items()}
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "children": children}}))
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            f"--inventory={inventory}",
            f"--extra-vars={json.dumps(settings)}",
            "--check",
            *([] if limit == "all" else [f"--limit={limit}"]),
            str(ROOT / f"playbooks/{playbook}.yml"),
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1"},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "changed=0" in done.stdout
    return " ".join((done.stdout + done.stderr).split())


# An address that nothing answers at: a run that went as far as a host would say so.
ONE = {"web1": {"ansible_host": "127.0.0.1", "ansible_port": 9, "ansible_user": "root"}}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "Set webstack_app_source: the application's folder on the control node"),
        ({"webstack_app_source": "/nowhere"}, "/nowhere is not there on the control node"),
        ({**GOOD, "webstack_app_source": "/a/b.whl"}, "/a/b.whl is not there"),
        ({**GOOD, "webstack_app_wsgi": "app"}, "Set webstack_app_wsgi to module:callable"),
        ({**GOOD, "webstack_app_name": "Bad_Name"}, "webstack_app_name is 'Bad_Name'"),
        ({**GOOD, "webstack_database_name": "a b"}, "webstack_database_name (a b)"),
        ({**GOOD, "webstack_sqlite_file": "/nowhere.db"}, "/nowhere.db is not a file"),
        (
            {**GOOD, "webstack_sqllite_file": "/a.db"},
            "webstack_sqllite_file is not a setting. Did you mean webstack_sqlite_file?",
        ),
        ({**GOOD, "webstack_zebra": 1}, "webstack_zebra is not a setting."),
        ({**GOOD, "webstack_watch_seconds": "soon"}, "webstack_watch_seconds"),
        ({**GOOD, "webstack_tls": "letsencrypt"}, "none, given, self_signed, acme"),
        ({**GOOD, "survey_webstack_tls": "letsencrypt"}, "none, given, self_signed, acme"),
        (
            {"survey_webstack_tls": "", "survey_webstack_app_version": "as in the inventory"},
            "Set webstack_app_source",
        ),
        ({**GOOD, "webstack_sqlite_live": True}, "webstack_sqlite_live needs webstack_sqlite_file"),
    ],
)
def test_a_setting_that_cannot_work_is_named(tmp_path, settings, told):
    assert told in preflight(tmp_path, ONE, settings)


def test_a_sqlite_file_in_use_is_refused(tmp_path):
    for name in ("app.db", "app.db-wal"):
        (tmp_path / name).touch()
    settings = {**GOOD, "webstack_sqlite_file": str(tmp_path / "app.db")}
    assert "has a -wal or -journal file beside it" in preflight(tmp_path, ONE, settings)


@pytest.mark.parametrize("playbook", ["preflight", "rollback", "maintenance", "status"])
def test_variables_that_roles_keep_to_themselves_are_refused(tmp_path, monkeypatch, playbook):
    monkeypatch.setenv("ANSIBLE_PRIVATE_ROLE_VARS", "true")
    told = preflight(tmp_path, ONE, dict(GOOD), playbook=playbook)
    assert "private_role_vars (ANSIBLE_PRIVATE_ROLE_VARS) is on" in told


def test_several_hosts_without_groups_are_refused(tmp_path):
    told = preflight(tmp_path, {**ONE, "web2": ONE["web1"]}, dict(GOOD))
    assert "several hosts and no group 'app'" in told


def test_an_application_on_sqlite_runs_on_one_host(tmp_path):
    inventory = {**ONE, "web2": ONE["web1"]}
    settings = {**GOOD, "webstack_sqlite_live": True, "webstack_sqlite_file": "/srv/a/shared/a.db"}
    told = preflight(tmp_path, inventory, settings, {"app": list(inventory)})
    assert "an application on SQLite runs on one host, and the group app has web1, web2" in told


@pytest.mark.parametrize(
    ("playbook", "about", "limit"),
    [("backup", "database", "all"), ("rollback", "app", "all"), ("status", "app or proxy", "web2")],
)
def test_a_run_that_would_find_no_host_is_refused(tmp_path, playbook, about, limit):
    inventory = {**ONE, "web2": ONE["web1"]}
    groups = {"app": ["web1"]} if limit != "all" else {"webservers": list(inventory)}
    told = preflight(tmp_path, inventory, dict(GOOD), groups, playbook, limit)
    assert f"about the hosts of the group {about}, and" in told
    assert ("what --limit (web2) leaves has none" if limit != "all" else "webservers") in told
