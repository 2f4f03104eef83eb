# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a server's processes hold connections that they accepted; from /proc alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

_ESTABLISHED = {"01", "08"}


def unix_inodes(table: str, path: str) -> set[str]:
    """Server ends of connections to a unix socket, from the text of /proc/net/unix."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split(None, 7)
        # Flags 00010000 is the listening one itself; state 03 is connected.
        if len(fields) == 8 and fields[7] == path and fields[5] == "03":
            if not int(fields[3], 16) & 0x10000:
                found.add(fields[6])
    return found


def tcp_inodes(table: str, port: int) -> set[str]:
    """Established connections to a port, from the text of /proc/net/tcp or tcp6."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] not in _ESTABLISHED or fields[9] == "0":
            continue
        if int(fields[1].rpartition(":")[2], 16) == port:
            found.add(fields[9])
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def family(main: int, proc: str = "/proc") -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for name in os.listdir(proc):
        if name.isdigit():
            fields = _read(f"{proc}/{name}/stat").rpartition(")")[2].split()
            if len(fields) > 1:
                children.setdefault(int(fields[1]), []).append(int(name))
    found, pending = [], [main]
    while pending:
        one = pending.pop()
        found.append(one)
        pending += children.get(one, [])
    return found


def accepted(pids: Iterable[int], listen: str, proc: str = "/proc") -> int:
    """How many connections to the address these processes hold open."""
    if listen.startswith("/"):
        inodes = unix_inodes(_read(f"{proc}/net/unix"), listen)
    else:
        port = int(listen.rpartition(":")[2])
        inodes = tcp_inodes(_read(f"{proc}/net/tcp"), port)
        inodes |= tcp_inodes(_read(f"{proc}/net/tcp6"), port)
    wanted = {f"socket:[{inode}]" for inode in inodes}
    count = 0
    for pid in pids:
        folder = f"{proc}/{pid}/fd"
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                with contextlib.suppress(OSError):
                    count += os.readlink(f"{folder}/{name}") in wanted
    return count
