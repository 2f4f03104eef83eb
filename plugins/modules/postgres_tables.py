#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_tables
short_description: Storage parameters of tables, and autovacuum's by a table's size
version_added: 0.3.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Sets the parameters that are given for a table, and lowers autovacuum's scale factors on tables
    from one million rows on, in three steps.
  - A scale factor that is none of these steps is somebody's own and stays. None is ever raised.
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
    description: A second run changes nothing as long as no table has grown into the next step.
    support: full
options:
  port:
    description: Port of the cluster, by whose socket it is reached.
    type: int
    default: 5432
  databases:
    description: Databases whose tables are looked at.
    type: list
    elements: str
    default: []
  tables:
    description: Parameters of single tables.
    type: list
    elements: dict
    default: []
    suboptions:
      database:
        description: Name of the database, one of O(databases).
        type: str
        required: true
      schema:
        description: Schema of the table.
        type: str
        default: public
      table:
        description: Name of the table.
        type: str
        required: true
      settings:
        description: Storage parameters with their values.
        type: dict
        required: true
  by_size:
    description: Whether autovacuum's scale factors follow a table's size.
    type: bool
    default: true
requirements:
  - psycopg2 2.9 or newer on the host (Debian's C(python3-psycopg2))
  - PostgreSQL 14 or newer
"""

EXAMPLES = r"""
- name: Leave room for updates on one table, and size autovacuum on all
  golive.webstack.postgres_tables:
    databases: [shop]
    tables:
      - database: shop
        table: carts
        settings:
          fillfactor: 85
  become: true
  become_user: postgres
"""

RETURN = r"""
statements:
  description: What was run, or would be in check mode.
  returned: success
  type: list
  elements: dict
absent:
  description: Tables of O(tables) that aren't there.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.errors import (
    PostgresError,
)
from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.tables import (
    apply,
    refuse,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "default": 5432},
            "databases": {"type": "list", "elements": "str", "default": []},
            "tables": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "database": {"type": "str", "required": True},
                    "schema": {"type": "str", "default": "public"},
                    "table": {"type": "str", "required": True},
                    "settings": {"type": "dict", "required": True},
                },
            },
            "by_size": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        refuse(given["tables"])
        told = apply(
            given["port"], given["databases"], given["tables"], given["by_size"], module.check_mode
        )
    except PostgresError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(told["statements"]), **told)


if __name__ == "__main__":
    main()
