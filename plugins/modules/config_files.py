#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Several folders and small configuration files in one task
version_added: 0.1.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Makes folders, then files, with their owners and modes, in the order given.
  - Each file is written beside its place, checked by its own command if it has one, and renamed
    into its place. A file that is refused leaves the old one as it was.
  - One task instead of two round trips for each file makes a second run of this collection fast.
    For a single file M(ansible.builtin.template) does the same.
extends_documentation_fragment:
  - golive.webstack.attributes
attributes:
  check_mode:
    description: >-
      Tells what would change. The checks of O(files[].validate) need the file and aren't run.
    support: full
  diff_mode:
    description: >-
      Shows the content of O(files), owner and mode; never the content of O(secret_files).
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  directories:
    description: Folders, made before the files. Missing parents are made with mode 0755.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      owner:
        description: User name or number.
        type: str
        default: root
      group:
        description: Group name or number.
        type: str
        default: root
      mode:
        description: Octal mode, as text.
        type: str
        default: "0755"
  files:
    description: Files whose content may be shown in a diff.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path. Its folder has to be there.
        type: path
        required: true
      content:
        description: The whole text of the file.
        type: str
        required: true
      owner:
        description: User name or number.
        type: str
        default: root
      group:
        description: Group name or number.
        type: str
        default: root
      mode:
        description: Octal mode, as text.
        type: str
        default: "0644"
      validate:
        description:
          - Command that checks the file before it takes its place; C(%s) stands for the file.
        type: str
        default: ""
  secret_files:
    description: Files whose content is never shown, not in a diff and not at any verbosity.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path. Its folder has to be there.
        type: path
        required: true
      content:
        description: The whole text of the file.
        type: str
        required: true
      owner:
        description: User name or number.
        type: str
        default: root
      group:
        description: Group name or number.
        type: str
        default: root
      mode:
        description: Octal mode, as text.
        type: str
        default: "0644"
      validate:
        description:
          - Command that checks the file before it takes its place; C(%s) stands for the file.
        type: str
        default: ""
"""

EXAMPLES = r"""
- name: Write the settings of a service and its password
  golive.webstack.config_files:
    directories:
      - path: /etc/myservice
    files:
      - path: /etc/myservice/main.conf
        content: "{{ lookup('ansible.builtin.template', 'main.conf.j2') }}"
        validate: myservice --check %s
    secret_files:
      - path: /etc/myservice/password
        content: "{{ myservice_password }}"
        mode: "0600"
"""

RETURN = r"""
changed_paths:
  description: What was changed, or would be in check mode, in order.
  returned: success
  type: list
  elements: str
  sample: [/etc/myservice/main.conf]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.config_files import (
    ConfigFilesError,
    Wanted,
    apply,
)


def _owner(mode):
    return {
        "path": {"type": "path", "required": True},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str", "default": mode},
    }


def _file(secret):
    return dict(
        _owner("0644"),
        content={"type": "str", "required": True, "no_log": secret},
        validate={"type": "str", "default": ""},
    )


def _list(options):
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def main():
    module = AnsibleModule(
        argument_spec={
            "directories": _list(_owner("0755")),
            "files": _list(_file(False)),
            # Wholly kept out of the host's log: there a list is text, in which a line end or a
            # quote is written otherwise and the content would not be found.
            "secret_files": dict(_list(_file(True)), no_log=True),
        },
        supports_check_mode=True,
    )
    # In the result only what is secret is masked, and not each mode and owner.
    module.no_log_values = {file["content"] for file in module.params["secret_files"]}
    wanted = [Wanted(**folder) for folder in module.params["directories"]]
    wanted += [Wanted(**file) for file in module.params["files"]]
    wanted += [Wanted(secret=True, **file) for file in module.params["secret_files"]]
    try:
        changes = apply(wanted, module.check_mode)
    except ConfigFilesError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(changes),
        changed_paths=[change.path for change in changes],
        diff=[
            {
                "before_header": change.path,
                "after_header": change.path,
                "before": change.before,
                "after": change.after,
            }
            for change in changes
        ],
    )


if __name__ == "__main__":
    main()
