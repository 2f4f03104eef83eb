#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_instance
short_description: Files of a Redis or Valkey server, and the running server as they say
version_added: 0.3.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Lets the server's own program read the new files, as a server on trial in a temporary folder,
    and compares its settings and users with those of the running server. What differs is set
    there at once; what the server takes only by a restart is told in RV(ignore:restart).
  - A server that gets an append-only file writes its keys into it first; only then the settings
    file says so.
  - Certificates are read again, so a renewed one needs no restart.
notes:
  - It starts and restarts nothing.
extends_documentation_fragment:
  - golive.webstack.attributes
attributes:
  check_mode:
    description: Tells what would change, in the files and in the running server.
    support: full
  diff_mode:
    description: Shows the settings, never users or passwords.
    support: partial
    details: The content of O(secret_files) and O(copies) is not shown.
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  program:
    description: The server's program.
    type: path
    default: /usr/bin/redis-server
  user:
    description: System user of the server; its group has the same name.
    type: str
    default: redis
  path:
    description: Path of the settings file.
    type: path
    required: true
  content:
    description: Its whole text. It names the paths of O(secret_files) to have them read.
    type: str
    required: true
  secret_files:
    description: Files with passwords.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      content:
        description: Its whole text.
        type: str
        required: true
  acl_file:
    description: That one of O(secret_files) which holds the users; empty if none does.
    type: str
    default: ""
  copies:
    description:
      - Files of this host of which the server gets copies that it can read, as certificate and key.
    type: list
    elements: dict
    default: []
    suboptions:
      src:
        description: Absolute path of the file.
        type: path
        required: true
      dest:
        description: Absolute path of the copy.
        type: path
        required: true
  credentials:
    description:
      - Users by whom the running server is asked, in this order; the password of the settings file
        on the host and none at all are tried after them.
    type: list
    elements: dict
    default: []
    suboptions:
      user:
        description: Name.
        type: str
        required: true
      password:
        description: Password.
        type: str
        required: true
  timeout:
    description: Seconds for the append-only file to be written when it is switched on.
    type: int
    default: 600
"""

EXAMPLES = r"""
- name: Set a server up
  golive.webstack.redis_instance:
    path: /etc/redis/redis.conf
    content: |
      port 6379
      maxmemory 512mb
      aclfile /etc/redis/golive-users.acl
    acl_file: /etc/redis/golive-users.acl
    secret_files:
      - path: /etc/redis/golive-users.acl
        content: "user default on #{{ vault_redis_password | hash('sha256') }} ~* &* +@all\n"
    credentials:
      - user: default
        password: "{{ vault_redis_password }}"
"""

RETURN = r"""
changed_paths:
  description: Files that were changed, or would be in check mode.
  type: list
  elements: str
  returned: success
applied:
  description:
    - Settings that the running server was given, or would be; C(users) and C(certificate) too.
  type: list
  elements: str
  returned: success
restart:
  description: What the running server takes only by a restart, each with the reason.
  type: list
  elements: str
  returned: success
reached:
  description: Whether the running server could be asked.
  type: bool
  returned: success
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.config_files import (
    ConfigFilesError,
    Wanted,
)
from ansible_collections.golive.webstack.plugins.module_utils.redis_server import (
    Credential,
    Files,
    RedisServerError,
    manage,
)


def _copies(module):
    """The copies whose source is there; without it only check mode goes on."""
    found = []
    for copy in module.params["copies"]:
        try:
            with open(copy["src"], encoding="utf-8") as handle:
                content = handle.read()
        except (OSError, UnicodeDecodeError) as error:
            if module.check_mode and not os.path.exists(copy["src"]):
                continue
            module.fail_json(
                msg=f"{copy['src']} can't be read: {error}. The server needs it for TLS; "
                "put it there, or set the redis_tls_* variables to where it is."
            )
        found.append(
            Wanted(
                path=copy["dest"],
                content=content,
                group=module.params["user"],
                mode="0640",
                secret=True,
            )
        )
    folders = sorted({os.path.dirname(copy.path) for copy in found})
    return [Wanted(path=path, group=module.params["user"], mode="0750") for path in folders] + found


def main():
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "default": "/usr/bin/redis-server"},
            "user": {"type": "str", "default": "redis"},
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "required": True},
            # Wholly kept out of the host's log: there a list is text, in which a line end or a
            # quote is written otherwise and a password would not be found.
            "secret_files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "no_log": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True, "no_log": True},
                },
            },
            "acl_file": {"type": "str", "default": ""},
            "copies": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "src": {"type": "path", "required": True},
                    "dest": {"type": "path", "required": True},
                },
            },
            "credentials": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "no_log": True,
                "options": {
                    "user": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                },
            },
            "timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    given = module.params
    # In the result only what is secret is masked.
    module.no_log_values = {file["content"] for file in given["secret_files"]}
    module.no_log_values |= {one["password"] for one in given["credentials"] if one["password"]}
    files = Files(
        path=given["path"],
        content=given["content"],
        secrets={file["path"]: file["content"] for file in given["secret_files"]},
        acl=given["acl_file"],
        owner=given["user"],
        group=given["user"],
    )
    credentials = [Credential(**credential) for credential in given["credentials"]]
    try:
        outcome = manage(
            files,
            _copies(module),
            given["program"],
            [credential for credential in credentials if credential.password],
            module.check_mode,
            given["timeout"],
        )
    except (RedisServerError, ConfigFilesError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed,
        changed_paths=[change.path for change in outcome.changes],
        applied=sorted(set(outcome.applied)),
        restart=outcome.restart,
        reached=outcome.reached,
        diff=[
            {
                "before_header": change.path,
                "after_header": change.path,
                "before": change.before,
                "after": change.after,
            }
            for change in outcome.changes
        ],
    )


if __name__ == "__main__":
    main()
