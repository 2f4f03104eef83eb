# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios' hosts keep the compiled form of Ansible's modules: of each source its own."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "molecule" / "_shared" / "golive_compiled.py"
RUN = """
import sys, importlib.util
spec = importlib.util.spec_from_file_location("golive_compiled", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.FOLDER = sys.argv[2]
sys.path.insert(0, sys.argv[3])
import part
print(part.VALUE)
"""


def run(folder: Path, archive: Path, value: int) -> int:
    """What a process sees of `value` in a module of an archive."""
    archive.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("part.py", f"VALUE = {value}\n")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(SCRIPT), str(folder), str(archive)],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    return int(done.stdout)


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_source_is_compiled_once_and_another_anew(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    first = tmp_path / "ansible_file_payload_1" / "ansible_file_payload.zip"
    assert run(folder, first, 1) == 1
    names = kept(folder)
    assert len(names) == 1
    stamp = (folder / names[0]).stat().st_mtime_ns
    # Another folder each time, as Ansible has it.
    assert run(folder, tmp_path / "ansible_file_payload_2" / first.name, 1) == 1
    assert kept(folder) == names and (folder / names[0]).stat().st_mtime_ns == stamp
    # Of the same length.
    assert run(folder, tmp_path / "ansible_file_payload_3" / first.name, 2) == 2
    assert len(kept(folder)) == 2


@pytest.mark.parametrize("content", [b"", b"not code", b"\xe3\x00\x00"])
def test_what_is_damaged_is_made_again(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    archive = tmp_path / "ansible_x" / "x.zip"
    assert run(folder, archive, 1) == 1
    (name,) = kept(folder)
    (folder / name).write_bytes(content)
    assert run(folder, archive, 1) == 1
    assert kept(folder) == [name] and len((folder / name).read_bytes()) > 20


def test_without_its_folder_and_for_other_archives_nothing_is_kept(tmp_path: Path) -> None:
    assert run(tmp_path / "nowhere", tmp_path / "ansible_x" / "x.zip", 3) == 3
    folder = tmp_path / "kept"
    folder.mkdir()
    assert run(folder, tmp_path / "other" / "x.zip", 4) == 4
    assert kept(folder) == []


def test_it_asks_for_nothing_that_python_has_not_loaded_anyway() -> None:
    """Each Python of the host loads it."""
    script = (
        "import sys, importlib.util as u; before = set(sys.modules);"
        f"s = u.spec_from_file_location('c', {str(SCRIPT)!r});"
        "s.loader.exec_module(u.module_from_spec(s)); print(sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("[]", "['zipimport']", "['marshal', 'zipimport']")
