# SPDX-License-Identifier: GPL-3.0-or-later
"""Re-make the requirement locks: bin/lock."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

from tools.common import ROOT, ToolError, note, say

HEADER = "# Made by bin/lock from {source}; not to be edited by hand.\n"

LOCKS = (
    ("requirements/control.in", "requirements/control-py311.txt", "3.11"),
    ("requirements/control.in", "requirements/control-py312.txt", "3.12"),
    ("requirements/galaxy.in", "requirements/galaxy-py311.txt", "3.11"),
    ("requirements/galaxy.in", "requirements/galaxy-py312.txt", "3.12"),
)
# ansible-builder reads plain lines only; the versions are the control node's.
IMAGE = ("requirements/image/packages.in", "requirements/image/packages.txt", "3.12")
COLLECTIONS = ("requirements/collections.in", "requirements/collections.txt", "3.12")


def _uv() -> Path:
    folder = ROOT / ".venv" / "lock"
    uv = folder / "bin" / "uv"
    if not uv.exists():
        say("Installing uv into .venv/lock")
        venv.create(folder, with_pip=True, clear=True)
        done = subprocess.run([str(folder / "bin" / "pip"), "install", "-q", "uv"], check=False)
        if done.returncode != 0:
            raise ToolError(
                "pip could not install uv. Set HTTPS_PROXY, PIP_INDEX_URL or PIP_CERT as your"
                " network needs it and run bin/lock again."
            )
    return uv


def _compile(uv: Path, source: str, target: str, python: str, *more: str) -> None:
    # Without these options uv would write index addresses and this machine's paths.
    command = [str(uv), "pip", "compile", "--quiet", "--upgrade", "--generate-hashes",
               "--python-version", python, "--python-platform", "linux", "--no-header",
               "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
               "--output-file", str(ROOT / target), *more, str(ROOT / source)]  # fmt: skip
    env = {k: v for k, v in os.environ.items() if k not in ("UV_FIND_LINKS", "PIP_FIND_LINKS")}
    if subprocess.run(command, env=env, check=False).returncode != 0:
        raise ToolError(f"uv could not resolve {source} for Python {python}; see above.")
    path = ROOT / target
    path.write_text(HEADER.format(source=source) + path.read_text())
    note(f"{target}: {path.read_text().count('==')} packages")


def main(arguments: list[str]) -> int:
    if arguments:
        print("bin/lock re-makes requirements/*.txt from requirements/*.in; it takes no arguments.")
        return 0 if arguments in (["--help"], ["-h"]) else 2
    uv = _uv()
    for source, target, python in LOCKS:
        _compile(uv, source, target, python)
    _compile(uv, *COLLECTIONS, "--no-deps")
    _compile(uv, *IMAGE, "--no-generate-hashes", "--constraints", str(ROOT / LOCKS[1][1]))
    return 0
