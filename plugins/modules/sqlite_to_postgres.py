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
    indexes, foreign keys, C(NOT NULL), defaults, checks and generated columns of a SQLite database
    into a schema of a PostgreSQL database, in one transaction. Either everything is there
    afterwards, or nothing.
  - The source is opened read-only in one snapshot and never changed. Its own integrity and its
    foreign keys are checked first.
  - The target's tables are made from what SQLite says about them, or those are used that the
    application's own migrations have made; see O(schema_mode).
  - Every value is checked. A value that its PostgreSQL column can't hold exactly (text in an
    C(INTEGER) column, a date that is none, a NUL byte, a text longer than its column) stops the
    migration, and all of them are listed by table, column, rowid and count. Other policies than
    stopping are set with O(on_bad_value).
  - What PostgreSQL has no equal for (views, triggers, virtual tables, some expressions) is listed
    in RV(not_carried), with its SQL, and as warnings.
  - The row counts of all tables are compared before the transaction is committed.
  - The migration is recorded in the table C(golive_webstack.migration) of the target database, so
    that it happens only once per schema. The role needs the right to create that schema.
  - Names are kept as they are. Those that PostgreSQL can't hold (empty, longer than 63 bytes, or a
    system column's such as C(ctid)) get the nearest one that it can, and a warning says so;
    O(rename) sets another.
  - C(JSON) columns, and texts with C(CHECK (json_valid())), become C(json), which keeps the exact
    text; they become C(jsonb) if they are in an index or key, which a warning says.
  - SQLite keeps decimals as 64-bit reals. Where a column has a scale, as in C(NUMERIC(10,2)), a
    real is read as the decimal of 15 digits that it stands for (0.30000000000000004 is 0.30); one
    that doesn't fit then is a bad value. Reals in other columns stay as they are, bit by bit.
  - Times that are stored as numbers stay numbers, as the application writes them; O(type_overrides)
    turns them into times.
notes:
  - Stop the application before the final migration. Rows that it writes to SQLite after the
    snapshot are not in PostgreSQL; the next run then fails, and says so.
  - A run on a database in WAL mode that is killed can leave an empty C(-wal) and a C(-shm) file
    beside it, as every reader of SQLite does. They hold no data.
  - The role that connects will own what is made.
  - On a host with several processors up to four processes read a large table together, all from
    one snapshot. What PostgreSQL gets is the same as from one.
  - Texts in C(text) and C(varchar) columns sort by the database's collation, not by bytes as in
    SQLite.
  - Columns with C(COLLATE NOCASE) compare exactly in PostgreSQL. Their unique keys and indexes keep
    SQLite's meaning, which folds the 26 letters of ASCII only. An application that searches them
    without regard to case needs C(citext) (by O(type_overrides), where the extension is there), or
    lower() in its queries.
  - Django and SQLAlchemy store some types in SQLite otherwise than in PostgreSQL (UUID as 32 hex
    digits, durations as numbers or times, times with a zone without it). Tables that their own
    migrations made, with O(schema_mode=existing), get each value in the right form.
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
extends_documentation_fragment:
  - golive.webstack.postgres
  - golive.webstack.postgres.source
  - golive.webstack.attributes
