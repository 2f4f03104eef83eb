#!/usr/bin/python
# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_indexes
short_description: Indexes made while the tables are written to, and a look at all the others
version_added: 0.3.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Makes the indexes that are asked for with C(CREATE INDEX CONCURRENTLY), so that nobody who
    writes has to wait. One that a killed run has left unfinished is dropped and made again.
  - An index whose columns are the first ones of another valid index isn't made; it is told which
    one covers it. A table or column that isn't there is told too, and is no error.
  - Reports unused, doubled and invalid indexes, foreign keys without an index, and large tables
    that are read from end to end. Of these nothing is changed.
extends_documentation_fragment:
  - golive.webstack.attributes
attributes:
  check_mode:
    description: Tells which would be made.
    support: full
  diff_mode:
    description: Each index is in the result.
    support: none
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  port:
    description: Port of the cluster, by whose socket it is reached.
    type: int
    default: 5432
  indexes:
    description: Indexes that are to be there.
    type: list
    elements: dict
    default: []
    suboptions:
      database:
        description: Name of the database.
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
      columns:
        description: Columns, in order. Either these or O(indexes[].expression).
        type: list
        elements: str
        default: []
      expression:
        description: SQL expression, or columns with an order of their own.
        type: str
        default: ""
      unique:
        description: No two rows may have the same.
        type: bool
        default: false
      method:
        description: Kind of index.
        type: str
        default: btree
        choices: [btree, hash, gin, gist, brin, spgist]
      where:
        description: SQL condition of the rows that are in it.
        type: str
        default: ""
      name:
        description: Name of the index. By default table and columns with C(_idx) behind them.
        type: str
        default: ""
  report:
    description: Databases to report on.
    type: list
    elements: str
    default: []
  report_rows:
    description: From how many rows a table that is read from end to end is told.
    type: int
    default: 10000
  report_scans:
    description: From how many such readings.
    type: int
    default: 100
  wait_seconds:
    description: How long a build may wait for each transaction that is still open.
    type: int
    default: 900
requirements:
  - psycopg2 2.9 or newer on the host (Debian's C(python3-psycopg2))
  - PostgreSQL 14 or newer
"""

EXAMPLES = r"""
- name: Make an index
  golive.webstack.postgres_indexes:
    indexes:
      - database: shop
        table: orders
        columns: [customer_id, created_at]
    report: [shop]
  become: true
  become_user: postgres
"""

RETURN = r"""
created:
  description: Indexes that were made, or would be in check mode.
  returned: success
  type: list
  elements: dict
  sample: [{"database": "shop", "index": "orders_day_idx", "on": "public.orders (day)"}]
replaced:
  description: Those of which an unfinished one had been left.
  returned: success
  type: list
  elements: dict
present:
  description: Those that were there.
  returned: success
  type: list
  elements: dict
covered:
  description: Those that another index does the work of, which C(why) names.
  returned: success
  type: list
  elements: dict
absent:
  description: Those whose table or column isn't there, which C(why) names.
  returned: success
  type: list
  elements: dict
report:
  description: What was seen in each database of O(report).
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.errors import (
    PostgresError,
)
from ansible_collections.golive.webstack.plugins.module_utils.postgres_server.indexes import (
    METHODS,
    Index,
    make,
    report,
)


def main() -> None:
    text = {"type": "str", "default": ""}
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "default": 5432},
            "indexes": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "database": {"type": "str", "required": True},
                    "schema": {"type": "str", "default": "public"},
                    "table": {"type": "str", "required": True},
                    "columns": {"type": "list", "elements": "str", "default": []},
                    "expression": text,
                    "unique": {"type": "bool", "default": False},
                    "method": {"type": "str", "default": "btree", "choices": list(METHODS)},
                    "where": text,
                    "name": text,
                },
            },
            "report": {"type": "list", "elements": "str", "default": []},
            "report_rows": {"type": "int", "default": 10000},
            "report_scans": {"type": "int", "default": 100},
            "wait_seconds": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    given = module.params
    wanted = [Index(**{**one, "columns": tuple(one["columns"])}) for one in given["indexes"]]
    try:
        told = make(given["port"], wanted, module.check_mode, given["wait_seconds"])
        seen = report(given["port"], given["report"], given["report_rows"], given["report_scans"])
    except PostgresError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(told["created"] or told["replaced"]), report=seen, **told)


if __name__ == "__main__":
    main()
