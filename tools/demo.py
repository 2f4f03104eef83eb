# SPDX-License-Identifier: GPL-3.0-or-later
"""bin/demo: the example application taken live in one container on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.collections import unpack_collections
from tools.common import CACHE, LABEL, ROOT, ToolError, capture, complain, note, say
from tools.engine import (
    Docker,
    docker_engine,
    find_docker,
    own_certificates,
    proxy_options,
    stop_if_ours,
)
from tools.image import (
    RUN_OPTIONS,
    SUITES,
    check_room,
    ensure_image,
    remove_images,
    tag,
    wait_for_systemd,
)
from tools.python_env import control_environment, environment

NAME = "golive-demo"
FOLDER = CACHE / "demo"
DATABASE = FOLDER / "validation_dashboard.db"
REPORT = FOLDER / "report.json"
LOG = FOLDER / "ansible.log"
SAMPLE_DATA = ROOT / "examples" / "live_dashboard" / "sample_data.py"
README = "examples/live_dashboard/README.md"
PATHS = ("/health", "/api/stats")

USAGE = f"""\
Usage: bin/demo [up | down | status | --help]

  up (or nothing)  take the example application live in one container: PostgreSQL, Redis,
                   Gunicorn and nginx on Debian, with the rows of a SQLite file moved over
                   and compared. A second run changes nothing.
  status           what is running, and whether it answers
  down             remove what the demo made, and nothing else

Environment:
  GOLIVE_DEMO_PORT=8080       the port on 127.0.0.1
  GOLIVE_DEMO_IMAGE=debian12  the Debian release of the container: {" or ".join(SUITES)}
  GOLIVE_PYTHON=3.11          choose another Python for Ansible than the newest
  GOLIVE_DEBIAN_MIRROR=URL    the Debian mirror to make the image from

