#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long does provisioning take, and how much of it is the package managers' own time?

On the same plain image, in one run:

  1. the site playbook on a fresh container, and again at once;
  2. the baseline on another fresh container: apt-get install of the packages that the
     playbook had asked for, python3 -m venv and pip install of the application's lock,
     with nothing else.

Absolute times depend on the machine and its neighbours; the ratios are what to compare.
Writes results.json and RESULTS.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
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

EXAMPLE = ROOT / "examples" / "live_dashboard"
WORK = CACHE / "benchmark"
HOST = "golive-demo"
# The role's task that makes a release's virtual environment and fills it.
PIP_TASK = "virtual environment"


def start(docker: Docker, name: str, image: str) -> None:
    docker.try_run("rm", "-f", "-v", name)
    docker.run("run", "--detach", "--name", name, "--hostname", name, "--label",
               f"{LABEL}=benchmark", *RUN_OPTIONS, *proxy_options(), image)  # fmt: skip
    wait_for_systemd(docker, name)


def shell(docker: Docker, name: str, script: str, *arguments: str) -> str:
    return docker.run("exec", name, "sh", "-ec", script, "sh", *arguments, timeout=1800)


def timed(docker: Docker, name: str, script: str, *arguments: str) -> float:
    began = time.monotonic()
    shell(docker, name, script, *arguments)
    return time.monotonic() - began


