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
    "awx_notifications": [
        {
            "name": "ops mail",
            "type": "email",
            "configuration": {"recipients": ["ops@example.com"], "password": SECRET},
        },
        {
            "name": "chat",
            "type": "slack",
            "configuration": {"token": SECRET, "channels": ["ops"]},
            "events": ["started", "success", "error", "approvals"],
        },
    ],
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


def led_to(api: Api, flow: str, identifier: str, way: str) -> list[str]:
    (number,) = [i for i, item in api.objects.items() if item.get("name") == flow]
    (node,) = [
        i
        for i, item in api.objects.items()
        if item.get("workflow_job_template") == number and item.get("identifier") == identifier
    ]
    links = api.links.get((node, f"{way}_nodes"), [])
    return [api.objects[link]["identifier"] for link in links]


def notified(api: Api, kind: str, event: str) -> set[str]:
    """Who is told of an event by every one of a kind."""
    each = [
        {api.objects[n]["name"] for n in api.links.get((i, f"notification_templates_{event}"), [])}
        for i, item in api.objects.items()
        if item["endpoint"] == kind
    ]
    assert all(one == each[0] for one in each)
    return each[0]


@pytest.fixture
def api():
    with Api() as running:
        yield running


# A module costs more than a second of the processor's time, so it is one of each sort, and on one
# of the supported versions. With GOLIVE_TEST_AWX it is all of them.
WHOLE = "GOLIVE_TEST_AWX" in os.environ
SOME = {
    "awx_job_templates": [
        template
        for template in OBJECTS["awx_job_templates"]
        if template["name"]
        in ("deploy", "phase 7 - load test", "verify", "rollback", "status", "restore - plan")
    ],
    "awx_workflows": [flow for flow in OBJECTS["awx_workflows"] if flow["name"] == "release"],
    "awx_schedules": [item for item in OBJECTS["awx_schedules"] if item["run"] == "verify"],
}
MADE = {name: OBJECTS[name] if WHOLE else some for name, some in SOME.items()}

# What an update may bring: one refers to another, and check mode makes none of them.
NEWER = {
    "awx_job_templates": [
        {"name": "newer", "playbook": "playbooks/status.yml", "description": "d"}
    ],
    "awx_workflows": [
        {**SOME["awx_workflows"][0], "nodes": [{"id": "status", "run": "status", "always": ["n"]}]},
        {
            "name": "newer one",
            "description": "d",
            "nodes": [
                {"id": "a", "approval": "Go on?", "timeout": 60, "success": ["b"]},
                {"id": "b", "run": "newer", "always": ["c"]},
                {"id": "c", "run": "status"},
            ],
        },
    ],
    "awx_schedules": [{**SOME["awx_schedules"][0], "name": "newer", "run": "newer"}],
}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="run on the newer ansible-core")
def test_it_makes_all_once_and_changes_nothing_the_second_time(api, tmp_path):
    done = configure(api, tmp_path, {**GOOD, **MADE})
    assert done.returncode == 0, done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    for kind in ("job_templates", "workflow_job_templates", "schedules"):
        listed = {"workflow_job_templates": "workflows"}.get(kind, kind)
        wanted = [f"shop: {item['name']}" for item in MADE[f"awx_{listed}"]]
        assert api.names(kind) == wanted
    nodes = [(flow, node) for flow in MADE["awx_workflows"] for node in flow["nodes"]]
    named = sorted(api.names("workflow_job_template_nodes"))
    assert named == sorted(node["id"] for _flow, node in nodes)
    for flow, node in nodes:
        for way in ("success", "failure", "always"):
            assert led_to(api, f"shop: {flow['name']}", node["id"], way) == node.get(way, [])
    both = {"shop: ops mail", "shop: chat"}
    for event in ("started", "success", "error", "approvals"):
        told = both if event in ("error", "approvals") else {"shop: chat"}
        assert notified(api, "workflow_job_templates", event) == told
    assert notified(api, "job_templates", "error") == both
    for template in MADE["awx_job_templates"]:
        (made,) = [
            item for item in api.objects.values() if item.get("name") == f"shop: {template['name']}"
        ]
        assert made["job_type"] == template.get("job_type", "run")
        assert made["ask_job_type_on_launch"] is ("job_type" not in template)
        assert made["ask_variables_on_launch"] is template.get("ask_variables", False)
        assert made["survey_enabled"] is ("survey" in template)
    (kind,) = [item for item in api.objects.values() if "injectors" in item and item["injectors"]]
    for field in OBJECTS["awx_credential_fields"]:
        given = kind["injectors"]["extra_vars"]["survey_" + field["id"]]
        assert given == "{{ " + field["id"] + " }}"
    assert all(field["secret"] for field in kind["inputs"]["fields"])
    api.writes.clear()
    done = configure(api, tmp_path, {**GOOD, **MADE})
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"changed=0 ", done.stdout), done.stdout
    assert api.writes == []
    done = configure(api, tmp_path, {**GOOD, **NEWER, "awx_notifications": []}, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"changed=4 ", done.stdout), done.stdout
    assert api.writes == []