Exit codes: 0 live and answering; 1 a check failed; 2 something on this machine is in the
way (the message says what to set) or a task failed; 130 stopped by Ctrl-C; any other is
ansible-playbook's own.
"""


@dataclass(frozen=True)
class Settings:
    port: int
    image: str


def read_settings() -> Settings:
    text = os.environ.get("GOLIVE_DEMO_PORT", "8080").strip()
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ToolError(f"GOLIVE_DEMO_PORT={text} is no port. Set a number from 1 to 65535.")
    image = os.environ.get("GOLIVE_DEMO_IMAGE", "debian12").strip()
    if image not in SUITES:
        raise ToolError(f"GOLIVE_DEMO_IMAGE={image} is not known. Set one of {', '.join(SUITES)}.")
    return Settings(int(text), image)


def _port_holder(port: int) -> str:
    listing = capture(["ss", "-Hltnp", f"sport = :{port}"]).stdout
    found = re.search(r'users:\(\("([^"]+)",pid=(\d+)', listing)
    return f" by {found[1]} (process {found[2]})" if found else ""


def _check_port(docker: Docker, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return
        except PermissionError as error:
            raise ToolError(
                f"port {port} needs root. Set GOLIVE_DEMO_PORT to a number above 1023."
            ) from error
        except OSError:
            pass
    container = docker.try_run("ps", "--filter", f"publish={port}", "--format", "{{.Names}}")
    holder = f" by the container {container}" if container else _port_holder(port)
    raise ToolError(
        f"port {port} on 127.0.0.1 is taken{holder}."
        f" Choose another: GOLIVE_DEMO_PORT={port + 1 if port < 65535 else 8080} bin/demo"
    )


def _container_state(docker: Docker) -> dict[str, Any] | None:
    text = docker.try_run("container", "inspect", NAME)
    return None if text is None else dict(json.loads(text)[0])


def _is_ours(state: dict[str, Any]) -> bool:
    return bool((state["Config"]["Labels"] or {}).get(LABEL) == "demo")


def _foreign(kind: str) -> ToolError:
    return ToolError(
        f"there is a {kind} named {NAME} that bin/demo did not make (it lacks the label"
        f" {LABEL}=demo). Rename or remove it: docker {kind} inspect {NAME}"
    )


def _matches(state: dict[str, Any], settings: Settings) -> bool:
    bindings = (state["HostConfig"]["PortBindings"] or {}).get("80/tcp") or [{}]
    return (
        str(bindings[0].get("HostPort")) == str(settings.port)
        and str(state["Config"]["Labels"].get(f"{LABEL}.image")) == settings.image
    )


def _start_container(docker: Docker, settings: Settings) -> None:
    state = _container_state(docker)
    if state and not _is_ours(state):
        raise _foreign("container")
    if state and not _matches(state, settings):
        say("The demo's container has another port or release: making it anew")
        docker.run("rm", "-f", "-v", NAME)
        state = None
    label = docker.label_of("network", NAME)
    if label is not None and label != "demo":
        raise _foreign("network")
    if state and state["State"]["Running"]:
        return
    _check_port(docker, settings.port)
    if state:
        say(f"Starting the container {NAME} again")
        if docker.try_run("start", NAME) is not None:
            return
        # A killed engine can leave a container that no longer starts; its data was a demo's.
        note("It does not start any more; making it anew")
        docker.run("rm", "-f", "-v", NAME)
    image = ensure_image(docker, settings.image)
    if label is None:
        docker.run("network", "create", "--label", f"{LABEL}=demo", NAME)
    say(f"Starting the container {NAME} from {image}")
    docker.run(
        "run", "--detach", "--name", NAME, "--hostname", NAME, "--network", NAME,
        "--publish", f"127.0.0.1:{settings.port}:80",
        "--label", f"{LABEL}=demo", "--label", f"{LABEL}.image={settings.image}",
        *RUN_OPTIONS, *proxy_options(), image,
    )  # fmt: skip


def _sample_database() -> None:
    if DATABASE.exists():
        return
    say(f"Making the SQLite file {DATABASE.relative_to(ROOT)}")
    fresh = DATABASE.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    command = [sys.executable, str(SAMPLE_DATA), "--log-entries", "20000", "--seed", "42"]
    done = capture([*command, str(fresh)], timeout=600)
    if done.returncode != 0:
        raise ToolError(f"{SAMPLE_DATA.relative_to(ROOT)} failed:\n{done.stderr.strip()}")
    # Under its own name only when whole: a second run must find the same file.
    os.replace(fresh, DATABASE)


def _play(docker: Docker, venv: Path) -> tuple[int, int]:
    """Run the site playbook; ansible-playbook's exit code and the number of changes."""
    command = [
        str(venv / "bin" / "ansible-playbook"),
        "-i", str(ROOT / "inventories" / "demo" / "hosts.yml"),
        str(ROOT / "playbooks" / "site.yml"),
        "-e", json.dumps({
            "webstack_sqlite_file": str(DATABASE),
            "webstack_report_file": str(REPORT),
            "webstack_extra_ca_certificates": own_certificates(),
        }),
    ]  # fmt: skip
    env = environment(venv)
    # The connection plugin calls 'docker', and the first on PATH may be one that can't.
    env["ANSIBLE_DOCKER_COMMAND"] = docker.client
    colour = sys.stdout.isatty() and not env.get("NO_COLOR")
    if colour:
        env["ANSIBLE_FORCE_COLOR"] = "true"
    say("Running playbooks/site.yml")
    changed = 0
    with LOG.open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
                log.write(plain)
                if found := re.match(r"\S+\s+: ok=\d+\s+changed=(\d+)", plain):
                    changed += int(found[1])
            return process.wait(), changed
        except KeyboardInterrupt:
            # Ansible got the signal too; it is given the time to end its task.
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def request(url: str, timeout: float = 10) -> tuple[int, str]:
    """Status and start of the answer; status 0 when there is no answer."""
    # The demo is on loopback: a proxy of the environment must not get in between.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(url, timeout=timeout) as answer:
            return answer.status, answer.read(2000).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(2000).decode(errors="replace")
    except (OSError, ValueError) as error:
        return 0, str(error)


def _check_answers(base: str) -> bool:
    good = True
    for path in PATHS:
        status, body = request(base + path)
        brief = " ".join(body.split())
        brief = brief if len(brief) <= 90 else brief[:87] + "..."
        note(f"GET {path:<12} {status or 'no answer'}  {brief}")
        good = good and status == 200
    return good


def _read_report() -> dict[str, Any]:
    try:
        report = json.loads(REPORT.read_text())
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def _show_report(report: dict[str, Any]) -> bool:
    """Phases with their times and the rows on both sides; whether the rows agree."""
    for phase in report.get("phases", []):
        note(f"{phase['phase']:<22} {float(phase['seconds']):7.1f} s")
        for proof in phase.get("proved", []):
            note(f"    {proof}")
    tables = report.get("tables", [])
    agree = True
    if tables:
        width = max(len(str(table["name"])) for table in tables)
        note(f"{'table':<{width}}  {'SQLite':>9}  {'PostgreSQL':>10}")
        for table in tables:
            same = table["source_rows"] == table["target_rows"]
            agree = agree and same
            note(
                f"{table['name']:<{width}}  {table['source_rows']:>9}  {table['target_rows']:>10}"
                + ("" if same else "  differ")
            )
    return agree


