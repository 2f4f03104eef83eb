#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What does PgBouncer cost or save? pgbench through it and direct, in turns, in one container.

  short:  a new connection for each transaction, as of a script or a worker without a pool
  steady: connections that stay open, as of an application with a pool
  crowd:  more clients than max_connections allows, which only PgBouncer serves

Absolute figures depend on the machine and its neighbours; the ratios are what to compare.
Writes results.json and RESULTS.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from tools.collections import unpack_collections  # noqa: E402
from tools.common import LABEL, ToolError, guarded, say  # noqa: E402
from tools.engine import Docker, docker_engine, proxy_options  # noqa: E402
from tools.image import RUN_OPTIONS, ensure_image, wait_for_systemd  # noqa: E402
from tools.python_env import control_environment, environment  # noqa: E402

NAME = "golive-benchmark-pgbouncer"
PORTS = {"direct": 5432, "pgbouncer": 6432}
LOADS = {
    "short": ["-S", "-n", "-j", "2", "-C", "-c", "20"],
    "steady": ["-S", "-n", "-j", "2", "-c", "20"],
    "crowd": ["-S", "-n", "-j", "2", "-c", "300"],
}


def set_up(docker: Docker, suite: str) -> None:
    docker.try_run("rm", "-f", "-v", NAME)
    image = ensure_image(docker, suite)
    docker.run("run", "--detach", "--name", NAME, "--hostname", NAME, "--label",
               f"{LABEL}=benchmark", *RUN_OPTIONS, *proxy_options(), image)  # fmt: skip
    wait_for_systemd(docker, NAME)
    venv = control_environment()
    unpack_collections(venv)
    subprocess.run(
        [str(venv / "bin/ansible-playbook"), f"--inventory={NAME},"]
        + ["--connection=community.docker.docker", str(HERE / "play.yml")],
        env={**environment(venv), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        check=True,
        cwd=ROOT,
    )


def pgbench(docker: Docker, port: int, options: list[str]) -> str:
    script = (
        'exec env PGPASSWORD=only-for-this-benchmark "$(ls -d /usr/lib/postgresql/*/bin)/pgbench"'
        ' -h 127.0.0.1 -U bench -p "$@" bench 2>&1'
    )
    return docker.try_run("exec", NAME, "sh", "-c", script, "sh", str(port), *options) or "failed:"


def rate(told: str) -> float | None:
    """Transactions a second, with the time for connections where they are part of each."""
    if "Run was aborted" in told or "failed:" in told:
        return None
    found = re.search(r"^tps = ([0-9.]+)", told, re.M)
    return float(found[1]) if found else None


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="debian13-cached")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    given = parser.parse_args(arguments)
    rates: dict[str, dict[str, list[float]]] = {load: {way: [] for way in PORTS} for load in LOADS}
    docker = docker_engine("test")
    assert docker is not None
    try:
        set_up(docker, given.suite)
        told = pgbench(docker, 5432, ["-i", "-q", "-s", "10"])
        if "done in" not in told:
            raise ToolError(f"pgbench made no tables: {told}")
        for number in range(given.rounds):
            for load, options in LOADS.items():
                for way in sorted(PORTS, reverse=bool(number % 2)):
                    told = pgbench(docker, PORTS[way], [*options, "-T", str(given.seconds)])
                    value = rate(told)
                    say(f"round {number + 1}, {load}, {way}: {value or 'refused'}")
                    if value is not None:
                        rates[load][way].append(value)
    finally:
        docker.try_run("rm", "-f", "-v", NAME)
    rows = []
    for load, ways in rates.items():
        middle = {
            way: statistics.median(values) if values else None for way, values in ways.items()
        }
        direct, pooled = middle["direct"], middle["pgbouncer"]
        ratio = round(pooled / direct, 2) if direct and pooled else None
        rows.append({"load": load, **middle, "ratio": ratio})
    (HERE / "results.json").write_text(
        json.dumps({"suite": given.suite, "rounds": given.rounds, "rates": rates}, indent=1) + "\n"
    )
    lines = [
        "# PgBouncer against direct connections",
        "",
        f"`pgbench -S`, scale 10, {given.suite}, medians of {given.rounds} rounds of"
        f" {given.seconds} s in turns, transactions a second. Made by run.py.",
        "",
        "| Load | Direct | PgBouncer | Ratio |",
        "|---|---|---|---|",
    ]
    for row in rows:
        shown = [f"{row[way]:.0f}" if row[way] else "refused" for way in PORTS]
        lines.append(f"| {row['load']} | {shown[0]} | {shown[1]} | {row['ratio'] or ''} |")
    (HERE / "RESULTS.md").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
