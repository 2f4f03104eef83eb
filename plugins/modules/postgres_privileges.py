#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_privileges
short_description: Who may read, write and own in a database, future tables included
version_added: 0.3.0
author: golive.webstack contributors (@golive-webstack)
description:
  - For each database, its extensions; what writers and readers may do with the tables and sequences
    that are there and, by default privileges, with those that the owner makes later; who may
    connect at all; and roles that are members of others.
  - Runs as the system user postgres by the socket. Rights that somebody else granted stay; taken
    away are only those that PostgreSQL gives to everybody.
extends_documentation_fragment:
  - golive.webstack.attributes
attributes:
  check_mode:
    description: Tells the statements that would run.
    support: full
  diff_mode:
    description: The statements are in the result.
    support: none
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  port:
    description: Port of the cluster, by whose socket it is reached.
    type: int
    default: 5432
  databases:
    description: Databases that are there already.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the database.
        type: str
        required: true
      owner:
        description: Role that owns it and makes its tables.
        type: str
        required: true
      writers:
        description:
          - Roles that may read and write rows, and may not make or change tables. What they own in
            the database already is given to the owner.
        type: list
        elements: str
        default: []
      readers:
        description: Roles that may read rows.
        type: list
        elements: str
        default: []
      connect:
        description: Roles that may connect, without any right on the tables.
        type: list
        elements: str
        default: []
      schemas:
        description: Schemas that this is about. Those that lack are made.
        type: list
        elements: str
        default: [public]
      extensions:
        description: Extensions to make.
        type: list
        elements: str
        default: []
      private:
        description: Only the roles named here may connect, and no longer everybody.
        type: bool
        default: true
  members:
    description: For each role the roles that it is to be a member of.
    type: dict
    default: {}
requirements:
  - psycopg2 2.9 or newer on the host (Debian's C(python3-psycopg2))
  - PostgreSQL 14 or newer
"""

EXAMPLES = r"""
- name: Let the application write rows and the analysts read them
  golive.webstack.postgres_privileges:
    databases:
      - name: shop
        owner: shop_owner
        writers: [shop]
        readers: [shop_readonly]
  become: true
  become_user: postgres
"""

RETURN = r"""
statements:
  description: What was run, or would be in check mode, for each database that differed.
  returned: success
  type: list
  elements: dict
  sample: [{"database": "shop", "statements": ["GRANT USAGE ON SCHEMA public TO shop_readonly"]}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.errors import (
    PostgresError,
)
from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.privileges import (
    Database,
    apply,
)


def _names(default: list[str]) -> dict[str, object]:
    return {"type": "list", "elements": "str", "default": default}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "default": 5432},
            "databases": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "owner": {"type": "str", "required": True},
                    "writers": _names([]),
                    "readers": _names([]),
                    "connect": _names([]),
                    "schemas": _names(["public"]),
                    "extensions": _names([]),
                    "private": {"type": "bool", "default": True},
                },
            },
            "members": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    wanted = [
        Database(**{k: tuple(v) if isinstance(v, list) else v for k, v in one.items()})
        for one in module.params["databases"]
    ]
    try:
        told = apply(module.params["port"], wanted, module.params["members"], module.check_mode)
    except PostgresError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(told), statements=told)


if __name__ == "__main__":
    main()
