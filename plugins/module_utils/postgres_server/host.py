# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role must know of a host before it changes it: clusters, their libraries, the disk."""

from __future__ import annotations

# It runs on the host without Ansible, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import glob
import json
import os
import pwd
import subprocess
from typing import Any

ETC = "/etc/postgresql"
LIB = "/usr/lib/postgresql"
DATA = "/var/lib/postgresql"

_QUESTION = """
SELECT json_build_object(
'version', current_setting('server_version'),
'roles', (SELECT json_agg(rolname) FROM pg_roles),
'databases', (SELECT json_agg(datname) FROM pg_database WHERE NOT datistemplate))
"""


def clusters(etc: str = ETC) -> list[str]:
    """Major versions that have a configuration here, oldest first."""
    found = [name for name in _listed(etc) if os.path.isdir(os.path.join(etc, name))]
    return sorted(found, key=lambda name: [int(p) if p.isdigit() else 0 for p in name.split(".")])


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def libraries(lib: str = LIB) -> dict[str, list[str]]:
    """For each major version whose server is installed, the libraries that it can load."""
    found = {}
    for program in glob.glob(f"{lib}/*/bin/postgres"):
        major = program.split(os.sep)[-3]
        names = [name[:-3] for name in _listed(f"{lib}/{major}/lib") if name.endswith(".so")]
        found[major] = sorted(names)
    return found


def _parent(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    return path


def disk_kind(path: str = DATA, sys_block: str = "/sys/dev/block") -> str:
    """``ssd`` or ``hdd`` as the kernel says of the disk below ``path``, else ``unknown``."""
    device = os.stat(_parent(path)).st_dev
    place = os.path.realpath(f"{sys_block}/{os.major(device)}:{os.minor(device)}")
    # A partition has no queue of its own.
    for folder in (place, os.path.dirname(place)):
        try:
            with open(f"{folder}/queue/rotational", encoding="ascii") as stream:
                return "hdd" if stream.read().strip() == "1" else "ssd"
        except OSError:
            continue
    return "unknown"


def disk_total_mb(path: str = DATA) -> int:
    told = os.statvfs(_parent(path))
    return told.f_blocks * told.f_frsize // 2**20


def server(major: str, name: str = "main") -> dict[str, Any]:
    """Roles and databases of a running cluster; nothing of one that doesn't answer."""
    try:
        with open(f"{DATA}/{major}/{name}/postmaster.pid", encoding="utf-8") as stream:
            port = stream.read().splitlines()[3]
        pwd.getpwnam("postgres")
        done = subprocess.run(
            ["runuser", "-u", "postgres", "--", "psql", "-XAtqw", f"--port={port}"]
            + ["--dbname=postgres", "-c", _QUESTION],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, cwd="/",
            check=False,
        )  # fmt: skip
        told: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, KeyError, IndexError, ValueError, subprocess.TimeoutExpired):
        return {}
    return {**told, "port": int(port)} if told else {}


def look() -> dict[str, Any]:
    """All of it."""
    there = clusters()
    return {
        "clusters": there,
        "libraries": libraries(),
        "disk": disk_kind(),
        "disk_total_mb": disk_total_mb(),
        "servers": {major: server(major) for major in there},
    }
