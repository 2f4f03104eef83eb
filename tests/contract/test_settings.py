# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks' settings: what is read is documented and checked, and nothing else is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = yaml.safe_load((ROOT / "playbooks/vars/settings.yml").read_text())["__webstack_settings"]
# Made by the playbooks, to be read by an inventory or a workflow.
TOLD = {
    "webstack_database_url",
    "webstack_database_owner_url",
    "webstack_redis_url",
    "webstack_status",
    "webstack_checklist",
    "webstack_operations",
    "webstack_report",
}


def mentioned(paths: list[Path]) -> set[str]:
    text = "\n".join(path.read_text() for path in paths)
    # `webstack_x` stands for any of them in a comment.
    return set(re.findall(r"(?<![_a-z])webstack_[a-z0-9_]*[a-z0-9]", text)) - {"webstack_x"}


def test_what_the_playbooks_read_is_a_setting() -> None:
    books = [*ROOT.glob("playbooks/*.yml"), *ROOT.glob("playbooks/tasks/*.yml")]
    read = mentioned([*books, ROOT / "roles/wiring/vars/main.yml"])
    assert read - TOLD == set(SETTINGS)


@pytest.mark.parametrize("page", ["README.md", "docs/*.md", "inventories/*/**/*.yml"])
def test_what_users_are_shown_is_a_setting(page: str) -> None:
    assert mentioned(list(ROOT.glob(page))) <= set(SETTINGS) | TOLD


def test_each_setting_is_described_and_has_a_type_and_a_default() -> None:
    for name, option in SETTINGS.items():
        assert option["description"].endswith("."), name
        assert option["type"], name
        assert ("default" in option) + ("default_text" in option) + ("required" in option) == 1, (
            name
        )


def test_secrets_are_marked() -> None:
    for name, option in SETTINGS.items():
        if re.search(r"password|secret_key|_token$", name):
            assert option.get("no_log"), name


def test_what_is_made_of_specifications_is_in_step() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.role_docs", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
