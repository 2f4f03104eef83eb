#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_probe
short_description: Proves that Redis or Valkey servers keep a value and let their users in
version_added: 0.3.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Writes, reads and deletes a value at each place where a server listens, with TLS where it has
    that, and logs in as each of its users. Asks again for a while where nothing answers yet.
extends_documentation_fragment:
  - golive.webstack.attributes
  - golive.webstack.attributes.no_diff
attributes:
  check_mode:
    description: It only asks.
    support: full
  idempotent:
    description: Never changes anything that stays.
    support: full
options:
  instances:
    description: The servers.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name, for messages.
        type: str
        required: true
      user:
        description: Who asks; empty for the default user.
        type: str
        default: ""
      password:
        description: That user's password; empty for none.
        type: str
        default: ""
      users:
        description: Further users who must be let in.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name.
            type: str
            required: true
          password:
            description: Password.
            type: str
            required: true
      places:
        description: Where it is asked.
        type: list
        elements: dict
        required: true
        suboptions:
          path:
            description: Path of a socket.
            type: str
            default: ""
          host:
            description: Address, where there is no path.
            type: str
            default: 127.0.0.1
          port:
            description: TCP port.
            type: int
            default: 0
          tls:
            description: Whether the port speaks TLS.
            type: bool
            default: false
          ca:
            description: File with the certificates that may have signed the server's.
            type: str
            default: ""
          certificate:
            description: Own certificate, where the server asks for one.
            type: str
            default: ""
          key:
            description: Its key.
            type: str
            default: ""
  timeout:
    description: Seconds for a server that starts or reads its data.
    type: float
    default: 60
"""

EXAMPLES = r"""
- name: Ask a server
  golive.webstack.redis_probe:
    instances:
      - name: main
        user: golive-admin
        password: "{{ vault_redis_admin_password }}"
        places:
          - port: 6379
"""

RETURN = r"""
instances:
  description:
    - What each server tells by INFO, and C(huge_pages), whether its process may be given those.
  type: list
  elements: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.redis_server import (
    Address,
    Credential,
    Probe,
    RedisServerError,
    probe,
)


def _text(secret=False):
    return {"type": "str", "default": "", "no_log": secret}


def main():
    place = {name: _text() for name in ("path", "ca", "certificate")}
    place.update(
        host={"type": "str", "default": "127.0.0.1"},
        port={"type": "int", "default": 0},
        tls={"type": "bool", "default": False},
        key=_text(),
    )
    place["key"]["no_log"] = False
    instance = {
        "name": {"type": "str", "required": True},
        "user": _text(),
        "password": _text(secret=True),
        "users": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "password": {"type": "str", "required": True, "no_log": True},
            },
        },
        "places": {"type": "list", "elements": "dict", "required": True, "options": place},
    }
    module = AnsibleModule(
        argument_spec={
            "instances": {
                "type": "list",
                "elements": "dict",
                "required": True,
                # Kept out of the host's log: there it is text, in which a password with a quote is
                # written otherwise and would not be found.
                "no_log": True,
                "options": instance,
            },
            "timeout": {"type": "float", "default": 60.0},
        },
        supports_check_mode=True,
    )
    instances = module.params["instances"]
    # In the result only passwords are masked.
    module.no_log_values = {one["password"] for one in instances if one["password"]}
    module.no_log_values |= {user["password"] for one in instances for user in one["users"]}
    found = []
    try:
        for given in instances:
            found.append(
                probe(
                    Probe(
                        name=given["name"],
                        places=tuple(Address(**place) for place in given["places"]),
                        credential=Credential(given["user"], given["password"]),
                        users=tuple(Credential(u["name"], u["password"]) for u in given["users"]),
                    ),
                    module.params["timeout"],
                )
            )
    except RedisServerError as error:
        module.fail_json(msg=str(error), instances=found)
    module.exit_json(changed=False, instances=found)


if __name__ == "__main__":
    main()
