# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that hold for the repository as a whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.image import CAPABILITIES, RUN_OPTIONS

from .conftest import ROOT, Command, tracked_files

PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
SCENARIOS = sorted((ROOT / "molecule").glob("*/molecule.yml"))
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

# In pieces, so that this file doesn't hold what it looks for.
REGISTRIES = (
    "pypi" + ".org",
    "python" + "hosted.org",
    "deb.debian" + ".org",
    "security.debian" + ".org",
    "archive.ubuntu" + ".com",
    "registry.npm" + "js.org",
    "galaxy.ansible" + ".com",
    "docker" + ".io/",
    "quay" + ".io/",
)


def texts() -> list[tuple[Path, str]]:
    found = []
    for path in tracked_files():
        if path.is_symlink() or path.is_dir():
            continue
        try:
            found.append((path.relative_to(ROOT), path.read_text()))
        except UnicodeDecodeError:
            continue
    return found


def test_no_registry_is_named() -> None:
    hits = [
        f"{path}: {name}"
        for path, text in texts()
        for name in REGISTRIES
        if name in text and path.name != "LICENSE"
    ]
    assert not hits


def test_no_path_of_the_developers_machine() -> None:
    if len(ROOT.parts) < 3:
        pytest.skip("the checkout's own path is too short to be told apart")
    hits = [str(path) for path, text in texts() if re.search(rf"{re.escape(str(ROOT))}\b", text)]
    assert not hits


@pytest.mark.parametrize(
    "lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda p: p.name
)
def test_locks_pin_by_hash_and_name_no_address(lock: Path) -> None:
    lines = [line for line in lock.read_text().splitlines() if not line.startswith("#")]
    entries = [line for line in lines if re.match(r"\w", line)]
    assert entries
    assert all(re.match(r"[\w.-]+(\[\w+\])?==[\w.]+( ; .*)? \\$", line) for line in entries)
    assert all(re.match(r"    --hash=sha256:[0-9a-f]{64}( \\)?$", line)
               for line in lines if line not in entries)  # fmt: skip
    assert not re.search(r"://|find-links|index-url|pytest-ansible", lock.read_text())


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda p: p.stem)
def test_playbook_names_can_be_called_by_full_name(playbook: Path) -> None:
    assert re.fullmatch(r"[a-z_][a-z0-9_]*", playbook.stem)


def test_all_playbooks_parse(checkout: Path, command: Command) -> None:
    copies = sorted((checkout / "playbooks").glob("*.yml"))
    assert command("ansible-playbook", "--syntax-check", *copies, cwd=checkout).returncode == 0


def platforms() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in SCENARIOS:
        for platform in yaml.safe_load(path.read_text())["platforms"]:
            found.append((path.parent.name, platform))
    return found


def test_scenarios_share_no_container_or_network_name() -> None:
    names = [platform["name"] for _, platform in platforms()]
    assert len(names) == len(set(names))
    networks: dict[str, set[str]] = {}
    for scenario, platform in platforms():
        for network in platform.get("networks", []):
            networks.setdefault(network["name"], set()).add(scenario)
    assert all(len(users) == 1 for users in networks.values())


def test_scenarios_run_their_containers_as_the_demo_does() -> None:
    for scenario, platform in platforms():
        options = {f"--cap-add={name}" for name in platform["capabilities"]}
        options |= {f"--security-opt={name}" for name in platform["security_opts"]}
        options |= {f"--tmpfs={name}" for name in platform["tmpfs"]}
        options |= {f"--volume={name}" for name in platform["volumes"]}
        options |= {f"--stop-signal={platform['stop_signal']}"}
        assert set(RUN_OPTIONS) <= options, scenario
        assert set(platform["capabilities"]) >= set(CAPABILITIES)


def test_scenarios_label_their_containers() -> None:
    """bin/test removes by label, and only what bears its own."""
    for scenario, platform in platforms():
        assert platform["labels"]["org.golive.webstack"] == "test", scenario
        assert platform["labels"]["org.golive.webstack.scenario"] == scenario


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda p: p.parent.name)
def test_scenarios_are_whole(path: Path) -> None:
    provisioner = yaml.safe_load(path.read_text()).get("provisioner", {})
    converge = provisioner.get("playbooks", {}).get("converge", "converge.yml")
    assert (path.parent / converge).is_file()
    assert list(path.parent.glob("tests/test_*.py"))


def test_a_single_host_without_groups_is_found_by_each_playbook() -> None:
    """A play whose group is not there matches no host, and ends well without doing anything."""
    # Imported by others alone.
    parts = {"packages", "report"}
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        plays = yaml.safe_load(path.read_text())
        named = [play.get("hosts", "") for play in plays]
        grouped = [hosts for hosts in named if hosts not in ("", "all", "localhost")]
        if not grouped or path.stem in parts:
            continue
        first = plays[0]
        begins = str(first.get("ansible.builtin.import_playbook", "")) == "preflight.yml"
        assert begins or "tasks/single_host.yml" in str(first), path.name
        assert begins or first["tasks"][0]["vars"]["__webstack_about"], path.name
