# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths, messages and child processes shared by all commands in bin/."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"

LABEL = "org.golive.webstack"


class ToolError(Exception):
    """Something the user can mend; the message says what, where and what to set."""


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def note(text: str) -> None:
    print(f"    {text}", flush=True)


def complain(text: str) -> None:
    sys.stdout.flush()
    print(f"Error: {text}", file=sys.stderr, flush=True)


def file_hash(*paths: Path, extra: str = "") -> str:
    digest = hashlib.sha256(extra.encode())
    for path in paths:
        digest.update(path.read_bytes())
        digest.update(b"\0")
    return digest.hexdigest()


def capture(
    command: Sequence[str],
    *,
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command quietly; a missing or hanging program is an ordinary failure."""
    try:
        return subprocess.run(
            list(command),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(list(command), 127, "", str(error))


def run_logged(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> int:
    """Run a command with its output in a file; the file is there to be shown on failure."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        try:
            return subprocess.run(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                check=False,
            ).returncode
        except OSError as error:
            stream.write(f"{error}\n".encode())
            return 127


def tail(path: Path, lines: int) -> str:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def as_root(command: Sequence[str], why: str) -> list[str]:
    """The command as root sees it: as it stands, or through sudo."""
    if os.geteuid() == 0:
        return list(command)
    sudo = shutil.which("sudo")
    if sudo is None:
        raise ToolError(
            f"{why} needs root, and sudo is not installed. Run this command as root,"
            f" or have an administrator run: {' '.join(command)}"
        )
    if sys.stdin.isatty():
        return [sudo, *command]
    if capture([sudo, "-n", "true"]).returncode != 0:
        raise ToolError(
            f"{why} needs root, and sudo asks for a password without a terminal to type it."
            f" Run this command as root or in a terminal, or have an administrator run:"
            f" {' '.join(command)}"
        )
    return [sudo, "-n", *command]


def apt_install(packages: Sequence[str], why: str) -> None:
    """Install Debian packages, saying so first."""
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise ToolError(
            f"{why} needs the packages {names}, and this is no Debian or Ubuntu system"
            " (apt-get is missing). Install them with this system's own package manager."
        )
    say(f"{why}: installing {names} with apt-get")
    log = CACHE / "logs" / "apt.log"
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "a"}
    # Another stage may install at the same time, and so may the system's own upgrades.
    wait = "DPkg::Lock::Timeout=300"
    install = ["apt-get", "-q", "-o", wait, "install", "-y", "--no-install-recommends", *packages]
    with exclusive("apt"):
        # Lists of packages may be absent or old; an update that fails for one foreign
        # repository must not stop an installation that doesn't need it.
        update = as_root(["apt-get", "-q", "update"], why)
        run_logged(update, CACHE / "logs" / "apt-update.log", env)
        done = run_logged(as_root(install, why), log, env)
    if done != 0:
        raise ToolError(
            f"apt-get could not install {names}. Its last lines:\n{tail(log, 12)}\n"
            "Without a network route to a Debian mirror set http_proxy or a reachable mirror in"
            f" /etc/apt/sources.list; with the route mended run this command again. Log: {log}"
        )


@contextlib.contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Let one process at a time through, whichever command started it."""
    folder = CACHE / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"Waiting for another command that holds '{name}' ({folder / name})")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def guarded(main: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Turn the known ways of ending into exit codes."""
    # A plain kill ends as Ctrl-C does, so that child processes and locks go too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return main(arguments)
    except ToolError as error:
        complain(str(error))
        return 2
    except PermissionError as error:
        if error.filename is None or not str(error.filename).startswith(str(ROOT)):
            raise
        complain(
            f"{error.filename} can't be written. It belongs to another user, mostly because this"
            " command ran as root before: run it as root again, or give the checkout to yourself"
            f' (sudo chown -R "$USER" {ROOT}).'
        )
        return 2
    except KeyboardInterrupt:
        complain("stopped before the end. Run the same command again: it goes on from here.")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
