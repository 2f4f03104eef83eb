# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does, once a second, by a process of its own that ends by itself."""

from __future__ import annotations

# This part runs without Ansible too, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import contextlib
import json
import os
import pwd
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from ansible_collections.golive.webstack.plugins.module_utils.redis_server import (
    Address,
    Client,
    Credential,
)

_ACTIVITY = """
SELECT count(*) FILTER (WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
 current_setting('max_connections')::int,
 count(*) FILTER (WHERE wait_event_type = 'Lock'),
 coalesce(1000 * max(extract(epoch FROM clock_timestamp() - query_start)) FILTER (
  WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()), 0
 )::float8
FROM pg_stat_activity
"""
# Seconds to wait for the first figures.
_FIRST = 5
Probe = Callable[[], dict[str, Any]]


def processor_times(text: str) -> tuple[int, int]:
    """Ticks in all and idle ones, of the first line of /proc/stat."""
    ticks = [int(word) for word in text.split("\n", 1)[0].split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]


def memory_percent(text: str) -> float:
    """Memory that is not available to a new process, of /proc/meminfo."""
    found = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+)", text, re.MULTILINE)}
    return round(100 * (1 - found["MemAvailable"] / found["MemTotal"]), 1)


def queue_length(text: str) -> int:
    """Connections that nobody has accepted yet, of `ss -Hl`."""
    return sum(int(words[2]) for words in map(str.split, text.splitlines()) if len(words) > 3)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


class Host:
    def __init__(self) -> None:
        self._before = processor_times(_read("/proc/stat"))

    def __call__(self) -> dict[str, Any]:
        now = processor_times(_read("/proc/stat"))
        total, idle = now[0] - self._before[0], now[1] - self._before[1]
        self._before = now
        busy = round(100 * (1 - idle / total), 1) if total else None
        return {"cpu_percent": busy, "memory_percent": memory_percent(_read("/proc/meminfo"))}


def _postgres(port: int) -> Probe:
    import psycopg2

    os.seteuid(pwd.getpwnam("postgres").pw_uid)
    try:
        connection = psycopg2.connect(
            dbname="postgres", port=port, user="postgres", connect_timeout=5,
            application_name="golive-sample",
        )  # fmt: skip
    finally:
        os.seteuid(0)
    connection.autocommit = True

    def probe() -> dict[str, Any]:
        with connection.cursor() as cursor:
            cursor.execute(_ACTIVITY)
            taken, most, waiting, slowest = cursor.fetchall()[0]
        return {
            "connections": taken, "max_connections": most, "waiting": waiting,
            "slowest_ms": round(slowest, 1),
        }  # fmt: skip

    return probe


def _redis(access: str) -> Probe:
    clients = []
    for instance in json.loads(_read(access)):
        client = Client(Address(**instance["place"]), timeout=5)
        client.log_in([Credential(instance.get("user", ""), instance.get("password", ""))])
        clients.append(client)

    def probe() -> dict[str, Any]:
        told = [client.info("stats") for client in clients]
        return {
            "hits": sum(int(one["keyspace_hits"]) for one in told),
            "misses": sum(int(one["keyspace_misses"]) for one in told),
        }

    return probe


def _nginx(url: str) -> Probe:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def probe() -> dict[str, Any]:
        with opener.open(url, timeout=2) as answer:
            found = re.search(r"Active connections: (\d+)", answer.read().decode())
        return {"proxy_connections": int(found[1])} if found else {}

    return probe


def _queue(listen: str) -> Probe:
    port = listen.rpartition(":")[2]
    how = ["-x", "src", listen] if listen.startswith("/") else ["-t", f"sport = :{port}"]

    def probe() -> dict[str, Any]:
        done = subprocess.run(
            ["ss", "-Hl", *how],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        return {"queued": queue_length(done.stdout)}

    return probe


def probes(parts: dict[str, Any]) -> tuple[list[Probe], list[str]]:
    """What can be asked here, and why the rest can't."""
    made: list[Probe] = [Host()]
    failed = []
    for name, maker in (("redis_access", _redis), ("postgres_port", _postgres),
                        ("nginx_status", _nginx), ("listen", _queue)):  # fmt: skip
        if parts.get(name):
            try:
                made.append(maker(parts[name]))
            except Exception as error:
                failed.append(f"{name}: {error}")
    return made, failed


def measure(made: list[Probe]) -> dict[str, Any]:
    told: dict[str, Any] = {"at": round(time.time(), 3)}
    for probe in made:
        # A part that is away for a moment has no figures for it; the load's own tell the rest.
        with contextlib.suppress(Exception):
            told.update(probe())
    return told


def start(path: str, seconds: float, parts: dict[str, Any]) -> list[str]:
    """Begin in a process of its own; what can't be measured, in words.

    That process opens the connections: one of PostgreSQL that two processes have is closed for both
    when the first of them ends.
    """
    stop(path)
    with open(path, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o600)
    told, tells = os.pipe()
    if os.fork():
        os.close(tells)
        with os.fdopen(told, encoding="utf-8") as answer:
            return list(json.loads(answer.read() or "[]"))
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        with open(f"{path}.pid", "w", encoding="utf-8") as stream:
            stream.write(str(os.getpid()))
        made, failed = probes(parts)
        with os.fdopen(tells, "w", encoding="utf-8") as answer:
            json.dump(failed, answer)
        end = time.monotonic() + seconds
        with open(path, "a", encoding="utf-8") as stream:
            while time.monotonic() < end:
                time.sleep(1)
                stream.write(json.dumps(measure(made)) + "\n")
                stream.flush()
    finally:
        os._exit(0)


def stop(path: str) -> list[dict[str, Any]]:
    """End it; what it has measured, after less than a second of load at its first second's end."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(_read(f"{path}.pid"))
        end = time.monotonic() + _FIRST
        while not os.path.getsize(path) and time.monotonic() < end:
            # Fails when it has ended.
            os.kill(pid, 0)
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
    found = []
    with contextlib.suppress(OSError):
        for line in _read(path).splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    for name in (path, f"{path}.pid"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    return found