def test_check_mode_tells_what_would_be_made_where_nothing_is(api, tmp_path):
    done = configure(api, tmp_path, GOOD, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert api.writes == []
    for item in OBJECTS["awx_job_templates"] + OBJECTS["awx_workflows"] + OBJECTS["awx_schedules"]:
        assert f"shop: {item['name']}" in done.stdout


def test_what_can_not_work_is_refused_first(api, tmp_path):
    bad = {
        "awx_application": "The Shop",
        "awx_project_url": "",
        "awx_inventory": "shop",
        "awx_machine_credential": "",
        "awx_secrets": {"password": "x"},
        "awx_notifications": [{"name": "n", "type": "slack", "configuration": {}, "events": ["x"]}],
    }
    done = configure(api, tmp_path, {**GOOD, **bad})
    assert done.returncode != 0
    told = " ".join(done.stdout.split())
    for sentence in (
        *("Set awx_application", "Set awx_project_url", "Set either awx_inventory"),
        *("Set awx_machine_credential", "awx_secrets knows webstack_database_password"),
        "events, some of started, success, error, approvals",
    ):
        assert sentence in told
    assert api.writes == []


def test_every_secret_setting_is_a_field_of_the_credential():
    shared = yaml.safe_load((ROOT / "playbooks/vars/settings.yml").read_text())
    secret = {
        name for name, option in shared["__webstack_settings"].items() if option.get("no_log")
    }
    # What settings.yml keeps out of the output by its name.
    assert all(
        re.search("pass|secret|key|token|url", field["id"])
        for field in OBJECTS["awx_credential_fields"]
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
    assert len(names) == len(OBJECTS["awx_job_templates"])
    for flow in OBJECTS["awx_workflows"]:
        later = {node["id"] for node in flow["nodes"]}
        assert len(later) == len(flow["nodes"])
        for node in flow["nodes"]:
            assert ("run" in node) != ("approval" in node)
            assert node.get("run", next(iter(names))) in names
            # awx_configure.yml makes the last one first.
            later.remove(node["id"])
            for way in ("success", "failure", "always"):
                assert set(node.get(way, [])) <= later
    assert {schedule["run"] for schedule in OBJECTS["awx_schedules"]} <= names


def test_every_playbook_for_operators_has_a_template():
    parts = {"awx_configure", "packages", "preflight", "report", "load_test"}
    books = {path.stem for path in (ROOT / "playbooks").glob("*.yml")} - parts
    named = {Path(template["playbook"]).stem for template in OBJECTS["awx_job_templates"]}
    assert books == named


def test_variables_of_a_survey_are_read_by_the_playbook():
    settings = yaml.safe_load((ROOT / "playbooks/vars/settings.yml").read_text())
    for template in OBJECTS["awx_job_templates"]:
        text = (ROOT / template["playbook"]).read_text()
        # Only tasks/settings.yml takes what a survey or the credential gave.
        if template["name"] != "status":
            assert re.search(r"tasks/settings\.yml|preflight\.yml|load_test\.yml", text), template
        for name in template.get("survey", []):
            if name in OBJECTS["awx_playbook_variables"]:
                assert name in text, (template["name"], name)
            else:
                assert name in settings["__webstack_settings"] or name.startswith("gunicorn_app_")


def test_what_replaces_data_has_to_be_named_at_the_launch():
    restores = [t for t in OBJECTS["awx_job_templates"] if t["playbook"].endswith("/restore.yml")]
    for template in restores:
        assert not template.get("ask_variables")
        survey = json.loads((ROOT / "awx/surveys" / survey_file(template["name"])).read_text())
        for asked in survey["spec"]:
            if asked["question_name"] in ("restore_replaces", "restore_whole_cluster"):
                assert asked["required"] and asked["default"] == "" and asked["min"] == 1
    assert len(restores) == 5


def survey_file(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()) + ".json"
