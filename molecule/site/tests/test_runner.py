# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks as AWX runs them: by ansible-runner, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import ansible_runner
import pytest
from playbook_run import EPHEMERAL, ROOT

pytestmark = pytest.mark.units("live-dashboard.service", "nginx.service")

SECRET_KEY = 'a-key given by AWX\'s credential: 100% {{ safe }} $HOME "q"'
# What a checkout of the project has, as AWX's project update leaves it.
PROJECT = ("ansible.cfg", "collections", "examples", "galaxy.yml", "inventories", "meta")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A private data folder; its project is a copy without what only the tests need."""
    data = tmp_path_factory.mktemp("runner")
    project = data / "project"
    project.mkdir()
    for name in (*PROJECT, "playbooks", "plugins", "roles"):
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name,
                project / name,
                symlinks=True,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        else:
            shutil.copy(ROOT / name, project / name)
    (data / "env").mkdir()
    given = {
        # As a survey sends what was answered and what was not.
        "survey_webstack_watch_seconds": "5",
        "survey_webstack_domain": "",
        "webstack_load_targets": {
            "p50_ms": 2000,
            "p95_ms": 10000,
            "p99_ms": 20000,
            "mean_ms": 5000,
        },
    }
    lines = [f"{name}: {json.dumps(value)}" for name, value in given.items()]
    lines.append(f"webstack_secret_key: !unsafe {json.dumps(SECRET_KEY)}")
    (data / "env" / "extravars").write_text("\n".join(lines) + "\n")
    (data / "env" / "passwords").write_text(json.dumps({"^Vault password:\\s*?$": "unused"}))
    (data / "inventory").mkdir()
    shutil.copy(os.environ["MOLECULE_INVENTORY_FILE"], data / "inventory" / "hosts.yml")
    for kind in ("host_vars", "group_vars"):
        if (EPHEMERAL / "inventory" / kind).exists():
            shutil.copytree(EPHEMERAL / "inventory" / kind, data / "inventory" / kind)
    return data


def files(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.lstat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def run(folder: Path, name: str, *options: str) -> ansible_runner.Runner:
    """As AWX's task does it: the home is one of the job's own, and empty."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return ansible_runner.run(
        private_data_dir=str(folder),
        playbook=f"playbooks/{name}.yml",
        ident=name,
        quiet=True,
        cmdline=" ".join(options) or None,
        envvars={
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(folder / "project" / "ansible.cfg"),
            "ANSIBLE_DOCKER_COMMAND": os.environ.get("ANSIBLE_DOCKER_COMMAND", "docker"),
        },
    )


@pytest.fixture(scope="module")
def runs(folder) -> dict[str, ansible_runner.Runner]:
    before = files(folder / "project")
    # A second run of everything is bin/demo's.
    done = {name: run(folder, name) for name in ("deploy", "status")}
    done["check"] = run(folder, "site", "--check")
    assert files(folder / "project") == before
    return done


def test_the_playbooks_run_as_jobs(runs):
    for name, job in runs.items():
        assert job.rc == 0, f"{name}: {job.stdout.read()[-4000:]}"


def test_the_artifacts_hold_no_secret(host, folder, runs):
    secrets = {"given": SECRET_KEY.split(":")[0]}
    for path in host.check_output("find /etc/golive -path '*secrets*' -type f").split():
        if not path.endswith("secret_key"):
            secrets[path] = host.file(path).content_string.strip()
    assert len(secrets) >= 3
    for path in (folder / "artifacts").rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            for name, secret in secrets.items():
                assert secret not in text, f"{name} is in {path.relative_to(folder)}"
    events = [*(folder / "artifacts").rglob("job_events/*.json")]
    assert len(events) > 100


def test_nothing_is_left_behind(host, folder, runs):
    assert host.check_output("ls -A /root/.ansible/tmp 2>/dev/null; true") == ""
    assert host.run("ls /tmp/ansible* /etc/ansible/facts.d 2>/dev/null").stdout == ""
    left = {path.split("/")[0] for path in files(folder / "home")}
    assert left <= {".ansible"}


def test_a_workflow_is_told_what_was_done(runs):
    (told,) = [
        event["event_data"]["artifact_data"]
        for event in runs["status"].events
        if event["event"] == "playbook_on_stats"
    ]
    assert next(iter(told["webstack_status"].values()))["live"]