options:
  source_changed:
    description:
      - What to do if the schema was migrated before, and the SQLite file's content has changed
        since. V(fail) stops; V(ignore) only warns. Neither migrates again.
    type: str
    choices: [fail, ignore]
    default: fail
  schema_mode:
    description:
      - V(create) makes the tables, from SQLite's schema and what the columns really hold. The
        schema must be empty; see O(replace).
      - V(existing) loads into the tables that the application's own migrations (Alembic,
        Flask-Migrate, Django, SQLAlchemy's C(create_all())) have made. Their types, defaults and
        constraints stand, and the values take the form that these need. Rows that break its CHECK
        constraints or unique keys are listed, each kind with its count. Each table and column of
        the source must be there, and the tables must be empty; see O(replace).
      - With V(existing), foreign keys, and the keys and indexes of tables of 20000 rows or more,
        are dropped and made again within the transaction, by the same names and definitions.
        Triggers are off meanwhile. The role must own the tables, and no other session may hold them
        for more than 60 seconds.
      - With V(existing), C(alembic_version) and C(django_migrations) keep the target's rows, and
        both sides must be at the same migration. To go on regardless, name them in O(exclude).
    type: str
    choices: [create, existing]
    default: create
  type_overrides:
    description:
      - PostgreSQL types of single columns, by C(table.column). A V(*) stands for anything, as in
        C(*.created_at); an exact name wins.
      - Any type of the server, written as in C(CREATE TABLE). One that isn't PostgreSQL's own needs
        its schema before the name, such as V(public.citext).
      - How the values change their form is chosen by what they are. Numbers become
        C(timestamptz), C(timestamp) or C(date) if all of them lie between 1990 and 2100 as seconds,
        milliseconds or microseconds since 1970, or as Julian days.
      - A conversion can be named instead, as in V(timestamptz using epoch_ms). They are C(epoch_s),
        C(epoch_ms), C(epoch_us), C(julian), C(naive_utc) (times without an offset are UTC),
        C(offset_utc) (times with one become UTC), C(date_part) (times of 00:00:00 become dates),
        C(interval_us) (microseconds, as Django has them), C(interval_epoch) (counted from
        1970-01-01, as SQLAlchemy has them), C(uuid_hex) and C(words) (booleans as C(t), C(false),
        C(yes) or C(off) in any case, beside 0 and 1; the way back writes the words again).
      - With O(schema_mode=existing) the target's type stands, and only a conversion can be named.
    type: dict
    default: {}
  rename:
    description:
      - New names of tables and columns, by C(table) or C(table.column). At most 63 bytes.
      - With O(schema_mode=existing), the names that they have in the target.
    type: dict
    default: {}
  on_bad_value:
    description:
      - What becomes of a value that its column can't hold exactly.
      - V(fail) stops before anything is committed, and lists the rows.
      - V(null) (with quotes in YAML) writes NULL. The table C(golive_webstack.nulled) lists every
        such row, and RV(nulled) the first ones. In a C(NOT NULL) column it stops as V(fail) does.
      - V(text) makes the column C(text), which holds every value in a readable form; blobs as
        C(\x) and hexadecimal digits. Only with O(schema_mode=create).
      - V(quarantine) writes NULL too, and leaves out the whole row where the column is
        C(NOT NULL). The table C(golive_webstack.quarantine) keeps the original bytes, the row's
        key and the reason, and RV(quarantined) lists them.
    type: str
    choices: [fail, 'null', text, quarantine]
    default: fail
  bad_value_columns:
    description: The same for single columns, by C(table.column), with V(*) as in O(type_overrides).
    type: dict
    default: {}
  replace:
    description:
      - What a schema that isn't empty may lose. Without it, such a schema is refused.
      - With O(schema_mode=create), the names of all tables, views and sequences that are dropped.
      - With O(schema_mode=existing), the names of the tables whose rows are deleted. Django's
        C(migrate) fills C(django_content_type) and C(auth_permission).
      - V(*) alone stands for everything that is there. Nothing is lost before the commit.
    type: list
    elements: str
    default: []
  integrity:
    description:
      - How the SQLite file is checked for damage. Nothing is migrated if there is any.
      - V(rows) is SQLite's C(quick_check), which looks at every page and every row, and compares
        the rows that each index has with those of its table, so that lost rows are found. Where
        an index can't be compared like that, or differs, SQLite's C(integrity_check) reads the
        whole table.
      - V(full) is SQLite's C(integrity_check) for everything. It also finds entries of an index
        with another value than their row has. A migration doesn't read these, as PostgreSQL makes
        its indexes from the rows; with large files it costs some 8 % of the migration's time.
      - V(quick) is C(quick_check) alone.
    type: str
    choices: [rows, full, quick]
    default: rows
  backup_copy:
    description:
      - Folder on the host for a checked copy of the snapshot that was migrated, with its SHA-256 in
        a file beside it. No copy if empty. The folder must exist and have room.
    type: path
    default: ""
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