def play(docker: Docker, venv: Path, container: str, database: Path, mitogen: Path | None) -> Any:
    times = WORK / "times.json"
    times.unlink(missing_ok=True)
    env = environment(venv)
    env.update(
        ANSIBLE_DOCKER_COMMAND=docker.client,
        ANSIBLE_CALLBACK_PLUGINS=str(HERE),
        ANSIBLE_CALLBACKS_ENABLED="task_times",
        TASK_TIMES_FILE=str(times),
    )
    # As a second inventory, not as extra variables: those would reach localhost's tasks too.
    host = {"ansible_host": container}
    values: dict[str, Any] = {
        "webstack_sqlite_file": str(database),
        "webstack_extra_ca_certificates": own_certificates(),
        "webstack_report_file": str(WORK / "report.json"),
    }
    if mitogen:
        env["ANSIBLE_STRATEGY"] = "mitogen_linear"
        env["ANSIBLE_STRATEGY_PLUGINS"] = str(mitogen)
        host["ansible_connection"] = "mitogen_docker"
    override = WORK / "container.json"
    override.write_text(json.dumps({"all": {"hosts": {HOST: host}}}))
    command = [
        str(venv / "bin" / "ansible-playbook"),
        "-i", str(ROOT / "inventories" / "demo" / "hosts.yml"),
        "-i", str(override),
        str(ROOT / "playbooks" / "site.yml"), "-e", json.dumps(values),
    ]  # fmt: skip
    log = WORK / "ansible.log"
    with log.open("w") as stream:
        code = subprocess.run(
            command, cwd=ROOT, env=env, stdout=stream, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code != 0:
        raise ToolError(f"playbooks/site.yml ended with exit code {code}; see {log}")
    return json.loads(times.read_text())


def summary(run: Any) -> dict[str, Any]:
    tasks = run["tasks"]
    apt = sum(task["seconds"] for task in tasks if task["action"].endswith("apt"))
    pip = sum(task["seconds"] for task in tasks if PIP_TASK in task["name"])
    slowest = sorted(tasks, key=lambda task: -task["seconds"])[:10]
    return {
        "seconds": run["seconds"],
        "tasks": len(tasks),
        "changed": sum(host["changed"] for host in run["hosts"].values()),
        "apt_seconds": round(apt, 1),
        "pip_seconds": round(pip, 1),
        "slowest": slowest,
    }


def one_round(
    docker: Docker, venv: Path, image: str, database: Path, mitogen: Path | None
) -> dict[str, Any]:
    site, base = "golive-bench-site", "golive-bench-base"
    try:
        start(docker, site, image)
        before = set(shell(docker, site, "apt-mark showmanual").split())
        say("First run of playbooks/site.yml")
        first = summary(play(docker, venv, site, database, mitogen))
        note(f"{first['seconds']:.0f} s, {first['tasks']} tasks, changed={first['changed']}")
        packages = sorted(set(shell(docker, site, "apt-mark showmanual").split()) - before)
        say("Second run")
        second = summary(play(docker, venv, site, database, mitogen))
        note(f"{second['seconds']:.0f} s, {second['tasks']} tasks, changed={second['changed']}")
        docker.run("rm", "-f", "-v", site)

        start(docker, base, image)
        say(f"Baseline: apt-get install of {len(packages)} packages, venv, pip install")
        for certificate in own_certificates():
            docker.run("cp", certificate, f"{base}:/usr/local/share/ca-certificates/")
        shell(docker, base, "update-ca-certificates >/dev/null 2>&1")
        docker.run("cp", str(EXAMPLE / "requirements.txt"), f"{base}:/root/requirements.txt")
        apt = timed(
            docker,
            base,
            "export DEBIAN_FRONTEND=noninteractive; apt-get -q update;"
            ' apt-get -q install -y --no-install-recommends "$@"',
            *packages,
        )
        pip = timed(
            docker,
            base,
            "python3 -m venv /srv/venv; export PIP_CERT=/etc/ssl/certs/ca-certificates.crt;"
            " /srv/venv/bin/pip install -q --require-hashes -r /root/requirements.txt",
        )
        note(f"{apt + pip:.0f} s: apt {apt:.0f} s, venv and pip {pip:.0f} s")
    finally:
        for name in (site, base):
            docker.try_run("rm", "-f", "-v", name)
    baseline = {"seconds": round(apt + pip, 1), "apt_seconds": round(apt, 1),
                "pip_seconds": round(pip, 1), "packages": packages}  # fmt: skip
    return {"baseline": baseline, "first": first, "second": second}


def median(rounds: Sequence[Any], part: str, key: str) -> float:
    return round(statistics.median(one[part][key] for one in rounds), 1)


def markdown(results: dict[str, Any]) -> str:
    rounds = results["rounds"]
    base = median(rounds, "baseline", "seconds")
    lines = [
        "# Provisioning: measured",
        "",
        f"Made by `benchmarks/provision/run.py` on {results['date']}: {results['image']},"
        f" {results['processors']} processors, ansible-core {results['ansible']}, connection"
        f" {results['connection']}, median of {len(rounds)}. The ratios are what to compare;"
        " the seconds are this machine's.",
        "",
        "| | seconds | to the baseline | tasks | of it apt | of it venv and pip |",
        "|---|---|---|---|---|---|",
        f"| apt-get, venv and pip alone | {base} | 1.0 | |"
        f" {median(rounds, 'baseline', 'apt_seconds')} |"
        f" {median(rounds, 'baseline', 'pip_seconds')} |",
    ]
    for part, title in (("first", "first run of `site.yml`"), ("second", "second run")):
        seconds = median(rounds, part, "seconds")
        lines.append(
            f"| {title} | {seconds} | {seconds / base:.1f} |"
            f" {median(rounds, part, 'tasks'):.0f} | {median(rounds, part, 'apt_seconds')} |"
            f" {median(rounds, part, 'pip_seconds')} |"
        )
    lines += ["", "The slowest tasks of the first run:", ""]
    for task in rounds[-1]["first"]["slowest"]:
        lines.append(f"- {task['seconds']:.1f} s  {task['name']}")
    return "\n".join(lines) + "\n"


def mitogen_environment(venv: Path) -> tuple[Path, Path]:
    """A virtual environment of its own: mitogen is no part of the locks."""
    folder = ROOT / ".venv" / f"mitogen-{venv.name}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        say(f"Installing mitogen into {folder.relative_to(ROOT)}")
        lock = "control-py311.txt" if venv.name == "3.11" else "control-py312.txt"
        for command in (
            [str(venv / "bin" / "python"), "-m", "venv", "--clear", str(folder)],
            [str(python), "-m", "pip", "install", "-q", "--no-deps", "--require-hashes",
             "-r", str(ROOT / "requirements" / lock)],
            [str(python), "-m", "pip", "install", "-q", "mitogen==0.3.54"],
        ):  # fmt: skip
            if subprocess.run(command, check=False).returncode != 0:
                raise ToolError(f"'{' '.join(command[:5])}' failed; see above.")
        (folder / "ready").touch()
    found = subprocess.run(
        [str(python), "-c", "import ansible_mitogen, os; print(os.path.dirname("
         "ansible_mitogen.__file__))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return folder, Path(found.stdout.strip()) / "plugins" / "strategy"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--image", default="debian12", choices=list(SUITES))
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="take medians of N")
    parser.add_argument("--mitogen", action="store_true", help="run the playbook through Mitogen")
    options = parser.parse_args(arguments)
    docker = docker_engine("test")
    assert docker is not None
    venv = control_environment()
    unpack_collections(venv)
    strategy = None
    if options.mitogen:
        venv, strategy = mitogen_environment(venv)
    WORK.mkdir(parents=True, exist_ok=True)
    database = WORK / "sample.db"
    sample = [sys.executable, str(EXAMPLE / "sample_data.py"), "--log-entries", "20000",
              "--seed", "42", str(database)]  # fmt: skip
    if not database.exists() and subprocess.run(sample, check=False).returncode != 0:
        raise ToolError("examples/live_dashboard/sample_data.py failed; see above.")
    image = ensure_image(docker, options.image)
    rounds = []
    for number in range(1, options.rounds + 1):
        say(f"Round {number} of {options.rounds}")
        rounds.append(one_round(docker, venv, image, database, strategy))
    core = subprocess.run(
        [str(venv / "bin" / "python"), "-c", "from ansible.release import __version__ as v;"
         " print(v)"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    results = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "image": options.image,
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "ansible": core,
        "connection": "docker through Mitogen" if strategy else "docker with pipelining",
        "rounds": rounds,
    }
    suffix = "-mitogen" if strategy else ""
    (HERE / f"results{suffix}.json").write_text(json.dumps(results, indent=1) + "\n")
    (HERE / f"RESULTS{suffix}.md").write_text(markdown(results))
    print()
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
