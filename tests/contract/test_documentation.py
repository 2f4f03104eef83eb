# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages tell to type, to set and to look for is there."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .conftest import ROOT, Command

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
SETTINGS = yaml.safe_load((ROOT / "playbooks/vars/settings.yml").read_text())["__webstack_settings"]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def role_variables() -> set[str]:
    found: set[str] = set()
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            found |= set(entry.get("options", {}))
    return found


def playbook_texts() -> str:
    paths = [*ROOT.glob("playbooks/*.yml"), *ROOT.glob("playbooks/*/*.yml")]
    return "\n".join(path.read_text() for path in paths)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_playbooks_pages_and_programs_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"\bplaybooks/([a-z0-9_]+\.yml)\b", text):
        assert (ROOT / "playbooks" / name).is_file(), name
    for name in re.findall(r"(?<![\w/.-])bin/([a-z]+)\b", text):
        assert (ROOT / "bin" / name).is_file(), name
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_variables_that_are_given_on_the_command_line_are_read(page: Path) -> None:
    known = set(SETTINGS) | role_variables()
    read = playbook_texts()
    for name in re.findall(r"-e ['\"{]?([a-z]\w+)=", page.read_text()):
        assert name in known or re.search(rf"\b{name}\b", read), name


def inventory_variables(tree: Any) -> set[str]:
    found: set[str] = set()
    if isinstance(tree, dict):
        for key, value in tree.items():
            found |= set(value or {}) if key == "vars" else inventory_variables(value)
    return found


def test_the_tutorial_is_one_that_runs() -> None:
    page = ROOT / "docs/tutorial.md"
    inventories = [yaml.safe_load(text) for text in blocks(page, "yaml")]
    assert len(inventories) == 3
    known = set(SETTINGS) | role_variables()
    for inventory in inventories:
        given = inventory_variables(inventory)
        required = {name for name, option in SETTINGS.items() if option.get("required")}
        assert required <= given <= known, given - known
    for text in blocks(page, "python"):
        ast.parse(text)
    for heading in re.findall(r"\]\(#([a-z-]+)\)", page.read_text()):
        assert re.search(rf"^## {heading}$", page.read_text(), re.MULTILINE | re.IGNORECASE)


def test_the_roles_take_what_the_tutorial_sets() -> None:
    options: dict[str, Any] = {}
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        options |= yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]
    for text in blocks(ROOT / "docs/tutorial.md", "yaml"):
        given = {
            name: value for name, value in yaml.safe_load(text)["all"]["vars"].items()
            if not name.startswith("webstack_")
        }  # fmt: skip
        assert given.keys() <= options.keys()
        spec = {name: {**options[name], "required": False} for name in given}
        assert ArgumentSpecValidator(spec).validate(given).error_messages == []


@pytest.mark.parametrize("which", range(3))
def test_the_tutorial_gets_as_far_as_the_host(which: int, tmp_path: Path, command: Command) -> None:
    """Its commands, with its inventory; the application's folder is one that is here."""
    page = ROOT / "docs/tutorial.md"
    inventory = yaml.safe_load(blocks(page, "yaml")[which])
    settings = inventory["all"]["vars"]
    for name in ("webstack_app_source", "webstack_sqlite_file"):
        if name in settings:
            place = tmp_path / settings[name].lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch() if place.suffix else place.mkdir(exist_ok=True)
            settings[name] = str(place)
    # Nothing answers there.
    inventory["all"]["hosts"]["web1"] |= {"ansible_host": "127.0.0.1", "ansible_port": 9}
    (named,) = re.findall(r"^`(inventories/\S+)`:$", page.read_text(), re.MULTILINE)
    (tmp_path / named).parent.mkdir(parents=True)
    (tmp_path / named).write_text(json.dumps(inventory))
    lines = re.findall(r"^ansible-playbook .*$", page.read_text(), re.MULTILINE)
    assert len(lines) == 6 and all(f" -i {named} playbooks/" in line for line in lines)
    program, *words = lines[0].split()
    words = [str(ROOT / word) if word.startswith("playbooks/") else word for word in words]
    done = command(
        Path(sys.executable).parent / program, *words, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg")
    )
    assert done.returncode == 4
    assert re.search(r"web1 .*changed=0 +unreachable=1 +failed=0", done.stdout)


def quoted_messages() -> list[str]:
    text = (ROOT / "docs/troubleshooting.md").read_text()
    return [" ".join(found.split()) for found in re.findall(r"\*\*([^*]+)\*\*", text)]


@pytest.fixture(scope="module")
def code() -> str:
    """All that can say something, with a message's lines and its code's quotes run together."""
    folders = ("playbooks", "roles", "plugins")
    kinds = (".py", ".yml", ".j2")
    texts = [
        path.read_text()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in kinds and path.is_file()
    ]
    return squeezed("\n".join(texts))


def squeezed(text: str) -> str:
    text = re.sub(r"[\"']\s*\n\s*(?:[rf]{1,2})?[\"']", "", text)
    return re.sub(r"\s+", " ", text)


# Said by other programs, as they say it.
FOREIGN = {
    "NOPERM this user has no permissions to run the ... command.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "server does not support SSL, but SSL was required",
    "certificate verify failed",
    "no pg_hba.conf entry for host ..., no encryption.",
    "permission denied for schema public.",
    "permission denied for database.",
    "... certificate has expired",
}


@pytest.mark.parametrize("message", quoted_messages())
def test_messages_that_are_explained_are_said_somewhere(message: str, code: str) -> None:
    if message in FOREIGN:
        return
    pieces = [piece.strip(" .,'()") for piece in re.split(r"\.\.\.", message)]
    for piece in filter(None, pieces):
        assert piece in code, piece
