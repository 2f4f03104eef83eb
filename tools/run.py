# SPDX-License-Identifier: GPL-3.0-or-later
"""bin/run: one command in the control node's environment."""

from __future__ import annotations

import os

from tools.collections import unpack_collections
from tools.common import ToolError
from tools.python_env import control_environment, environment

USAGE = """\
Usage: bin/run COMMAND [ARGUMENT...]

Runs a command with the pinned Ansible, Molecule and test tools on PATH, for example:

  bin/run ansible-playbook -i inventories/single_host/hosts.yml playbooks/site.yml --check
  bin/run molecule converge -s postgres
  bin/run pytest tests/unit -k pool
"""


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    venv = control_environment()
    unpack_collections(venv)
    env = environment(venv)
    try:
        os.execvpe(arguments[0], arguments, env)
    except OSError as error:
        raise ToolError(f"{arguments[0]} can't be run: {error.strerror}") from error
