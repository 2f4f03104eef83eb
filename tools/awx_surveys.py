# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the surveys of awx/surveys from the specifications of the settings and the roles.

An answer is an extra variable, which wins over the inventory, even when it is empty; so the
questions ask for survey_NAME, and playbooks/tasks/settings.yml takes what was answered. AWX has no
boolean, and refuses a whole number that was left out; so the one is a choice, the other a text.
``python -m tools.awx_surveys`` writes, ``--check`` exits with 1 where a file is out of step.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
SURVEYS = ROOT / "awx" / "surveys"
PREFIX = "survey_"
AS_BEFORE = "as in the inventory"
TYPES = {"int": "A whole number.", "float": "A number."}


def specifications() -> dict[str, dict[str, Any]]:
    """Every setting, variable of a playbook and variable of a role by its name."""
    shared = yaml.safe_load((ROOT / "playbooks/vars/settings.yml").read_text())
    objects = yaml.safe_load((ROOT / "awx/objects.yml").read_text())
    found: dict[str, dict[str, Any]] = {
        **shared["__webstack_settings"],
        **objects["awx_playbook_variables"],
    }
    for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        found.update(yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"])
    return found


def question(name: str, option: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """One question of a survey, as AWX's API takes it."""
    option = {**option, **override}
    text = option["description"]
    words = [*(text if isinstance(text, list) else [text])]
    words.append(TYPES.get(option["type"], ""))
    asked: dict[str, Any] = {
        "question_name": name,
        "question_description": " ".join(" ".join(words).split()),
        "variable": PREFIX + name,
    }
    if option["type"] == "bool" or "choices" in option:
        choices = option.get("choices", ["true", "false"])
        required = override.get("required", False)
        choices = choices if required else [AS_BEFORE, *choices]
        return {
            **asked,
            "type": "multiplechoice",
            "choices": choices,
            "default": choices[0],
            "required": required,
        }
    if option["type"] not in ("str", "path", *TYPES):
        raise ValueError(f"{name}: AWX has no question for the type {option['type']}")
    secret = option.get("no_log", False)
    required = option.get("required", False)
    bounds = {"min": int(required), "max": 1024, "default": "", "required": required}
    return {**asked, "type": "password" if secret else "text", **bounds}


def surveys() -> dict[Path, str]:
    """The text of each survey's file."""
    objects = yaml.safe_load((ROOT / "awx/objects.yml").read_text())
    known = specifications()
    overrides = objects["awx_survey_overrides"]
    asked = {}
    for template in objects["awx_job_templates"] + objects["awx_workflows"]:
        names = template.get("survey", [])
        if names:
            spec = {
                "name": "",
                "description": "",
                "spec": [question(name, known[name], overrides.get(name, {})) for name in names],
            }
            path = SURVEYS / (re.sub(r"\W+", "_", template["name"].lower()) + ".json")
            asked[path] = json.dumps(spec, indent=2, ensure_ascii=False) + "\n"
    return asked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, tell what differs")
    check = parser.parse_args().check
    wanted = surveys()
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    extra = [path for path in SURVEYS.glob("*.json") if path not in wanted]
    for path in stale + extra:
        print(f"{'out of step' if check else 'written'}: {path.relative_to(ROOT)}")
    if not check:
        SURVEYS.mkdir(parents=True, exist_ok=True)
        for path in extra:
            path.unlink()
        for path in stale:
            path.write_text(wanted[path])
    return 1 if check and stale + extra else 0


if __name__ == "__main__":
    sys.exit(main())
