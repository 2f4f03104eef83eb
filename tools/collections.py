# SPDX-License-Identifier: GPL-3.0-or-later
"""The community collections, unpacked from the PyPI package that carries them all.

That reaches closed networks with a package mirror but without Galaxy, and pins every
collection by one hash.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from tools.common import CACHE, ROOT, ToolError, exclusive, file_hash, note, run_logged, say, tail

LOCK = ROOT / "requirements" / "collections.txt"
TARGET = ROOT / "collections" / "ansible_collections"
NAMES = (
    "ansible.posix",
    "awx.awx",
    "community.crypto",
    "community.docker",
    "community.general",
    "community.library_inventory_filtering_v1",
    "community.postgresql",
)
MARKER = ".golive-unpacked"


def _state(name: str) -> tuple[Path, str]:
    folder = TARGET.joinpath(*name.split("."))
    marker = folder / MARKER
    return folder, marker.read_text().strip() if marker.is_file() else ""


def missing(wanted: str) -> list[str]:
    """Collections to unpack; a folder without our marker is the user's own and stays."""
    names = []
    for name in NAMES:
        folder, marker = _state(name)
        if marker != wanted and (marker or not (folder / "MANIFEST.json").is_file()):
            names.append(name)
    return names


def _download(venv: Path) -> Path:
    wheels = CACHE / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    wheels.mkdir(parents=True)
    log = CACHE / "logs" / "collections.log"
    command = [str(venv / "bin" / "python"), "-m", "pip", "download", "--no-input",
               "--disable-pip-version-check", "--no-deps", "--require-hashes",
               "--only-binary", ":all:", "-d", str(wheels), "-r", str(LOCK)]  # fmt: skip
    if run_logged(command, log) != 0:
        raise ToolError(
            f"pip could not fetch the community collections. Its last lines:\n{tail(log, 10)}\n"
            "Set HTTPS_PROXY, PIP_INDEX_URL or PIP_CERT as your network needs it, or install"
            " them from Galaxy: ansible-galaxy collection install -r requirements.yml -p"
            f" collections. Log: {log}"
        )
    return next(wheels.glob("ansible-*.whl"))


def _unpack(archive: zipfile.ZipFile, name: str, wanted: str) -> None:
    folder, _ = _state(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = TARGET / f".unpacking-{name}"
    shutil.rmtree(fresh, ignore_errors=True)
    prefix = "ansible_collections/" + name.replace(".", "/") + "/"
    for member in archive.infolist():
        # The collections' own tests are a third of their files and of no use here.
        inner = member.filename[len(prefix) :]
        if not member.filename.startswith(prefix) or inner.startswith("tests/"):
            continue
        place = fresh / inner
        if member.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, place.open("wb") as target:
            shutil.copyfileobj(source, target)
    (fresh / MARKER).write_text(wanted + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(fresh, folder)


def unpack_collections(venv: Path) -> None:
    wanted = file_hash(LOCK)
    if not missing(wanted):
        return
    with exclusive("collections"):
        names = missing(wanted)
        if not names:
            return
        say("Unpacking the community collections into collections/")
        wheel = _download(venv)
        with zipfile.ZipFile(wheel) as archive:
            for name in names:
                _unpack(archive, name, wanted)
        shutil.rmtree(wheel.parent, ignore_errors=True)
        note(", ".join(names))
