# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker engine: use the one that answers, else install or start one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.common import (
    CACHE,
    LABEL,
    ToolError,
    apt_install,
    as_root,
    capture,
    exclusive,
    note,
    say,
    tail,
)

RECORD = CACHE / "engine.json"
LOG = CACHE / "logs" / "dockerd.log"
STOPS = {"demo": "bin/demo down", "test": "bin/test --clean"}
PID_FILE = Path("/var/run/docker.pid")


class Docker:
    """A docker client that is known to reach its engine."""

    def __init__(self, client: str) -> None:
        self.client = client

    def run(self, *arguments: str, timeout: float | None = 300) -> str:
        done = capture([self.client, *arguments], timeout=timeout)
        if done.returncode != 0:
            raise ToolError(f"docker {' '.join(arguments[:3])} failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def try_run(self, *arguments: str, timeout: float | None = 300) -> str | None:
        done = capture([self.client, *arguments], timeout=timeout)
        return done.stdout.strip() if done.returncode == 0 else None

    def labelled(self, kind: str, value: str) -> list[str]:
        """Ids of our own containers, networks or volumes."""
        filters = ["--filter", f"label={LABEL}={value}"]
        command = {
            "container": ["ps", "-aq", "--no-trunc"],
            "network": ["network", "ls", "-q", "--no-trunc"],
            "volume": ["volume", "ls", "-q"],
        }[kind]
        return self.run(*command, *filters).split()

    def remove_labelled(self, value: str) -> list[str]:
        """Remove what carries our label, and say what that was."""
        removed = []
        for identity in self.labelled("container", value):
            name = self.try_run("inspect", "-f", "{{.Name}}", identity)
            if self.try_run("rm", "-f", "-v", identity) is not None and name:
                removed.append(f"container {name.lstrip('/')}")
        for identity in self.labelled("network", value):
            name = self.try_run("network", "inspect", "-f", "{{.Name}}", identity)
            if self.try_run("network", "rm", identity) is not None and name:
                removed.append(f"network {name}")
        for identity in self.labelled("volume", value):
            if self.try_run("volume", "rm", identity) is not None:
                removed.append(f"volume {identity}")
        return removed

    def label_of(self, kind: str, name: str, label: str = LABEL) -> str | None:
        """A label's value, '' when there is none, None when the object isn't there."""
        where = ".Labels" if kind in ("network", "volume") else ".Config.Labels"
        found = self.try_run(kind, "inspect", "-f", f'{{{{index {where} "{label}"}}}}', name)
        return "" if found == "<no value>" else found

    def root(self) -> Path:
        return Path(self.run("info", "--format", "{{.DockerRootDir}}"))


def _clients() -> list[str]:
    seen = []
    for folder in [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin", "/usr/local/bin"]:
        path = os.path.join(folder, "docker")
        if folder and os.access(path, os.X_OK) and path not in seen:
            seen.append(path)
    return seen


def find_docker() -> tuple[Docker | None, str]:
    """A client whose engine answers, or the last client's complaint.

    Several clients may be installed, and a new one refuses an old engine: all are tried.
    """
    complaint = ""
    for client in _clients():
        done = capture([client, "version", "--format", "{{.Server.Version}}"], timeout=30)
        if done.returncode == 0 and done.stdout.strip():
            return Docker(client), ""
        complaint = done.stderr.strip() or complaint
    return None, complaint


def _dockerd() -> str | None:
    return shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _stale(pid_file: Path, program: str) -> bool:
    try:
        pid = int(pid_file.read_text().strip())
        return Path(f"/proc/{pid}/comm").read_text().strip() != program[:15]
    except (OSError, ValueError):
        return pid_file.exists()


def _clear_stale_state() -> None:
    """A killed engine leaves pid files whose numbers another process may bear by now."""
    for name, program in (
        (PID_FILE, "dockerd"),
        (Path("/var/run/docker/containerd/containerd.pid"), "containerd"),
    ):
        if _stale(name, program):
            note(f"Removing {name}, left by an engine that was killed")
            subprocess.run(as_root(["rm", "-f", str(name)], "Starting Docker"), check=False)


def _start_ourselves(dockerd: str, owner: str) -> None:
    _clear_stale_state()
    say(f"Starting dockerd in the background (log: {LOG})")
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("ab") as stream:
        process = subprocess.Popen(
            as_root([dockerd], "Starting Docker"),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd="/",
            start_new_session=True,
        )
    RECORD.write_text(json.dumps({"dockerd": dockerd, "pid": process.pid, "owner": owner}) + "\n")
    for _ in range(120):
        if find_docker()[0]:
            note(f"It keeps running afterwards; '{STOPS[owner]}' stops it when nothing uses it")
            return
        if process.poll() is not None:
            break
        time.sleep(0.5)
    RECORD.unlink(missing_ok=True)
    raise ToolError(
        f"dockerd did not start. Its last lines:\n{tail(LOG, 12)}\n"
        "It needs root, control groups and iptables: inside a container that has none of these"
        " it cannot run; start it on the host, or set DOCKER_HOST to an engine elsewhere on"
        f" this machine. Log: {LOG}"
    )


def _refused(complaint: str) -> ToolError | None:
    if os.environ.get("DOCKER_HOST"):
        return ToolError(
            f"DOCKER_HOST={os.environ['DOCKER_HOST']} does not answer: {complaint}"
            " Start that engine, or unset DOCKER_HOST to use this machine's own."
        )
    if "permission denied" in complaint.lower():
        return ToolError(
            "your user may not use Docker. Add it to the group docker (sudo usermod -aG docker"
            f" {os.environ.get('USER', 'USER')}; then log in again), or run this command as root."
        )
    return None


def _read_record() -> dict[str, Any]:
    try:
        record = json.loads(RECORD.read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _claim(owner: str) -> None:
    """An engine that the demo started and the tests now use is the tests' to stop."""
    record = _read_record()
    if record and owner == "test" and record.get("owner") != owner:
        RECORD.write_text(json.dumps({**record, "owner": owner}) + "\n")


def docker_engine(owner: str, *, install: bool = True) -> Docker | None:
    """The engine, started and installed as needed; None only with install=False.

    owner is 'demo' or 'test': whose command it is that stops an engine started here.
    """
    docker, complaint = find_docker()
    if docker:
        _claim(owner)
        return docker
    with exclusive("engine"):
        docker, complaint = find_docker()
        if docker:
            return docker
        if refused := _refused(complaint):
            raise refused
        if _dockerd() is None:
            if not install:
                return None
            apt_install(["docker.io", "iptables"], "The Docker engine")
        if not _clients():
            # From Debian 13 on the client is a package of its own.
            apt_install(["docker-cli"], "The Docker client")
        dockerd = _dockerd()
        if dockerd is None:
            raise ToolError("docker.io is installed, but there is no dockerd in /usr/sbin.")
        if Path("/run/systemd/system").is_dir():
            say("Starting the Docker service")
            subprocess.run(
                as_root(["systemctl", "start", "docker"], "Starting Docker"), check=False
            )
            for _ in range(60):
                if find_docker()[0]:
                    break
                time.sleep(0.5)
        elif not find_docker()[0]:
            _start_ourselves(dockerd, owner)
        docker, complaint = find_docker()
        if docker is None:
            raise _refused(complaint) or ToolError(
                f"the Docker engine does not answer: {complaint}"
                " See 'systemctl status docker' or its log."
            )
        return docker


def stop_if_ours(docker: Docker, owner: str) -> str:
    """Stop an engine that this owner started and that runs nothing; '', or why it stays."""
    record = _read_record()
    if not record:
        return "the Docker engine (it was not started by this command)"
    if record.get("owner") != owner:
        return f"the Docker engine ('{STOPS[str(record.get('owner'))]}' stops it)"
    if docker.run("ps", "-q"):
        return "the Docker engine, started by this command: containers are still running in it"
    if _stale(PID_FILE, "dockerd"):
        RECORD.unlink(missing_ok=True)
        return "the Docker engine (it was not started by this command)"
    pid = PID_FILE.read_text().strip()
    if pid != str(record.get("pid")) and os.geteuid() == 0:
        RECORD.unlink(missing_ok=True)
        return "the Docker engine (it was not started by this command)"
    subprocess.run(as_root(["kill", pid], "Stopping Docker"), check=False)
    for _ in range(60):
        if _stale(PID_FILE, "dockerd") or not PID_FILE.exists():
            break
        time.sleep(0.25)
    with contextlib.suppress(OSError):
        RECORD.unlink()
    return ""


def own_certificates() -> list[str]:
    """The control machine's additional CA certificates: a company proxy's, for example."""
    folder = Path("/usr/local/share/ca-certificates")
    return sorted(str(path) for path in folder.rglob("*.crt")) if folder.is_dir() else []


def proxy_options() -> Sequence[str]:
    options: list[str] = []
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        if os.environ.get(name):
            options += ["-e", name]
    return options
