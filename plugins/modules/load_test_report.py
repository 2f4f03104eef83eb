#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: load_test_report
short_description: Compare a load test with its targets and write its report
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Compares the figures of M(golive.webstack.load_test) with targets and with the last run of the
    same profile, tells what was short on the hosts meanwhile, and writes the run as JSON and as one
    HTML page that needs nothing else.
  - It does not fail because of a missed target, so that a playbook can report first.
extends_documentation_fragment:
  - golive.webstack.attributes
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: Compares and writes nothing.
    support: full
  idempotent:
    description: Each run of a load test is a file of its own.
    support: partial
options:
  name:
    description: Name of the profile, part of the files' names.
    type: str
    required: true
  title:
    description: Heading of the page.
    type: str
    default: Load test
  profile:
    description: As RV(golive.webstack.load_test#module:profile).
    type: dict
    required: true
  figures:
    description: As RV(golive.webstack.load_test#module:figures).
    type: dict
    required: true
  began:
    description: When the load began, in seconds of the epoch.
    type: float
    required: true
  targets:
    description:
      - Any of C(p50_ms), C(p95_ms), C(p99_ms), C(mean_ms) (milliseconds, to stay below),
        C(success_percent) and C(requests_per_minute) (to be above).
    type: dict
    default: {}
  samples:
    description: For each host what M(golive.webstack.host_sample) measured, one entry a second.
    type: dict
    default: {}
  folder:
    description: Where the runs are kept.
    type: path
    required: true
  keep:
    description: Runs of a profile that are kept.
    type: int
    default: 20
"""

EXAMPLES = r"""
- name: Judge the load test
  golive.webstack.load_test_report:
    name: light
    profile: "{{ load.profile }}"
    figures: "{{ load.figures }}"
    began: "{{ load.began }}"
    targets: {p95_ms: 300, success_percent: 99}
    folder: /var/lib/golive/shop/load_tests
  register: judged

- name: Insist on the targets
  ansible.builtin.assert:
    that: not judged.missed
    fail_msg: "{{ judged.missed | join('; ') }}"
"""

RETURN = r"""
missed:
  description: A text for each target that was missed.
  type: list
  elements: str
  returned: success
causes:
  description: What was short on the hosts meanwhile, a text each.
  type: list
  elements: str
  returned: success
compared:
  description: How the figures stand to the last run of the profile.
  type: list
  elements: str
  returned: success
table:
  description: The figures as lines of a table.
  type: list
  elements: str
  returned: success
line:
  description: The figures and their targets as one line.
  type: str
  returned: success
json:
  description: Path of the run's file.
  type: str
  returned: success
html:
  description: Path of the run's page.
  type: str
  returned: success
"""

import glob
import json
import os
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.load_test import figures as told
from ansible_collections.golive.webstack.plugins.module_utils.load_test import report


def _before(folder, name):
    """The figures of the profile's last run, if they can be read."""
    for path in reversed(sorted(glob.glob(os.path.join(glob.escape(folder), f"{name}-*.json")))):
        try:
            with open(path, encoding="utf-8") as stream:
                return json.load(stream)["figures"]
        except (OSError, ValueError, KeyError):
            continue
    return None


def _write(path, text):
    with open(f"{path}.partial", "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(f"{path}.partial", 0o644)
    os.replace(f"{path}.partial", path)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "title": {"type": "str", "default": "Load test"},
            "profile": {"type": "dict", "required": True},
            "figures": {"type": "dict", "required": True},
            "began": {"type": "float", "required": True},
            "targets": {"type": "dict", "default": {}},
            "samples": {"type": "dict", "default": {}},
            "folder": {"type": "path", "required": True},
            "keep": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    given = module.params
    unknown = set(given["targets"]) - set(told.TARGETS)
    if unknown:
        module.fail_json(
            msg=f"targets knows {', '.join(told.TARGETS)}; it has {', '.join(sorted(unknown))}."
        )
    targets = {name: float(value) for name, value in given["targets"].items()}
    # Of what was measured, the time of this run: others came before it and after it.
    samples = {
        host: [
            {**one, "second": round(one["at"] - given["began"], 1)}
            for one in found
            if 0 <= one["at"] - given["began"] <= given["figures"]["seconds"] + 1
        ]
        for host, found in given["samples"].items()
    }
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(given["began"]))
    run = {
        "title": given["title"],
        "when": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(given["began"])),
        "profile": given["profile"],
        "figures": given["figures"],
        "targets": targets,
        "missed": told.missed(given["figures"], targets),
        "causes": told.causes(samples),
        "samples": samples,
    }
    path = os.path.join(given["folder"], f"{given['name']}-{stamp}")
    try:
        run["compared"] = told.compared(given["figures"], _before(given["folder"], given["name"]))
        if not module.check_mode:
            os.makedirs(given["folder"], mode=0o755, exist_ok=True)
            _write(f"{path}.json", json.dumps(run, indent=1) + "\n")
            _write(f"{path}.html", report.page(run))
            kept = sorted(
                glob.glob(os.path.join(glob.escape(given["folder"]), f"{given['name']}-*.json"))
            )
            for old in kept[: -given["keep"]]:
                os.unlink(old)
                if os.path.exists(f"{old[:-5]}.html"):
                    os.unlink(f"{old[:-5]}.html")
    except OSError as error:
        module.fail_json(msg=f"{error.filename or given['folder']}: {error.strerror or error}.")
    module.exit_json(
        changed=False,
        table=report.terminal(given["figures"]),
        line=report.line(given["name"], given["figures"], targets),
        json=f"{path}.json",
        html=f"{path}.html",
        **{name: run[name] for name in ("missed", "causes", "compared")},
    )


if __name__ == "__main__":
    main()
