#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: checklist_host
short_description: Look whether a host is what a checklist wants
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Runs the checks of checklist entries on this host and tells for each whether it is proved, has
    failed, is not applicable, or is for people to decide, with what was asked and what was said.
  - It only reads. A check that can't be run has failed, and says why.
extends_documentation_fragment:
  - golive.webstack.attributes.debian
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: It only reads.
    support: full
  idempotent:
    description: It changes nothing.
    support: full
options:
  entries:
    description:
      - The entries. Each has C(id), C(phase), C(text), and C(checks) or C(person);
        docs/checklist.md of the collection tells of them.
    type: list
    elements: dict
    required: true
  context:
    description: Names and paths that the entries refer to, as C(@name) or C({name}).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Look at the host
  golive.webstack.checklist_host:
    entries:
      - id: own.port
        phase: 4
        text: The site is listened for.
        checks:
          - {check: listening, ports: "@ports"}
    context:
      ports: [80, 443]
  register: looked
"""

RETURN = r"""
results:
  description:
    - One for each entry, with C(id), C(state) (proved, failed, not_applicable or people),
      C(reason), C(evidence) (a list of C(asked) and C(said)), C(when) (UTC) and C(seconds).
  type: list
  elements: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.checklist import (
    checks,
    model,
    runner,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "entries": {"type": "list", "elements": "dict", "required": True},
            "context": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    wrong = model.problems(module.params["entries"], checks.CHECKS)
    if wrong:
        module.fail_json(msg="The entries can't be used. " + " ".join(wrong))
    results = runner.run(module.params["entries"], module.params["context"])
    module.exit_json(changed=False, results=results)


if __name__ == "__main__":
    main()
