# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The migration without Ansible: SOURCE from the command line, the DSN from GOLIVE_DSN.

The DSN comes from the environment because a command line can be read by every user.
"""

from __future__ import annotations

# This part runs without Ansible too, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import argparse
import json
import os
import sys

from .errors import MigrationError
from .load import Request, migrate
from .target import Target


def main() -> int:
    parser = argparse.ArgumentParser(prog="sqlite_migration", description=__doc__)
    parser.add_argument("source", help="SQLite file")
    parser.add_argument("--schema", default="public")
    parser.add_argument("--check", action="store_true", help="change nothing, print the plan")
    parser.add_argument("--schema-mode", default="create", choices=["create", "existing"])
    parser.add_argument("--include", action="append", default=[], metavar="TABLE")
    parser.add_argument("--exclude", action="append", default=[], metavar="TABLE")
    parser.add_argument("--type", action="append", default=[], metavar="TABLE.COLUMN=TYPE")
    parser.add_argument("--rename", action="append", default=[], metavar="NAME=NEW")
    parser.add_argument(
        "--on-bad-value", default="fail", choices=["fail", "null", "text", "quarantine"]
    )
    parser.add_argument("--bad-value", action="append", default=[], metavar="TABLE.COLUMN=POLICY")
    parser.add_argument("--replace", action="append", default=[], metavar="TABLE")
    parser.add_argument("--integrity", default="rows", choices=["rows", "full", "quick"])
    parser.add_argument("--backup-copy", default="", metavar="FOLDER")
    parser.add_argument("--progress-file", default="", metavar="FILE")
    options = parser.parse_args()
    dsn = os.environ.get("GOLIVE_DSN")
    if not dsn:
        parser.error("set GOLIVE_DSN to the target's connection string")

    def pairs(option: str, given: list[str]) -> dict[str, str]:
        split = [text.rpartition("=") for text in given]
        if any(not name or not value for name, _equals, value in split):
            parser.error(f"{option} takes NAME=VALUE")
        return {name: value for name, _equals, value in split}

    request = Request(
        options.source,
        Target(dsn=dsn),
        schema=options.schema,
        include=options.include,
        exclude=options.exclude,
        check_mode=options.check,
        target_schema_mode=options.schema_mode,
        type_overrides=pairs("--type", options.type),
        rename=pairs("--rename", options.rename),
        on_bad_value=options.on_bad_value,
        bad_value_columns=pairs("--bad-value", options.bad_value),
        replace=options.replace,
        integrity=options.integrity,
        backup_copy=options.backup_copy,
        progress_file=options.progress_file,
    )
    try:
        outcome = migrate(request)
    except MigrationError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(outcome.plan_text if options.check else json.dumps(outcome.as_dict(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
