# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A play on this host, run by ansible-playbook as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def run_play(folder: Path, tasks: list[dict[str, Any]], *options: str) -> tuple[int, str]:
    """Its exit code, and all that it printed."""
    book = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": sys.executable},
            "tasks": tasks,
        }
    ]
    (folder / "play.json").write_text(json.dumps(book))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook", "-i", "localhost,"),
            *(str(folder / "play.json"), *options),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_NOCOLOR": "1",
        },
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
