# SPDX-License-Identifier: GPL-3.0-or-later
"""Each role's defaults, argument specification and README say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT

# The wiring has other roles' variables and no task.
ROLES = sorted(
    path for path in (ROOT / "roles").iterdir() if path.is_dir() and path.name != "wiring"
)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def specs(role: Path) -> dict[str, Any]:
    return dict(load(role / "meta" / "argument_specs.yml")["argument_specs"])


def options(role: Path) -> dict[str, Any]:
    return dict(specs(role)["main"].get("options", {}))


def defaults(role: Path) -> dict[str, Any]:
    return load(role / "defaults" / "main.yml") or {}


def table(role: Path) -> list[str]:
    block = re.search(
        r"<!-- variables:.*?-->(.*?)<!-- end of variables -->",
        (role / "README.md").read_text(),
        re.S,
    )
    assert block, f"{role.name}/README.md has no block of variables"
    return re.findall(r"^\| `(\w+)` \|", block[1], flags=re.M)


each_role = pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)


def test_there_are_roles() -> None:
    names = {role.name for role in ROLES}
    assert {"postgres", "redis", "gunicorn_app", "nginx", "logrotate", "monitoring"} <= names


@each_role
def test_defaults_and_specification_agree(role: Path) -> None:
    optional = {name for name, option in options(role).items() if not option.get("required")}
    assert set(defaults(role)) == optional


@each_role
def test_default_values_agree(role: Path) -> None:
    given = defaults(role)
    for name, option in options(role).items():
        if "default" in option:
            assert given[name] == option["default"], name


@each_role
def test_readme_table_lists_every_variable(role: Path) -> None:
    assert sorted(table(role)) == sorted(options(role))


@each_role
def test_public_variables_bear_the_role_name(role: Path) -> None:
    names = {name for entry in specs(role).values() for name in entry.get("options", {})}
    assert not [name for name in names if not name.startswith(f"{role.name}_")]


@each_role
def test_private_variables_bear_the_role_name(role: Path) -> None:
    for path in (role / "vars").glob("*.yml"):
        names = load(path) or {}
        assert not [n for n in names if not n.startswith((f"__{role.name}_", f"{role.name}_"))]


@each_role
def test_every_option_is_described(role: Path) -> None:
    for entry in specs(role).values():
        assert entry.get("short_description")
        for name, option in entry.get("options", {}).items():
            assert option.get("type"), name
            assert option.get("description"), name


@each_role
def test_every_default_has_a_comment(role: Path) -> None:
    lines = (role / "defaults" / "main.yml").read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\w+:", line):
            assert lines[number - 1].startswith("#"), line


@each_role
def test_entry_points_have_a_specification(role: Path) -> None:
    """`main` and whatever else the README or a playbook calls from outside."""
    callers = "\n".join(path.read_text() for path in (ROOT / "playbooks").rglob("*.yml"))
    called = set(
        re.findall(
            rf"name: golive\.webstack\.{role.name}\n\s+tasks_from: (\w+)",
            callers,
        )
    )
    assert {"main"} | called <= set(specs(role))
    for name in specs(role):
        assert (role / "tasks" / f"{name}.yml").is_file(), name


@each_role
def test_readme_says_what_a_second_run_does(role: Path) -> None:
    assert re.search(r"^#+ Idempotence", (role / "README.md").read_text(), flags=re.M)


@each_role
def test_a_scenario_covers_the_role(role: Path) -> None:
    converge = (ROOT / "molecule").glob("*/converge.yml")
    own = ROOT / "molecule" / role.name / "molecule.yml"
    assert own.is_file() or any(f"golive.webstack.{role.name}\n" in c.read_text() for c in converge)


@each_role
def test_tasks_read_no_groups_and_no_other_role(role: Path) -> None:
    """Dependencies go from playbooks to roles, never sideways."""
    others = [other.name for other in ROLES if other != role]
    foreign = re.compile(
        r"\bgroups\[|\bgroup_names\b|golive\.webstack\.(" + "|".join(others) + r")\b"
    )
    for path in [*role.rglob("tasks/*.yml"), *role.rglob("handlers/*.yml")]:
        assert not foreign.search(path.read_text()), path
