# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The migration without Ansible: SOURCE from the command line, the DSN from GOLIVE_DSN.

The DSN comes from the environment because a command line can be read by every user.
"""

from __future__ import annotations

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
    options = parser.parse_args()
    dsn = os.environ.get("GOLIVE_DSN")
    if not dsn:
        parser.error("set GOLIVE_DSN to the target's connection string")
    try:
        outcome = migrate(
            Request(
                options.source,
                Target(dsn=dsn),
                schema=options.schema,
                check_mode=options.check,
            )
        )
    except MigrationError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(outcome.plan_text if options.check else json.dumps(outcome.as_dict(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
