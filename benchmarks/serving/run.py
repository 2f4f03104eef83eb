#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What do the collection's serving settings bring, against those of the checklist?

The example application with PostgreSQL, Redis, Gunicorn and nginx, all set up by the playbooks in
one container; beside it the same release under the checklist's Gunicorn settings, and a hello-world
application. The ways take turns, so that all of them meet the same neighbours.

Absolute figures depend on the machine; the ratios are what to compare. Writes results.json and
RESULTS.md beside this file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from tools.collections import unpack_collections  # noqa: E402
from tools.common import CACHE, LABEL, ToolError, guarded, note, say  # noqa: E402
from tools.engine import Docker, docker_engine, own_certificates, proxy_options  # noqa: E402
from tools.image import RUN_OPTIONS, SUITES, ensure_image, wait_for_systemd  # noqa: E402
from tools.python_env import control_environment, environment  # noqa: E402

WORK = CACHE / "benchmark" / "serving"
CONTAINER = "golive-bench-serving"
INVENTORY_HOST = "golive-demo"
APP = "live-dashboard"
PHASES = ("phase1_database", "phase2_cache", "phase3_application", "phase4_proxy")
CONNECTIONS = 32

# Units whose processor time and memory belong to a way, as they stand in a process's cgroup.
UNITS = {
    "required": ["bench-required.service"],
    "ours": [f"{APP}@", f"{APP}.service"],
    "hello": ["bench-hello.service"],
    "cached": [f"{APP}@", f"{APP}.service"],
    "static": [],
}
PORTS = {"required": 8001, "ours": 80, "hello": 8002, "cached": 8003, "static": 8003}
PATHS = {"hello": "/", "cached": "/api/stats", "static": "/files/stats.json"}
TITLES = {
    "required": "the checklist's settings: sync, 2 x CPU + 1 workers, TCP, access log of its own",
    "ours": "the collection's settings",
    "hello": "hello world, the collection's settings",
    "cached": "cached path (`cache`)",
    "static": "static file of the same size",
}
SITES = [
    {"name": APP, "upstream": [f"unix:/run/{APP}.sock"], "server_names": []},
    {"name": "required", "upstream": ["127.0.0.1:9001"], "port": PORTS["required"]},
    {"name": "hello", "upstream": ["unix:/run/bench-hello.sock"], "port": PORTS["hello"]},
    {
        "name": "cached",
        "upstream": [f"unix:/run/{APP}.sock"],
        "port": PORTS["cached"],
        "cache": [
            {
                "path": "/api/stats",
                "valid": "10m",
                "ignore_cache_control": True,
                "bypass_cookies": [],
            }
        ],
        "static": [{"url": "/files/", "path": "/srv/bench/files"}],
    },
]


def shell(docker: Docker, script: str, *arguments: str) -> str:
    return docker.run("exec", CONTAINER, "sh", "-ec", script, "sh", *arguments, timeout=1800)


