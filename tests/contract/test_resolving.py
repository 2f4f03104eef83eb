# SPDX-License-Identifier: GPL-3.0-or-later
"""Full names resolve from a plain checkout, from the built archive and under ansible-runner."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, Command, clean_environment, link_fetched

# Those with arguments; ansible-doc tells of no other.
ROLES = sorted(path.parts[-3] for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("[a-z]*.py"))


def test_links_resolve_to_the_checkout_itself(checkout: Path) -> None:
    for link in ("collections", "playbooks/collections"):
        webstack = checkout / link / "ansible_collections" / "golive" / "webstack"
        assert webstack.resolve() == checkout.resolve()
    assert not os.path.isabs(os.readlink(checkout / "playbooks" / "collections"))


def test_site_by_its_full_name_in_the_checkout(checkout: Path, command: Command) -> None:
    done = command("ansible-playbook", "golive.webstack.site", "--syntax-check", cwd=checkout)
    assert done.returncode == 0


def test_site_by_its_path_from_another_folder(
    checkout: Path, command: Command, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    done = command(
        "ansible-playbook",
        checkout / "playbooks" / "site.yml",
        "--syntax-check",
        cwd=foreign,
        ANSIBLE_COLLECTIONS_PATH=str(foreign),
    )
    assert done.returncode == 0


def test_site_in_a_world_writable_checkout(
    checkout: Path, command: Command, tmp_path: Path
) -> None:
    """Ansible ignores the ansible.cfg of such a folder."""
    copy = tmp_path / "open"
    shutil.copytree(checkout, copy, symlinks=True)
    copy.chmod(0o777)
    done = command("ansible-playbook", "playbooks/site.yml", "--syntax-check", cwd=copy)
    assert done.returncode == 0


@pytest.mark.parametrize("kind", ["role", "module"])
def test_documentation_by_full_name(checkout: Path, command: Command, kind: str) -> None:
    names = [f"golive.webstack.{name}" for name in (ROLES if kind == "role" else MODULES)]
    done = command("ansible-doc", "-t", kind, "--json", *names, cwd=checkout)
    assert done.returncode == 0
    assert sorted(json.loads(done.stdout)) == names


@pytest.fixture(scope="module")
def archive(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    # What a developer's checkout has besides: none of it may get into the archive.
    for litter in (".venv/3.13/bin/python", ".cache/demo/report.json", ".ansible/x", "old.tar.gz"):
        (checkout / litter).parent.mkdir(parents=True, exist_ok=True)
        (checkout / litter).write_text("litter")
    subprocess.run(
        ["ansible-galaxy", "collection", "build", "--output-path", str(folder)],
        cwd=checkout,
        env=clean_environment(),
        check=True,
        capture_output=True,
        timeout=300,
    )
    return next(folder.glob("golive-webstack-*.tar.gz"))


def test_archive_holds_the_collection_and_nothing_else(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    names = {member.name.rstrip("/") for member in members}
    top = {name.split("/")[0] for name in names}
    must = {"FILES.json", "MANIFEST.json", "README.md", "meta", "playbooks", "plugins", "roles"}
    may = {"CHANGELOG.md", "CHANGELOG.rst", "CONTRIBUTING.md", "LICENSE", "SECURITY.md",
           "ansible.cfg", "awx", "changelogs", "docs", "examples", "execution-environment.yml",
           "requirements.yml", "requirements.txt", "tests"}  # fmt: skip
    assert must <= top
    assert top <= must | may, f"unexpected: {sorted(top - must - may)}"
    assert not [member.name for member in members if member.issym() or member.islnk()]
    inner = [n for n in names if "__pycache__" in n or n.endswith((".tar.gz", ".db", ".pyc"))]
    assert not inner


def test_site_from_the_installed_archive(archive: Path, command: Command, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    options = ["--offline", "--no-deps", "-p", installed]
    assert command("ansible-galaxy", "collection", "install", archive, *options).returncode == 0
    link_fetched(installed / "ansible_collections")
    path = {"ANSIBLE_COLLECTIONS_PATH": str(installed)}
    done = command("ansible-playbook", "golive.webstack.site", "--syntax-check", **path)
    assert done.returncode == 0
    names = [f"golive.webstack.{name}" for name in ROLES]
    assert command("ansible-doc", "-t", "role", "--json", *names, **path).returncode == 0


PROBE = """\
- name: Ask a role and a module of the project what they think of bad input
  hosts: all
  gather_facts: false
  tasks:
    - name: Role
      block:
        - name: A port that is none
          ansible.builtin.include_role:
            name: golive.webstack.redis
          vars:
            redis_port: no number
        - name: Not reached
          ansible.builtin.fail:
            msg: the role took it
      rescue:
        - name: The role's own argument specification refused it
          ansible.builtin.assert:
            that: "'redis_port' in ansible_failed_result | string"
    - name: Module
      block:
        - name: Nothing given
          golive.webstack.sqlite_to_postgres: {}
      rescue:
        - name: The module itself refused it
          ansible.builtin.assert:
            that: "'required' in ansible_failed_result.msg"
"""


def _runner(folder: Path, playbook: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "ansible_runner", "run", str(folder), "-p", playbook],
        env=clean_environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    print(done.stdout[-6000:], done.stderr[-6000:])
    return done


@pytest.fixture
def private_data(checkout: Path, tmp_path: Path) -> Path:
    """What AWX hands to ansible-runner: the project's checkout, an inventory, variables."""
    folder = tmp_path / "awx job"
    shutil.copytree(checkout, folder / "project", symlinks=True)
    (folder / "inventory").mkdir()
    return folder


def test_runner_reaches_role_and_module_at_run_time(private_data: Path) -> None:
    (private_data / "project" / "playbooks" / "probe.yml").write_text(PROBE)
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"all": {"hosts": {"here": host}}}
    (private_data / "inventory" / "hosts.yml").write_text(yaml.safe_dump(inventory))
    assert _runner(private_data, "playbooks/probe.yml").returncode == 0


def test_runner_reads_the_whole_site(private_data: Path) -> None:
    """Without hosts nothing runs, but every phase is loaded and its roles are found."""
    (private_data / "inventory" / "hosts.yml").write_text("all: {hosts: {}}\n")
    assert _runner(private_data, "playbooks/site.yml").returncode == 0