def _up() -> int:
    settings = read_settings()
    began = time.monotonic()
    docker = docker_engine("demo")
    assert docker is not None
    # Before anything takes long: what would stop the run at its end stops it here.
    state = _container_state(docker)
    if state and not _is_ours(state):
        raise _foreign("container")
    if state is None or not state["State"]["Running"]:
        check_room(docker)
        _check_port(docker, settings.port)
    venv = control_environment()
    unpack_collections(venv)
    FOLDER.mkdir(parents=True, exist_ok=True)
    _sample_database()
    _start_container(docker, settings)
    failed = wait_for_systemd(docker, NAME)
    if failed:
        note(f"Units that failed at the start of the container:\n{failed}")
    REPORT.unlink(missing_ok=True)
    code, changed = _play(docker, venv)
    print()
    if code != 0:
        complain(
            f"ansible-playbook ended with exit code {code}; the failed task is the last one above"
            f" and in {LOG.relative_to(ROOT)}. The container {NAME} is left as it is:"
            f" 'docker exec {NAME} journalctl -n 50' shows its journal. 'bin/demo' goes on from"
            " here, 'bin/demo down' removes it."
        )
        return code
    base = f"http://127.0.0.1:{settings.port}"
    report = _read_report()
    say("Done and proved")
    agree = _show_report(report)
    say("Answers")
    good = _check_answers(base)
    say("Result")
    note(f"Address:  {base}/")
    note(f"Log in:   {README} names the sample users and their passwords")
    note(f"Log:      {LOG.relative_to(ROOT)}")
    note(f"Changes:  changed={changed} in {time.monotonic() - began:.0f} s")
    if changed == 0:
        note("Nothing changed.")
    note("Remove:   bin/demo down")
    if not report:
        complain(f"playbooks/site.yml wrote no report ({REPORT.relative_to(ROOT)}).")
    if not agree:
        complain("the rows in PostgreSQL are not those of the SQLite file; see the table above.")
    if not good:
        complain(f"{base} does not answer as it should; see 'Answers' above and {LOG}.")
    return 0 if good and agree and report else 1


def _down() -> int:
    # An engine that is down may still hold our container; without traces of a demo it
    # isn't started just to be asked.
    docker = find_docker()[0]
    if docker is None and FOLDER.exists():
        docker = docker_engine("demo", install=False)
    removed: list[str] = []
    kept: list[str] = []
    if docker:
        removed += docker.remove_labelled("demo")
        for name in SUITES:
            if docker.label_of("image", tag(f"{name}-cached")) is None:
                removed += remove_images(docker, [name])
            else:
                kept.append(f"{tag(name)} (bin/test's images are built on it; bin/test --clean)")
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
        removed.append(str(FOLDER.relative_to(ROOT)))
    if docker:
        engine = stop_if_ours(docker, "demo")
        if engine:
            kept.append(engine)
        else:
            removed.append("the Docker engine that this command had started (stopped)")
    say("Removed: " + (", ".join(removed) if removed else "nothing, there was nothing left"))
    kept += [f"{p} (delete the folder when you like)" for p in (".venv", ".cache") if
             (ROOT / p).exists()]  # fmt: skip
    if kept:
        say("Left in place:")
        for line in kept:
            note(line)
    return 0


def _status() -> int:
    docker, complaint = find_docker()
    if docker is None:
        say(f"No Docker engine answers ({complaint or 'docker is not installed'})")
        return 1
    state = _container_state(docker)
    if state is None:
        say("The demo is not there. 'bin/demo' starts it.")
        return 1
    if not _is_ours(state):
        raise _foreign("container")
    running = state["State"]["Running"]
    port = ((state["HostConfig"]["PortBindings"] or {}).get("80/tcp") or [{}])[0].get("HostPort")
    release = state["Config"]["Labels"].get(f"{LABEL}.image")
    say(f"Container {NAME} ({release}): {state['State']['Status']}")
    if not running:
        note("'bin/demo' starts it again.")
        return 1
    base = f"http://127.0.0.1:{port}"
    good = _check_answers(base)
    report = _read_report()
    if report:
        say("The last whole run")
        _show_report(report)
    say(f"Address: {base}/")
    return 0 if good else 1


def main(arguments: list[str]) -> int:
    if any(word in ("-h", "--help", "help") for word in arguments):
        print(USAGE, end="")
        return 0
    actions = {"up": _up, "down": _down, "status": _status}
    if len(arguments) > 1 or (arguments and arguments[0] not in actions):
        raise ToolError(
            f"bin/demo doesn't know '{' '.join(arguments)}'."
            " Use: bin/demo [up | down | status | --help]"
        )
    return actions[arguments[0] if arguments else "up"]()