- name: Into the tables that Django's migrate has made
  golive.webstack.sqlite_to_postgres:
    src: /srv/shop/db.sqlite3
    login_host: 127.0.0.1
    login_user: shop
    login_password: "{{ shop_database_password }}"
    login_db: shop
    schema_mode: existing
    replace:
      - django_content_type
      - auth_permission

- name: With times for numbers, another name, and broken values set aside
  golive.webstack.sqlite_to_postgres:
    src: /srv/app/instance/app.db
    login_host: 127.0.0.1
    login_user: app
    login_password: "{{ app_database_password }}"
    login_db: app
    type_overrides:
      "events.at": timestamptz
      "jobs.started": timestamptz using epoch_ms
    rename:
      order: orders
    bad_value_columns:
      "events.payload": quarantine
    backup_copy: /srv/app/backup
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
      description: Name of the table in SQLite.
      type: str
    target_name:
      description: Its name in PostgreSQL.
      type: str
    source_rows:
      description: Rows in the source's snapshot.
      type: int
    target_rows:
      description: Rows counted in PostgreSQL; null in check mode.
      type: int
    columns:
      description: >-
        Each column's name, name in PostgreSQL, type, conversion and policy. With the reason,
        default and more if just migrated; with a profile of the values (counts by storage class,
        lengths) in check mode.
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
  contains:
    mode:
      description: As O(schema_mode).
      type: str
    tables:
      description: >-
        Each table with rows, bytes (in check mode), columns, and the statements that make it, its
        keys, indexes, checks and foreign keys.
      type: list
      elements: dict
    dropped:
      description: What O(replace) takes out of the target first, with O(schema_mode=create).
      type: list
      elements: str
    problems:
      description: >-
        The values that the target can't hold and, with the name of the constraint, the rows that
        break constraints of existing tables: by table, column and reason, with their count, the
        first rows, and what is done about them.
      type: list
      elements: dict
    estimate:
      description: The shortest and longest time in seconds that is to be expected, and why.
      type: dict
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
    sql:
      description: Its text in SQLite, for views, triggers and virtual tables.
      type: str
nulled:
  description: >-
    Values that became NULL by O(on_bad_value), by table, column and reason, with their count and
    the first rows. All of them are listed in C(golive_webstack.nulled).
  type: list
  elements: dict
  returned: success
quarantined:
  description: >-
    Values that went to C(golive_webstack.quarantine), by table, column and reason, with their count
    and the first rows.
  type: list
  elements: dict
  returned: success
backup_copy:
  description: Path of the checked copy of the source, if O(backup_copy) asked for one.
  type: str
  returned: success
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

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.load import (
    Request,
    migrate,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.options import (
    migration_argument_spec,
    or_fail,
    shared_fields,
    warn_of_left_out,
)


def main() -> None:
    module = AnsibleModule(argument_spec=migration_argument_spec(), supports_check_mode=True)
    given = module.params
    request = Request(
        source=given["src"],
        source_changed=given["source_changed"],
        target_schema_mode=given["schema_mode"],
        type_overrides={k: str(v) for k, v in given["type_overrides"].items()},
        rename={k: str(v) for k, v in given["rename"].items()},
        on_bad_value=given["on_bad_value"],
        # An unquoted null in YAML is None.
        bad_value_columns={
            k: "null" if v is None else str(v) for k, v in given["bad_value_columns"].items()
        },
        replace=given["replace"],
        integrity=given["integrity"],
        backup_copy=given["backup_copy"],
        **shared_fields(given, module.check_mode),
    )
    outcome = or_fail(module, lambda: migrate(request))
    for warning in outcome.warnings:
        module.warn(warning)
    result = outcome.as_dict()
    if outcome.changed:
        warn_of_left_out(module, outcome.not_carried)
        if module._diff:
            result["diff"] = {"before": "", "after": outcome.plan_text}
    del result["warnings"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
