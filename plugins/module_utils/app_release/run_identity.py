# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run of Ansible on the control node that this process belongs to."""

from __future__ import annotations

import getpass
import hashlib
import multiprocessing
import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Run:
    id: str
    user: str
    node: str
    place: str
    pid: int
    started: int


def start_time(pid: int, proc: str = "/proc") -> int | None:
    """When a process began, in the kernel's ticks; None if there is none."""
    try:
        with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            # The name in brackets can hold anything, blanks and brackets too.
            return int(stream.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def _first(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.readline().strip()
    except OSError:
        return ""


def place() -> str:
    """Where a process number means something: machine, boot and namespace of process numbers."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    text = f"{platform.node()} {_first('/proc/sys/kernel/random/boot_id')} {namespace}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def this_run() -> Run:
    """Tasks run in children of the process that holds the run."""
    parent = multiprocessing.parent_process()
    pid = parent.pid if parent is not None and parent.pid else os.getpid()
    started = start_time(pid) or 0
    here = place()
    identity = hashlib.sha256(f"{here} {pid} {started}".encode()).hexdigest()[:12]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return Run(identity, user, platform.node(), here, pid, started)


def processes(proc: str = "/proc") -> list[str]:
    """All processes of this control node, each as number:begin."""
    found = []
    for name in os.listdir(proc):
        started = start_time(int(name), proc) if name.isdigit() else None
        if started is not None:
            found.append(f"{name}:{started}")
    return found


def is_gone(held: Mapping[str, Any], here: str, running: Collection[str]) -> bool:
    """Whether a lock's process was on the control node `here` and is no more."""
    if not held.get("pid") or not running or held.get("place") != here:
        return False
    return f"{held['pid']}:{held.get('started')}" not in running
