#!/usr/bin/python

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sqlite_to_postgres
short_description: Migrate a SQLite database into PostgreSQL, once and whole
version_added: 0.1.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Copies tables, data, primary keys, identities with their positions, unique constraints,
    indexes, foreign keys, C(NOT NULL), defaults and checks of a SQLite database into a schema of a
    PostgreSQL database, in one transaction. Either everything is there afterwards, or nothing.
  - The source is opened read-only in one snapshot and never changed. Its own integrity and its
    foreign keys are checked first.
  - Every value is checked. A value that its PostgreSQL column can't hold exactly (text in an
    C(INTEGER) column, a date that is none, a NUL byte, a text longer than its column) stops the
    migration, and all of them are listed by table, column, rowid and count.
  - What PostgreSQL has no equal for (views, triggers, virtual tables, some expressions) is listed
    in RV(not_carried) and as warnings.
  - The row counts of all tables are compared before the transaction is committed.
  - The migration is recorded in the table C(golive_webstack.migration) of the target database, so
    that it happens only once per schema. The role needs the right to create that schema.
  - Names are kept as they are. C(JSON) columns become C(json), which keeps the exact text and is
    what SQLAlchemy's C(JSON) makes; they become C(jsonb) if they are in an index or key.
notes:
  - Stop the application before the final migration. Rows that it writes to SQLite after the
    snapshot are not in PostgreSQL; the next run then fails, and says so.
  - A run on a database in WAL mode that is killed can leave an empty C(-wal) and a C(-shm) file
    beside it, as every reader of SQLite does. They hold no data.
  - Texts in C(text) and C(varchar) columns sort by the database's collation, not by bytes as in
    SQLite.
attributes:
  check_mode:
    description: >-
      Reads the source, checks every value and returns the plan; changes nothing. Without psycopg2,
      server or database it does so too, and adds a note. A refused login is an error.
    support: full
  diff_mode:
    description: Shows the statements that make the target's objects, never rows.
    support: full
  idempotent:
    description: >-
      A schema that was migrated is left alone, whatever the application has written since, as long
      as the source hasn't changed.
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
extends_documentation_fragment:
  - golive.webstack.postgres
options:
  source_changed:
    description:
      - What to do if the schema was migrated before, and the SQLite file's content has changed
        since. V(fail) stops; V(ignore) only warns. Neither migrates again.
    type: str
    choices: [fail, ignore]
    default: fail
seealso:
  - module: golive.webstack.sqlite_postgres_verify
"""

EXAMPLES = r"""
- name: Migrate the application's data
  golive.webstack.sqlite_to_postgres:
    src: /srv/app/instance/app.db
    login_host: 127.0.0.1
    login_user: app
    login_password: "{{ app_database_password }}"
    login_db: app

- name: The same over the local socket, without a table that isn't needed any more
  golive.webstack.sqlite_to_postgres:
    src: /srv/app/instance/app.db
    login_unix_socket: /var/run/postgresql
    login_user: app
    login_db: app
    exclude:
      - old_cache
  become: true
  become_user: app
"""

RETURN = r"""
already_migrated:
  description: Whether the schema had been migrated before, and nothing was done.
  type: bool
  returned: success
record:
  description: The row of C(golive_webstack.migration), with its times in ISO 8601.
  type: dict
  returned: after a migration, except in check mode
tables:
  description: The tables, in the source's order.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the table.
      type: str
    source_rows:
      description: Rows in the source's snapshot.
      type: int
    target_rows:
      description: Rows counted in PostgreSQL; null in check mode.
      type: int
    columns:
      description: Each column's name and type. With the reason, default and more if just migrated.
      type: list
      elements: dict
    bytes:
      description: Bytes sent.
      type: int
    duration:
      description: Seconds that the rows took.
      type: float
rows_total:
  description: Rows of all tables.
  type: int
  returned: success
bytes:
  description: Bytes sent to PostgreSQL as rows.
  type: int
  returned: success
duration:
  description: Seconds from the first question to the commit; 0 if nothing was migrated.
  type: float
  returned: success
rate:
  description: Rows a second over the whole duration; 0 if nothing was migrated.
  type: float
  returned: success
plan:
  description: What is made in PostgreSQL, and why; empty if the schema had been migrated before.
  type: dict
  returned: success
not_carried:
  description: All that the source has and the target doesn't get.
  type: list
  elements: dict
  returned: success
  contains:
    kind:
      description: View, trigger, virtual table, default, check, collation and so on.
      type: str
    name:
      description: Name of the object.
      type: str
    reason:
      description: Why it can't be carried over.
      type: str
notes:
  description: What else is worth knowing, such as a source that is gone.
  type: list
  elements: str
  returned: success
bad_values:
  description: Values that stopped the migration, by table, column and reason.
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
      description: The first of them, by rowid or primary key.
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.load import (
    Request,
    migrate,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.options import (
    connection_argument_spec,
    target_from,
)


def main() -> None:
    spec = connection_argument_spec()
    spec["source_changed"] = {"type": "str", "default": "fail", "choices": ["fail", "ignore"]}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    request = Request(
        source=module.params["src"],
        target=target_from(module.params),
        schema=module.params["schema"],
        include=module.params["include"],
        exclude=module.params["exclude"],
        source_changed=module.params["source_changed"],
        check_mode=module.check_mode,
    )
    try:
        outcome = migrate(request)
    except MigrationError as error:
        module.fail_json(msg=error.message, **error.details)
    for warning in outcome.warnings:
        module.warn(warning)
    result = outcome.as_dict()
    if outcome.changed:
        for item in outcome.not_carried:
            module.warn(f"Not carried over: {item['kind']} {item['name']}: {item['reason']}")
        if module._diff:
            result["diff"] = {"before": "", "after": outcome.plan_text}
    del result["warnings"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
