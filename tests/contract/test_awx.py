# SPDX-License-Identifier: GPL-3.0-or-later
"""What awx_configure.yml makes through awx.awx's modules, against a stand-in for AWX's API."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.awx_api import Api, survey_errors

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = yaml.safe_load((ROOT / "awx/objects.yml").read_text())
SURVEYS = sorted((ROOT / "awx/surveys").glob("*.json"))
SECRET = "s3cret-of-the-database"
GOOD = {
    "awx_application": "shop",
    "awx_project_url": "https://git.example.com/ops.git",
    "awx_inventory_path": "inventories/shop/hosts.yml",
    "awx_machine_credential": "shop machines",
    "awx_secrets": {"webstack_database_password": SECRET},
    "awx_execution_environment_image": "registry.example.com/golive-webstack:1",
    "awx_notification": {"type": "email", "configuration": {"recipients": ["ops@example.com"]}},
}


def configure(api: Api, folder: Path, settings: dict[str, object], *options: str):
    given = folder / "given.json"
    given.write_text(json.dumps(settings))
    return subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            *("-i", "localhost,", "-e", f"@{given}", *options),
            str(ROOT / "playbooks/awx_configure.yml"),
        ],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "NO_COLOR": "1",
            "CONTROLLER_HOST": api.address,
            "CONTROLLER_OAUTH_TOKEN": "token",
        },
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def api():
    with Api() as running:
        yield running


# Some sixty modules twice: on one of the two supported versions is enough.
@pytest.mark.skipif(sys.version_info < (3, 12), reason="run on the newer ansible-core")
def test_it_makes_all_once_and_changes_nothing_the_second_time(api, tmp_path):
    done = configure(api, tmp_path, GOOD)
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in ("job_templates", "workflow_job_templates", "schedules"):
        listed = {"workflow_job_templates": "workflows"}.get(kind, kind)
        wanted = [f"shop: {item['name']}" for item in OBJECTS[f"awx_{listed}"]]
        assert api.names(kind) == wanted
    nodes = [node["id"] for flow in OBJECTS["awx_workflows"] for node in flow["nodes"]]
    assert api.names("workflow_job_template_nodes") == nodes
    assert len(api.surveys) == len(SURVEYS)
    assert SECRET not in done.stdout + done.stderr
    (kind,) = [item for item in api.objects.values() if "injectors" in item and item["injectors"]]
    for field in OBJECTS["awx_credential_fields"]:
        given = kind["injectors"]["extra_vars"]["survey_" + field["id"]]
        assert given == "{{ " + field["id"] + " }}"
    assert all(field["secret"] for field in kind["inputs"]["fields"])
    api.writes.clear()
    done = configure(api, tmp_path, GOOD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"changed=0 ", done.stdout), done.stdout
    assert api.writes == []


def test_check_mode_tells_what_would_be_made_where_nothing_is(api, tmp_path):
    done = configure(api, tmp_path, GOOD, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert api.writes == []
    for item in OBJECTS["awx_job_templates"] + OBJECTS["awx_workflows"] + OBJECTS["awx_schedules"]:
        assert f"shop: {item['name']}" in done.stdout


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"awx_application": "The Shop"}, "Set awx_application"),
        ({"awx_project_url": ""}, "Set awx_project_url"),
        ({"awx_inventory": "shop"}, "Set either awx_inventory"),
        ({"awx_machine_credential": ""}, "Set awx_machine_credential"),
        ({"awx_secrets": {"password": "x"}}, "awx_secrets knows webstack_database_password"),
    ],
)
def test_what_can_not_work_is_refused_first(api, tmp_path, change, told):
    done = configure(api, tmp_path, {**GOOD, **change})
    assert done.returncode != 0
    assert told in " ".join(done.stdout.split())
    assert api.writes == []


def test_every_secret_setting_is_a_field_of_the_credential():
    shared = yaml.safe_load((ROOT / "playbooks/vars/settings.yml").read_text())
    secret = {
        name for name, option in shared["__webstack_settings"].items() if option.get("no_log")
    }
    # What settings.yml keeps out of the output by its name.
    assert all(
        re.search("pass|secret|key", field["id"]) for field in OBJECTS["awx_credential_fields"]
    )
    assert {field["id"] for field in OBJECTS["awx_credential_fields"]} >= secret


def test_surveys_are_in_step_with_the_specifications():
    done = subprocess.run(
        [sys.executable, "-m", "tools.awx_surveys", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SURVEYS, ids=lambda path: path.stem)
def test_surveys_keep_to_what_awx_can_ask(path):
    survey = json.loads(path.read_text())
    assert survey_errors(survey) == []
    # What an operator leaves out must not hide the inventory's own value.
    assert all(asked["variable"].startswith("survey_") for asked in survey["spec"])


def test_playbooks_and_nodes_that_are_named_exist():
    for template in OBJECTS["awx_job_templates"]:
        assert (ROOT / template["playbook"]).is_file()
    names = {template["name"] for template in OBJECTS["awx_job_templates"]}
    for flow in OBJECTS["awx_workflows"]:
        known = {node["id"] for node in flow["nodes"]}
        for node in flow["nodes"]:
            assert ("run" in node) != ("approval" in node)
            assert node.get("run", next(iter(names))) in names
            for way in ("success", "failure", "always"):
                assert set(node.get(way, [])) <= known
    assert {schedule["run"] for schedule in OBJECTS["awx_schedules"]} <= names
