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
  - Any difference is a failure that lists the differences by table, column and key.
  - Both sides are read in one snapshot each. What the migration decided (names, conversions, what
    was left out, values that a policy moved) is read from its record; a schema that was loaded
    by other means can be compared too.
  - In every depth the structure is compared as well. That means primary keys, C(NOT NULL), unique
    constraints, indexes, foreign keys, checks and defaults against SQLite's, that all of them are
    valid, and that each sequence stands above the highest value.
  - With O(record=true) the evidence is stored in C(golive_webstack.migration), and later runs
    return it without comparing again, as the application has been writing to PostgreSQL since.
notes:
  - Neither side is changed, apart from the evidence with O(record=true).
  - Values count as equal if they are the same value of their type, to the last bit for
    C(double precision), C(bytea) and texts. A C(numeric) equals a double if the double's shortest
    form, or its first fifteen digits, are that decimal. A C(json) must have the same text, a
    C(jsonb) the same content with exact numbers; that of two equal keys only the last one is
    kept is counted in the evidence.
  - The report has keys of rows that differ, and never another value.
  - Tables without a primary key, or with one that has no common order, are sorted by the rows'
    SHA-256 in a temporary file of the size of the table.
attributes:
  check_mode:
    description: >-
      Compares and stores nothing. Without psycopg2, server, database or migrated tables it adds a
      note and succeeds with RV(compared) false. A refused login is an error.
    support: full
  idempotent:
    description: Changed only when evidence is stored.
    support: full
extends_documentation_fragment:
  - golive.webstack.postgres
  - golive.webstack.postgres.source
  - golive.webstack.attributes
  - golive.webstack.attributes.no_diff
options:
  depth:
    description:
      - How much is proved.
      - V(counts) compares the rows of each table, the NULLs of each column, and least and greatest
        value of whole-number primary keys. It reads each table once on both sides.
      - V(checksums) has PostgreSQL make one SHA-256 for some 4096 rows, so that almost nothing is
        sent, and compares only ranges that differ row by row. It costs about as much work as
        V(full), but hardly any network.
      - V(full) has PostgreSQL send all rows in the order of their keys, and compares every byte.
    type: str
    choices: [counts, checksums, full]
    default: counts
  record:
    description:
      - Whether to store the evidence with the migration's record.
      - Evidence of the same depth, or of a deeper one, that is stored already is returned instead.
    type: bool
    default: false
  again:
    description: Whether to compare although evidence is stored. Only matters with O(record=true).
    type: bool
    default: false
  limit:
    description: How many differences are listed at most. All are counted.
    type: int
    default: 100
  evidence_file:
    description:
      - File on the host that the evidence is written to as JSON, also if there are differences.
      - It is replaced at once and readable by its owner only. Nothing is written if empty.
    type: path
    default: ""
seealso:
  - module: golive.webstack.sqlite_to_postgres
  - module: golive.webstack.postgres_to_sqlite
"""

EXAMPLES = r"""
- name: Prove the migration and keep the evidence
  golive.webstack.sqlite_postgres_verify:
    src: /srv/app/instance/app.db
    login_host: 127.0.0.1
    login_user: app
    login_password: "{{ app_database_password }}"
    login_db: app
    depth: full
    record: true

- name: Compare what was migrated last week, and keep the report
  golive.webstack.sqlite_postgres_verify:
    src: /srv/app/backup/app.db
    login_unix_socket: /var/run/postgresql
    login_user: app
    login_db: app
    depth: checksums
    evidence_file: /srv/app/backup/verification.json
  become: true
  become_user: app
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
    depth:
      description: The depth.
      type: str
    equal:
      description: Whether no difference was found.
      type: bool
    differences_total:
      description: How many differences there are, listed or not.
      type: int
    tables:
      description: >-
        Each table's figures on both sides; with V(checksums) the number of ranges and a checksum.
        C(moved) has the values that the migration's policies took out of the table.
      type: list
      elements: dict
    structure:
      description: >-
        What was checked, by kind and number; what the migration named as not carried over
        (C(left_out)); what can't be judged as the schema isn't the migration's own
        (C(unexplained)).
      type: dict
    notes:
      description: What else is worth knowing, such as tables that were left out.
      type: list
      elements: str
    digest:
      description: SHA-256 of the evidence without this field, as JSON with sorted keys.
      type: str
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
  description: The first differences, up to O(limit); empty if the sides are equal.
  type: list
  elements: dict
  returned: always
  contains:
    table:
      description: Name of the table.
      type: str
    what:
      description: The figure, row or value that differs.
      type: str
    kind:
      description: Missing, extra or changed for rows, structure for keys and the like.
      type: str
    column:
      description: The column whose value differs.
      type: str
    key:
      description: Key of the row, by column; the rowid or a digest for tables without a key.
      type: dict
    source:
      description: Its value in SQLite; for a row's value the storage class and the size.
      type: raw
    target:
      description: Its value in PostgreSQL; for a row's value the type and the size.
      type: raw
notes:
  description: Why nothing was compared.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.options import (
    or_fail,
    shared_fields,
    verification_argument_spec,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.verify import (
    VerifyRequest,
    verify,
)


def main() -> None:
    module = AnsibleModule(argument_spec=verification_argument_spec(), supports_check_mode=True)
    params = module.params
    request = VerifyRequest(
        source=params["src"],
        depth=params["depth"],
        record=params["record"],
        again=params["again"],
        limit=params["limit"],
        evidence_file=params["evidence_file"],
        **shared_fields(params, module.check_mode),
    )
    verdict = or_fail(module, lambda: verify(request))
    module.exit_json(**vars(verdict))


if __name__ == "__main__":
    main()
