# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stage galaxy looks for in an archive, and the execution environment's pins."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from tools.galaxy import documented_parts, problems_of

from .conftest import FETCHED, ROOT


@pytest.mark.parametrize(
    "name",
    [
        ".git/config",
        "collections/ansible_collections/golive/webstack",
        "inventories/mine/hosts.yml",
        "benchmarks/provision/runs/1.json",
        "tests/contract/test_galaxy.py",
        "tests/output/junit/x.xml",
        "roles/redis/files/host.key",
        "plugins/modules/__pycache__/load_test.cpython-313.pyc",
        "docs/.env",
        "examples/live_dashboard/instance/app.db",
        "vault.yml",
    ],
)
def test_a_leak_is_found(name: str) -> None:
    assert problems_of(["README.md", name, "roles/redis/tasks/main.yml"])


def test_what_is_published_is_no_leak() -> None:
    parts = documented_parts()
    names = [f"plugins/modules/{name}.py" for name in parts["module"]]
    names += [f"roles/{name}/meta/argument_specs.yml" for name in parts["role"]]
    assert len(names) > 30
    assert problems_of([*names, "tests/unit/test_pack.py", "MANIFEST.json"]) == []


def test_the_execution_environment_has_what_the_tests_run_with() -> None:
    told = yaml.safe_load((ROOT / "execution-environment.yml").read_text())
    assert told["version"] == 3
    needed = told["dependencies"]
    control = (ROOT / "requirements/control-py312.txt").read_text()
    pins = [
        line
        for line in (ROOT / needed["python"]).read_text().splitlines()
        if line and not line.startswith("#")
    ]
    pins += [needed["ansible_core"]["package_pip"], needed["ansible_runner"]["package_pip"]]
    assert {pin.split("==")[0] for pin in pins} >= {"ansible-core", "ansible-runner", "jinja2"}
    for pin in pins:
        assert re.search(rf"^{re.escape(pin)} ", control, re.MULTILINE), pin
    collections = yaml.safe_load((ROOT / needed["galaxy"]).read_text())["collections"]
    wanted = yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
    assert [item["name"] for item in collections] == [item["name"] for item in wanted]
    for item in collections:
        manifest = FETCHED / item["name"].replace(".", "/") / "MANIFEST.json"
        told = json.loads(manifest.read_text())["collection_info"]
        assert told["version"] == str(item["version"])
    assert (ROOT / needed["system"]).is_file()
