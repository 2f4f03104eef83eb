# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of the checkout at another path, as a user's clone or AWX's project is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FETCHED = ROOT / "collections" / "ansible_collections"

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def tracked_files() -> list[Path]:
    """Files that are, or are about to be, under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = {ROOT / name for name in listed.split("\0") if name}
    return sorted(path for path in paths if path.is_symlink() or path.exists())


def clean_environment() -> dict[str, str]:
    """The user's environment without anything that our own commands set."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PYTEST_"))}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env["LC_ALL"] = "C.UTF-8"
    env["NO_COLOR"] = "1"
    return env


def link_fetched(target: Path) -> None:
    """The community collections, as Galaxy would have put them beside ours."""
    for namespace in ("ansible", "awx", "community"):
        (target / namespace).symlink_to(FETCHED / namespace)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("plain") / "a check out"
    for path in tracked_files():
        place = copy / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place, follow_symlinks=False)
    link_fetched(copy / "collections" / "ansible_collections")
    return copy


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run one of Ansible's commands; its output is shown when it fails."""

    def run(
        *words: str | Path, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd or tmp_path,
            env={**clean_environment(), "HOME": str(home), **env},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        print(done.stdout[-6000:], done.stderr[-6000:])
        return done

    return run
