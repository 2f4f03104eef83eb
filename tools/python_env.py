# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual environments: which Python, made when, and how they are kept current."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.common import (
    CACHE,
    ROOT,
    ToolError,
    apt_install,
    capture,
    exclusive,
    file_hash,
    note,
    run_logged,
    say,
    tail,
)

VERSIONS = ("3.14", "3.13", "3.12", "3.11")
STAMP = "golive-stamp"

PROBE = (
    "import importlib.util as u, sys, ssl, sqlite3, venv; "
    "print('%d.%d.%d' % sys.version_info[:3], u.find_spec('ensurepip') is not None)"
)


@dataclass(frozen=True)
class Interpreter:
    path: str
    version: str
    full: str
    has_pip: bool


def lock_file(version: str) -> Path:
    """ansible-core after 2.19 wants Python 3.12 on the control node, hence two locks."""
    name = "control-py311.txt" if version == "3.11" else "control-py312.txt"
    return ROOT / "requirements" / name


def _candidates(version: str) -> Iterator[str]:
    """Every place that may hold this version: a name on PATH can be a shim that fails."""
    name = f"python{version}"
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/local/bin", "/usr/bin"]
    places = [Path(folder) / name for folder in folders if folder]
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv")) / "versions"
    places += sorted(pyenv.glob(f"{version}.*/bin/{name}"), reverse=True)
    uv = home / ".local/share/uv/python"
    places += sorted(uv.glob(f"cpython-{version}.*/bin/{name}"), reverse=True)
    if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        places.append(Path(sys.executable))
    seen: set[str] = set()
    for place in places:
        if str(place) not in seen and os.access(place, os.X_OK):
            seen.add(str(place))
            yield str(place)


def _probe(path: str, version: str) -> Interpreter | None:
    done = capture([path, "-I", "-c", PROBE], timeout=20)
    words = done.stdout.split()
    if done.returncode != 0 or len(words) != 2 or not words[0].startswith(version + "."):
        return None
    return Interpreter(path, version, words[0], words[1] == "True")


def _wanted() -> str | None:
    wanted = os.environ.get("GOLIVE_PYTHON", "").strip()
    if not wanted:
        return None
    if not re.fullmatch(r"3\.\d+", wanted) or wanted not in VERSIONS:
        raise ToolError(
            f"GOLIVE_PYTHON={wanted} is not a version that can be chosen."
            f" Set one of {', '.join(reversed(VERSIONS))}, or unset it for the newest."
        )
    return wanted


def choose_interpreter(wanted: str | None = None) -> Interpreter:
    """The newest Python that really runs and can make a virtual environment."""
    wanted = wanted or _wanted()
    incomplete: list[Interpreter] = []
    for version in (wanted,) if wanted else VERSIONS:
        for path in _candidates(version):
            found = _probe(path, version)
            if found and found.has_pip:
                return found
            if found:
                incomplete.append(found)
    for found in incomplete:
        # Debian splits ensurepip off; only its own interpreter can be completed by apt.
        if os.path.realpath(found.path).startswith("/usr/bin/"):
            apt_install([f"python{found.version}-venv"], "A virtual environment")
            again = _probe(found.path, found.version)
            if again and again.has_pip:
                return again
    asked = f"Python {wanted} (GOLIVE_PYTHON)" if wanted else "Python 3.11 or newer"
    partial = "".join(f" {found.path} has no ensurepip." for found in incomplete)
    raise ToolError(
        f"{asked} was not found on PATH, in /usr/bin or under ~/.pyenv/versions.{partial}"
        f" This system's python3 is {platform.python_version()}. Install one, for example"
        " 'apt-get install python3 python3-venv' on Debian 12 or newer, or set GOLIVE_PYTHON"
        " to a version that is there."
    )


def has_interpreter(version: str) -> bool:
    found = (_probe(path, version) for path in _candidates(version))
    return any(interpreter is not None and interpreter.has_pip for interpreter in found)


def make_venv(folder: Path, interpreter: Interpreter, locks: list[Path], purpose: str) -> None:
    """Make or remake a virtual environment unless its stamp says that it is current.

    The stamp is written last, so one that was killed half way is made again.
    """
    stamp = folder / STAMP
    wanted = file_hash(*locks, extra=f"{interpreter.full} {folder}")
    if stamp.is_file() and stamp.read_text().strip() == wanted:
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(f"venv-{folder.name}"):
        if stamp.is_file() and stamp.read_text().strip() == wanted:
            return
        shown = folder.relative_to(ROOT)
        say(f"Making {shown} for {purpose} with Python {interpreter.full} (about half a minute)")
        shutil.rmtree(folder, ignore_errors=True)
        log = CACHE / "logs" / f"venv-{folder.name}.log"
        if run_logged([interpreter.path, "-m", "venv", str(folder)], log) != 0:
            raise ToolError(
                f"{interpreter.path} could not make {folder}:\n{tail(log, 8)}\n"
                "Choose another Python with GOLIVE_PYTHON, for example GOLIVE_PYTHON=3.11."
            )
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-input",
                   "--disable-pip-version-check", "--no-deps", "--require-hashes",
                   *(word for lock in locks for word in ("-r", str(lock)))]  # fmt: skip
        if run_logged(install, log) != 0:
            names = " and ".join(str(lock.relative_to(ROOT)) for lock in locks)
            raise ToolError(
                f"pip could not install {names}. Its last lines:\n"
                f"{tail(log, 12)}\nWithout a network route to the package index set HTTPS_PROXY,"
                " PIP_INDEX_URL (a mirror) or PIP_CERT (a company certificate), then run this"
                f" command again. Log: {log}"
            )
        stamp.write_text(wanted + "\n")
        note(f"{shown} is ready")


def control_environment(version: str | None = None) -> Path:
    """The control node's virtual environment, made when missing or out of date."""
    interpreter = choose_interpreter(version)
    folder = ROOT / ".venv" / interpreter.version
    make_venv(folder, interpreter, [lock_file(interpreter.version)], "Ansible and the tests")
    return folder


def environment(venv: Path) -> dict[str, str]:
    """The environment in which Ansible's commands and the tests run."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")}
    env.update(
        PATH=f"{venv / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}",
        VIRTUAL_ENV=str(venv),
        # A world-writable checkout makes Ansible skip its ansible.cfg unless named.
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
        ANSIBLE_COLLECTIONS_PATH=str(ROOT / "collections"),
        ANSIBLE_INJECT_FACT_VARS="false",
        # Ansible refuses to start in a locale that isn't UTF-8.
        LC_ALL="C.UTF-8",
        PYTHONUNBUFFERED="1",
    )
    return env
