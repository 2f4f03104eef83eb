# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options in the documentation and in the code are the same, and the version is the right one."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic

from ansible_collections.golive.webstack.plugins.doc_fragments.attributes import (
    ModuleDocFragment as Attributes,
)
from ansible_collections.golive.webstack.plugins.doc_fragments.postgres import ModuleDocFragment
from ansible_collections.golive.webstack.plugins.module_utils.version import COLLECTION_VERSION

ROOT = Path(__file__).resolve().parents[2]
MODULES = [
    "sqlite_to_postgres",
    "sqlite_postgres_verify",
    "postgres_to_sqlite",
    "host_secrets",
    "release_archive",
    "app_release",
    "app_release_info",
    "app_release_lock",
    "app_release_source",
    "postgres_host",
    "postgres_tls",
    "postgres_privileges",
    "postgres_indexes",
    "postgres_tables",
]
PACKAGE = "ansible_collections.golive.webstack.plugins.modules"


class Captured(Exception):
    pass


def argument_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    module = importlib.import_module(f"{PACKAGE}.{name}")

    def capture(**given: Any) -> None:
        raise Captured(given["argument_spec"])

    assert module.AnsibleModule is basic.AnsibleModule
    monkeypatch.setattr(module, "AnsibleModule", capture)
    with pytest.raises(Captured) as caught:
        module.main()
    spec: dict[str, Any] = caught.value.args[0]
    return spec


def documented(name: str) -> dict[str, Any]:
    module = importlib.import_module(f"{PACKAGE}.{name}")
    text = yaml.safe_load(module.DOCUMENTATION)
    options: dict[str, Any] = dict(text["options"])
    for fragment in text.get("extends_documentation_fragment", []):
        if fragment.startswith("golive.webstack.postgres"):
            part = fragment.partition("golive.webstack.postgres")[2].lstrip(".").upper()
            found = getattr(ModuleDocFragment, part or "DOCUMENTATION")
            # What the module says itself wins.
            options = yaml.safe_load(found)["options"] | options
    return options


def compare(spec: dict[str, Any], options: dict[str, Any]) -> None:
    assert set(spec) == set(options)
    for name, option in spec.items():
        for key in ("type", "default", "choices", "required", "elements"):
            assert option.get(key) == options[name].get(key), (name, key)
        assert options[name]["description"]
        if "options" in option:
            compare(option["options"], options[name]["suboptions"])


@pytest.mark.parametrize("name", MODULES)
def test_options(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(argument_spec(name, monkeypatch), documented(name))


@pytest.mark.parametrize("name", MODULES)
def test_documentation_parts(name: str) -> None:
    module = importlib.import_module(f"{PACKAGE}.{name}")
    text = yaml.safe_load(module.DOCUMENTATION)
    assert text["module"] == name and text["version_added"] and text["author"]
    attributes = set(text["attributes"])
    for fragment in text.get("extends_documentation_fragment", []):
        if fragment.startswith("golive.webstack.attributes"):
            part = fragment.partition("golive.webstack.attributes")[2].lstrip(".").upper()
            found = yaml.safe_load(getattr(Attributes, part or "DOCUMENTATION"))["attributes"]
            # Otherwise the fragment is of no use.
            assert not attributes & set(found)
            attributes |= set(found)
    assert {"check_mode", "diff_mode", "idempotent", "platform"} <= attributes
    for example in yaml.safe_load(module.EXAMPLES):
        used = {key for key in example if key.startswith("golive.webstack.")}
        assert used <= {f"golive.webstack.{other}" for other in MODULES}
    for value in yaml.safe_load(module.RETURN).values():
        assert value["description"] and value["type"] and value["returned"]


def test_version() -> None:
    if (ROOT / "galaxy.yml").exists():
        told = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    else:
        told = json.loads((ROOT / "MANIFEST.json").read_text())["collection_info"]
    assert told["version"] == COLLECTION_VERSION
