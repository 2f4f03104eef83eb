#!/usr/bin/python

# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sqlite_postgres_verify
short_description: Prove that PostgreSQL holds what the SQLite database held
version_added: 0.1.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Compares a migrated schema with its SQLite source, without any code of the migration itself.
  - Any difference is a failure that lists all differences.
  - With O(record=true) the evidence is stored in C(golive_webstack.migration), and later runs
    return it without comparing again, as the application has been writing to PostgreSQL since.
notes:
  - Neither side is changed, apart from the evidence with O(record=true).
attributes:
  check_mode:
    description: >-
      Compares and stores nothing. Without psycopg2, server, database or migrated tables it adds a
      note and succeeds with RV(compared) false. A refused login is an error.
    support: full
  diff_mode:
    description: Nothing is changed that could be shown.
    support: none
  idempotent:
    description: Changed only when evidence is stored.
    support: full
  platform:
    description: Where it runs.
    platforms: posix
    support: full
extends_documentation_fragment:
  - golive.webstack.postgres
options:
  depth:
    description:
      - How much is proved. V(counts) compares the rows of each table, the NULLs of each column,
        least and greatest value of whole-number primary keys, and that each identity will give a
        number above the greatest.
    type: str
    choices: [counts]
    default: counts
  record:
    description: Whether to store the evidence with the migration's record.
    type: bool
    default: false
  again:
    description: Whether to compare although evidence is stored. Only matters with O(record=true).
    type: bool
    default: false
seealso:
  - module: golive.webstack.sqlite_to_postgres
"""

EXAMPLES = r"""
- name: Prove the migration and keep the evidence
  golive.webstack.sqlite_postgres_verify:
    src: /srv/app/instance/app.db
    login_host: 127.0.0.1
    login_user: app
    login_password: "{{ app_database_password }}"
    login_db: app
    record: true
"""

RETURN = r"""
compared:
  description: Whether the two sides were compared in this run.
  type: bool
  returned: success
depth:
  description: The depth that was proved.
  type: str
  returned: always
evidence:
  description: What was compared, when, with which versions; null if nothing was.
  type: dict
  returned: always
  contains:
    tables:
      description: Each table's figures on both sides.
      type: list
      elements: dict
    rows_total:
      description: Rows of all tables in PostgreSQL.
      type: int
    source:
      description: Path, size, SQLite's version, and whether the content is the one recorded.
      type: dict
    target:
      description: Database and the server's version.
      type: dict
    started_at:
      description: Start, ISO 8601, UTC.
      type: str
    finished_at:
      description: End, ISO 8601, UTC.
      type: str
    duration:
      description: Seconds.
      type: float
differences:
  description: All differences; empty if the sides are equal.
  type: list
  elements: dict
  returned: always
  contains:
    table:
      description: Name of the table.
      type: str
    what:
      description: The figure that differs.
      type: str
    source:
      description: Its value in SQLite.
      type: raw
    target:
      description: Its value in PostgreSQL.
      type: raw
notes:
  description: Why nothing was compared.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.options import (
    connection_argument_spec,
    target_from,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.verify import (
    VerifyRequest,
    verify,
)


def main() -> None:
    spec = connection_argument_spec()
    spec["depth"] = {"type": "str", "default": "counts", "choices": ["counts"]}
    spec["record"] = {"type": "bool", "default": False}
    spec["again"] = {"type": "bool", "default": False}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    params = module.params
    request = VerifyRequest(
        source=params["src"],
        target=target_from(params),
        schema=params["schema"],
        include=params["include"],
        exclude=params["exclude"],
        depth=params["depth"],
        record=params["record"],
        again=params["again"],
        check_mode=module.check_mode,
    )
    try:
        verdict = verify(request)
    except MigrationError as error:
        module.fail_json(msg=error.message, **error.details)
    module.exit_json(**vars(verdict))


if __name__ == "__main__":
    main()
