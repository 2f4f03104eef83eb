# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders what roles and playbooks would write, with Ansible's own templating and without hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[2]
FACTS = {
    "distribution": "Debian",
    "distribution_major_version": "13",
    "distribution_version": "13.1",
    "os_family": "Debian",
    "memtotal_mb": 4096,
    "processor_vcpus": 2,
    "default_ipv4": {"address": "10.0.0.9"},
    "default_ipv6": {},
    "packages": {},
}


@pytest.fixture(scope="session", autouse=True)
def plugins() -> None:
    init_plugin_loader([str(ROOT / "collections")])


@pytest.fixture(scope="session")
def loader() -> DataLoader:
    return DataLoader()


class Role:
    """A role's variables with the arguments of one call; renders as the role's tasks would."""

    def __init__(self, loader: DataLoader, name: str, arguments: dict[str, Any]) -> None:
        path = ROOT / "roles" / name
        self.variables: dict[str, Any] = {
            "ansible_facts": FACTS,
            "ansible_check_mode": False,
            "ansible_search_path": [str(path)],
            "role_path": str(path),
        }
        for part in ("defaults", "vars"):
            told = loader.load_from_file(
                str(path / part / "main.yml"), unsafe=False, trusted_as_template=True
            )
            self.variables.update(told or {})
        unknown = set(arguments) - set(self.variables)
        self.variables.update(arguments)
        self.unknown = unknown
        self._loader = loader

    def expression(self, text: str) -> Any:
        templar = Templar(loader=self._loader, variables=self.variables)
        return templar.template(trust_as_template("{{ " + text + " }}"))

    def file(self, name: str) -> str:
        return str(self.expression(f"lookup('ansible.builtin.template', '{name}')"))


@pytest.fixture
def role(loader: DataLoader) -> Any:
    def make(name: str, **arguments: Any) -> Role:
        return Role(loader, name, arguments)

    return make


class Site:
    """An inventory with the wiring of the playbooks over it."""

    def __init__(self, loader: DataLoader, inventory: str) -> None:
        self._loader = loader
        self._inventory = InventoryManager(loader=loader, sources=[inventory])
        self._variables = VariableManager(loader=loader, inventory=self._inventory)
        self._hosts = HostVars(self._inventory, self._variables, loader)
        self._wiring = loader.load_from_file(
            str(ROOT / "roles/wiring/vars/main.yml"), unsafe=False, trusted_as_template=True
        )

    def value(self, host: str, name: str) -> Any:
        variables = self._variables.get_vars(host=self._inventory.get_host(host))
        variables.update(self._wiring)
        variables["hostvars"] = self._hosts
        variables["ansible_facts"] = variables.get("ansible_facts") or FACTS
        templar = Templar(loader=self._loader, variables=variables)
        return templar.template(trust_as_template("{{ " + name + " }}"))


@pytest.fixture
def site(loader: DataLoader, tmp_path: Path) -> Any:
    def make(inventory: str) -> Site:
        path = tmp_path / "hosts.yml"
        path.write_text(inventory)
        return Site(loader, str(path))

    return make
