# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's playbooks against a scenario's hosts, run as a user would run them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

ROOT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def start(name: str, *arguments: str) -> subprocess.Popen[str]:
    """The playbook `name`, in a process group of its own, so that it can be killed as a whole."""
    return subprocess.Popen(
        [
            *("ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"]),
            *(str(ROOT / "playbooks" / f"{name}.yml"), *arguments),
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def play(name: str, *arguments: str, timeout: int = 600) -> tuple[int, str]:
    """Its exit code, and what it printed, with each run of white space as one space."""
    process = start(name, *arguments)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    return process.returncode, " ".join(output.split())
