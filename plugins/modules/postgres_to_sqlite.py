#!/usr/bin/python

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres_to_sqlite
short_description: Copy a PostgreSQL schema into a new SQLite file, whole and proved
version_added: 0.1.0
author: golive.webstack contributors (@golive-webstack)
description:
  - The way back from a migration. Copies all tables of a schema, with every row written since
    then, into a new SQLite file.
  - With O(schema_from), the original SQLite file, the new one has the original's tables, indexes,
    triggers and views, and its settings. A value that still says the same is written as it was in
    the original, to the byte; others in the form that their column had there. So a migration and
    its way back give equal data.
  - Without it, tables, keys, plain defaults and plain indexes are made from PostgreSQL's catalog.
    What SQLite has no equal for is listed in RV(not_carried).
  - PostgreSQL is read in one snapshot. The file is written under another name in the same folder,
    checked, compared with the snapshot value by value, and gets its name at the very end. A run
    that is killed or fails leaves no file under the final name; the next one completes.
  - Values that a policy of the migration took out of PostgreSQL come back, if their row is still
    there and nobody has given the column another value.
  - The number that the next row gets follows PostgreSQL's sequence where the table numbers its
    rows with C(AUTOINCREMENT).
notes:
  - The role must be able to read all tables.
  - Stop the application first. What it writes to PostgreSQL after the snapshot isn't in the file.
  - A value that SQLite can't hold exactly (a decimal beyond a double, NaN, infinite times) stops
    the copy, and all of them are listed by table, column and row. Columns with arrays, ranges,
    composite types and, if they weren't made by the migration, intervals are refused by name.
  - Columns that PostgreSQL has got since are added to the original's tables.
  - Tables that are in O(schema_from) only, as the migration left them out, keep their rows.
  - Search indexes over another table (FTS) are built anew.
attributes:
  check_mode:
    description: >-
      Reads every row and tries every value; writes nothing. A server that can't be reached is an
      error.
    support: full
  diff_mode:
    description: Shows the statements that make the tables, never rows.
    support: full
  idempotent:
    description: A file that holds all that PostgreSQL holds is left alone.
    support: full
extends_documentation_fragment:
  - golive.webstack.postgres
  - ansible.builtin.files
  - golive.webstack.attributes
options:
  dest:
    description:
      - Path of the SQLite file on the host that the module runs on. Its folder must exist and have
        room for the whole file.
    type: path
    required: true
  schema_from:
    description:
      - The original SQLite file, which is only read. May be the file at O(dest).
      - If empty, the schema is made from PostgreSQL's catalog.
    type: path
    default: ""
  replace:
    description:
      - Whether a file at O(dest) that holds something else may be replaced. It keeps its content
        under a new name beside it, which is returned as RV(backup).
      - Its owner, group and mode are given to the new file, unless they are set here.
    type: bool
    default: false
  schema:
    description: PostgreSQL schema of the tables.
    type: str
    default: public
  include:
    description: Only these tables, by their names in SQLite. All of them if empty.
    type: list
    elements: str
    default: []
  exclude:
    description: All tables but these, by their names in SQLite.
    type: list
    elements: str
    default: []
seealso:
  - module: golive.webstack.sqlite_to_postgres
  - module: golive.webstack.sqlite_postgres_verify
"""

EXAMPLES = r"""
- name: Return to SQLite with all that was written since
  golive.webstack.postgres_to_sqlite:
    dest: /srv/app/instance/app.db
    schema_from: /srv/app/instance/app.db
    replace: true
    login_host: 127.0.0.1
    login_user: app
    login_password: "{{ app_database_password }}"
    login_db: app
    owner: app
    group: app
    mode: "0640"

- name: A copy for a developer, without a large table
  golive.webstack.postgres_to_sqlite:
    dest: /srv/app/copies/app.db
    login_unix_socket: /var/run/postgresql
    login_user: app
    login_db: app
    exclude:
      - log_entries
  become: true
  become_user: app
"""

RETURN = r"""
dest:
  description: The file's real path.
  type: str
  returned: success
backup:
  description: The name that the replaced file has now; null if none was replaced.
  type: str
  returned: success
tables:
  description: The tables.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name in SQLite.
      type: str
    target_name:
      description: Name in PostgreSQL.
      type: str
    schema:
      description: Whether the original or the catalog gave the table's schema.
      type: str
    added_columns:
      description: Columns that the original doesn't have.
      type: list
      elements: str
    rows:
      description: Rows written. Missing if the file was left alone.
      type: int
    unchanged:
      description: Rows written as the original has them.
      type: int
    changed:
      description: Rows of the original that were changed in PostgreSQL.
      type: int
    new:
      description: Rows that the original doesn't have.
      type: int
    deleted:
      description: Rows of the original that PostgreSQL doesn't have any more.
      type: int
    restored:
      description: Rows that the migration had put into quarantine.
      type: int
rows_total:
  description: Rows of all tables.
  type: int
  returned: success
size:
  description: Bytes of the file; null in check mode and if it was left alone.
  type: int
  returned: success
duration:
  description: Seconds from the first question to the file's name; 0 if nothing was written.
  type: float
  returned: success
verified:
  description: Whether the file was compared with PostgreSQL, value by value, and is equal.
  type: bool
  returned: success
not_carried:
  description: All that PostgreSQL has, or the original had, and the file doesn't get.
  type: list
  elements: dict
  returned: success
  contains:
    kind:
      description: Check, default, index, virtual table and so on.
      type: str
    name:
      description: Name of the object.
      type: str
    reason:
      description: Why it can't be carried over.
      type: str
notes:
  description: What else is worth knowing, such as columns that are new.
  type: list
  elements: str
  returned: success
bad_values:
  description: Values that stopped the copy, by table, column and reason.
  type: list
  elements: dict
  returned: when there are any
  contains:
    table:
      description: Name of the table.
      type: str
    column:
      description: Name of the column.
      type: str
    reason:
      description: What is wrong with the values.
      type: str
    count:
      description: How many there are.
      type: int
    rows:
      description: The first of them, by key.
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.options import (
    or_fail,
    shared_fields,
    warn_of_left_out,
    way_back_argument_spec,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.reverse import (
    ReverseRequest,
    restore,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec=way_back_argument_spec(),
        supports_check_mode=True,
        add_file_common_args=True,
    )
    params = module.params
    request = ReverseRequest(
        dest=params["dest"],
        schema_from=params["schema_from"],
        replace=params["replace"],
        **shared_fields(params, module.check_mode),
    )
    outcome = or_fail(module, lambda: restore(request))
    result = dict(vars(outcome))
    statements = result.pop("statements")
    if outcome.changed:
        warn_of_left_out(module, outcome.not_carried)
        if module._diff:
            text = "".join(f"{statement};\n" for statement in statements)
            result["diff"] = {"before": "", "after": text}
    if not (module.check_mode and outcome.changed):
        attributes = module.load_file_common_arguments(params, path=outcome.dest)
        result["changed"] = module.set_fs_attributes_if_different(attributes, outcome.changed)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