def play(docker: Docker, venv: Path, playbooks: Sequence[Path], values: dict[str, Any]) -> None:
    env = environment(venv)
    env.update(ANSIBLE_DOCKER_COMMAND=docker.client, ANSIBLE_PIPELINING="true")
    override = WORK / "container.json"
    override.write_text(
        json.dumps({"all": {"hosts": {INVENTORY_HOST: {"ansible_host": CONTAINER}}}})
    )
    command = [
        str(venv / "bin" / "ansible-playbook"),
        "-i", str(ROOT / "inventories" / "demo" / "hosts.yml"), "-i", str(override),
        *map(str, playbooks), "-e", json.dumps(values),
    ]  # fmt: skip
    log = WORK / "ansible.log"
    with log.open("a") as stream:
        code = subprocess.run(
            command, cwd=ROOT, env=env, stdout=stream, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code != 0:
        raise ToolError(f"{playbooks[0].name} ended with exit code {code}; see {log}")


def set_up(docker: Docker, venv: Path, image: str, rows: int) -> None:
    docker.try_run("rm", "-f", "-v", CONTAINER)
    docker.run("run", "--detach", "--name", CONTAINER, "--hostname", CONTAINER, "--label",
               f"{LABEL}=benchmark", *RUN_OPTIONS, *proxy_options(), image)  # fmt: skip
    wait_for_systemd(docker, CONTAINER)
    database = WORK / f"rows-{rows}.db"
    if not database.exists():
        fresh = database.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        sample = ROOT / "examples" / "live_dashboard" / "sample_data.py"
        arguments = ["--log-entries", str(rows), "--seed", "42", str(fresh)]
        subprocess.run([sys.executable, str(sample), *arguments], check=True, capture_output=True)
        os.replace(fresh, database)
    say("The application by the playbooks")
    values: dict[str, Any] = {
        "webstack_sqlite_file": str(database),
        "webstack_extra_ca_certificates": own_certificates(),
        "webstack_report_file": str(WORK / "report.json"),
    }
    (WORK / "ansible.log").unlink(missing_ok=True)
    play(docker, venv, [ROOT / "playbooks" / f"{phase}.yml" for phase in PHASES], values)
    say("The other ways beside it")
    limits = {"nginx_rate_limit_allow": ["127.0.0.0/8"]}
    play(docker, venv, [ROOT / "playbooks" / "phase4_proxy.yml"],
         {**values, **limits, "nginx_sites": SITES})  # fmt: skip
    docker.run("cp", f"{HERE}/inside/.", f"{CONTAINER}:/srv/bench/")
    shell(docker, "sh -e /srv/bench/start.sh")


def inside(docker: Docker, *arguments: str) -> Any:
    return json.loads(shell(docker, 'exec python3 /srv/bench/measure.py "$@"', *arguments))


def one(docker: Docker, way: str, seconds: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{PORTS[way]}{PATHS.get(way, '')}"
    units = ",".join([*UNITS[way], "nginx.service"])
    told: dict[str, Any] = inside(docker, "load", url, units, str(seconds), str(CONNECTIONS))
    note(
        f"{way}: {told['per_second']:.0f} requests/s, p95 {told['p95_ms']:.1f} ms, "
        f"{told['cpu_ms']:.3f} ms of CPU each, {told['errors']} errors"
    )
    return told


def measure(docker: Docker, arguments: argparse.Namespace) -> dict[str, Any]:
    rounds: list[dict[str, Any]] = []
    for number in range(arguments.rounds):
        say(f"Round {number + 1} of {arguments.rounds}")
        ways = ["required", "ours", "hello", "cached", "static"]
        if number % 2:
            ways.reverse()
        rounds.append({way: one(docker, way, arguments.seconds) for way in ways})
    thinking = {}
    for way in ("required", "ours"):
        say(f"{arguments.users} users who think for 1 to 5 seconds: {way}")
        thinking[way] = inside(
            docker, "think", str(PORTS[way]), str(arguments.users), str(arguments.think_seconds)
        )
        told = thinking[way]
        note(f"p95 {told['p95_ms']:.1f} ms, {told['requests']} requests, {told['errors']} errors")
    return {"rounds": rounds, "thinking": thinking}


def median(results: dict[str, Any], way: str, key: str) -> float:
    return float(statistics.median(one[way][key] for one in results["rounds"]))


def ratio(results: dict[str, Any], key: str, over: str, under: str) -> float:
    """The median of each round's own ratio: both met the same neighbours."""
    return float(statistics.median(one[over][key] / one[under][key] for one in results["rounds"]))


def markdown(results: dict[str, Any]) -> str:
    lines = [
        "# Serving: measured",
        "",
        f"Made by `benchmarks/serving/run.py` on {results['date']}: {results['image']}, "
        f"{results['processors']} processors, {results['settings']}; median of "
        f"{len(results['rounds'])} rounds of {results['seconds']} s each in turns, "
        f"{CONNECTIONS} connections. {results['neighbours']} The ratios are what to compare.",
        "",
        "| | requests/s | p50 ms | p95 ms | p99 ms | CPU ms per request | memory MB | errors |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way, title in TITLES.items():
        figures = [
            median(results, way, key) for key in ("per_second", "p50_ms", "p95_ms", "p99_ms")
        ]
        cpu = median(results, way, "cpu_ms")
        memory = f"{median(results, way, 'memory_mb'):.0f}" if way in ("required", "ours") else ""
        errors = sum(one[way]["errors"] for one in results["rounds"])
        lines.append(
            f"| {title} | {figures[0]:.0f} | "
            + " | ".join(f"{figure:.1f}" for figure in figures[1:])
            + f" | {cpu:.3f} | {memory} | {errors} |"
        )
    cpu = ratio(results, "cpu_ms", "ours", "required")
    cached = ratio(results, "per_second", "cached", "static")
    ours, required = (results["thinking"][way] for way in ("ours", "required"))
    think = f"{results['users']} users thinking 1 to 5 s, p95"
    reached = {True: "reached", False: "**not reached**"}

    def more(over: str, under: str) -> str:
        return f"{ratio(results, 'per_second', over, under):.2f}"

    table = [
        ("CPU per request, ours to the checklist's", f"{cpu:.2f}", "at most 0.75",
         reached[cpu <= 0.75]),
        ("requests/s, ours to the checklist's", more("ours", "required"), "", ""),
        ("requests/s, ours to hello world", more("ours", "hello"), "", ""),
        ("requests/s, ours to the static file", more("ours", "static"), "", ""),
        ("requests/s, hello world to the static file", more("hello", "static"), "", ""),
        ("requests/s, cached path to the static file", f"{cached:.2f}", "at least 0.85",
         reached[cached >= 0.85]),
        (f"{think}, ours", f"{ours['p95_ms']:.1f} ms, {ours['errors']} errors",
         "below 50 ms, none", reached[ours["p95_ms"] < 50 and ours["errors"] == 0]),
        (f"{think}, the checklist's", f"{required['p95_ms']:.1f} ms, {required['errors']} errors",
         "", ""),
    ]  # fmt: skip
    lines += [
        "",
        "The load of the first two is 60 % of a GET that the application caches, 30 % of a list of"
        " 50 rows, 10 % of writes. CPU is Gunicorn's and nginx's; PostgreSQL, Redis and the load"
        " itself have the rest. Memory is Gunicorn's (PSS).",
        "",
        "| | measured | goal | |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in table),
    ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--image", default="debian12", choices=sorted(SUITES))
    parser.add_argument("--rows", type=int, default=20000, help="log entries in the database")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="of each measurement")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--think-seconds", type=int, default=25)
    parser.add_argument("--neighbours", default="", help="a sentence about what else ran")
    parser.add_argument("--keep", action="store_true", help="keep the container")
    parser.add_argument(
        "--again", action="store_true", help="measure in the container that is there"
    )
    arguments = parser.parse_args(list(argv))
    WORK.mkdir(parents=True, exist_ok=True)
    venv = control_environment()
    unpack_collections(venv)
    docker = docker_engine("test")
    assert docker is not None
    try:
        if not arguments.again:
            set_up(docker, venv, ensure_image(docker, f"{arguments.image}-cached"), arguments.rows)
        results = measure(docker, arguments)
        settings = shell(docker, "cat /srv/bench/settings")
    finally:
        if not arguments.keep:
            docker.try_run("rm", "-f", "-v", CONTAINER)
    results.update(
        date=datetime.date.today().isoformat(),
        image=arguments.image,
        processors=os.cpu_count(),
        settings=settings.strip(),
        seconds=arguments.seconds,
        users=arguments.users,
        neighbours=arguments.neighbours,
    )
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (HERE / "RESULTS.md").write_text(markdown(results))
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
