#!/usr/bin/python

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_secrets
short_description: Keep secrets on a host that are generated once
version_added: 0.1.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Returns secrets by name. One that the user gives is returned and not stored. One that isn't
    given is generated the first time, and kept in a file of its own that only root can read.
  - Two runs at the same time agree on one value. A file that is empty or truncated is an error,
    and is never replaced.
  - Folders and files with a wrong mode or owner are mended.
notes:
  - The values are in the result. Always set C(no_log) to true on the task, or they are shown with
    C(-v) and kept in logs. The module itself keeps given values out of the host's log and
    out of the result's C(invocation).
extends_documentation_fragment:
  - golive.webstack.attributes
attributes:
  check_mode:
    description: >-
      Stores nothing. A secret that is missing gets a random value that is only good for this run.
    support: full
  diff_mode:
    description: Secrets are never shown.
    support: none
  idempotent:
    description: A secret that exists is returned as it is; a different length doesn't change it.
    support: full
options:
  directory:
    description:
      - Folder of the secrets' files. Made with mode 0700 if missing, and owned by the user that the
        module runs as.
      - It must be on a file system with hard links.
    type: path
    required: true
  secrets:
    description: The secrets that are wanted.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name of the secret and of its file. Lower-case letters, digits and C(_), starting with a
            letter, 64 characters at most.
        type: str
        required: true
      value:
        description:
          - The user's own value. Not set, null or empty means that the kept one is used, or a new
            one is generated. A kept file is left alone.
          - No line end and no NUL may be in it.
        type: str
      length:
        description: Characters of a generated value, 16 to 1024, from the letters and digits.
        type: int
        default: 32
"""

EXAMPLES = r"""
- name: Database password and session key of the application
  golive.webstack.host_secrets:
    directory: /etc/app/secrets
    secrets:
      - name: database_password
        value: "{{ app_database_password | default('') }}"
      - name: session_key
        length: 64
  register: app_secrets
  no_log: true

- name: Use one
  ansible.builtin.template:
    src: app.env.j2
    dest: /etc/app/app.env
    owner: root
    group: root
    mode: "0600"
  vars:
    session_key: "{{ app_secrets.secrets.session_key }}"
  diff: false
  no_log: true
"""

RETURN = r"""
secrets:
  description: The values by name. Set C(no_log) on the task.
  type: dict
  returned: success
generated:
  description: Names of the secrets that were generated, or would be in check mode.
  type: list
  elements: str
  returned: success
mended:
  description: Paths that were made, or whose mode or owner was mended.
  type: list
  elements: str
  returned: success
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.host_secrets import (
    SecretError,
    Store,
    Wanted,
)


def _shown(params: dict[str, Any]) -> dict[str, Any]:
    """The options without the given values."""
    return {
        "directory": params["directory"],
        "secrets": [
            {**secret, "value": "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" if secret["value"] else None}
            for secret in params["secrets"]
        ],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "secrets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                # Wholly kept out of the host's log: there a list is text, in which a value with a
                # quote is written otherwise and would not be found.
                "no_log": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "value": {"type": "str", "no_log": True},
                    "length": {"type": "int", "default": 32},
                },
            },
        },
        supports_check_mode=True,
    )
    # In a message only values are masked, and not names.
    module.no_log_values = {s["value"] for s in module.params["secrets"] if s["value"]}
    wanted = [Wanted(s["name"], s["value"], s["length"]) for s in module.params["secrets"]]
    store = Store(module.params["directory"], module.check_mode)
    try:
        kept = store.provide(wanted)
    except SecretError as error:
        module.fail_json(msg=str(error))
    # Given values were masked until here, so in the host's log. The result is where they are
    # handed over: masked there, the playbook would write the mask into its configuration.
    module.no_log_values.clear()
    module.exit_json(
        changed=kept.changed,
        secrets=kept.values,
        generated=kept.generated,
        mended=kept.mended,
        invocation={"module_args": _shown(module.params)},
    )


if __name__ == "__main__":
    main()
