# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed files beside static ones: which, when again, and what they hold."""

from __future__ import annotations

import gzip
import os
import stat
from pathlib import Path

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.nginx_precompress import (
    SUFFIXES,
    PrecompressError,
    jobs,
    run,
)


def compress(folder: Path) -> list[str]:
    found = jobs(str(folder), ["gzip"], SUFFIXES, 1024)
    for job in found:
        run(job)
    return [os.path.relpath(job.target, folder) for job in found]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "js").mkdir()
    (tmp_path / "js" / "app.js").write_text("let x = 1;\n" * 500)
    (tmp_path / "small.css").write_text("a {}\n")
    (tmp_path / "photo.jpg").write_bytes(b"x" * 5000)
    (tmp_path / "style.css").write_text("a { color: red }\n" * 200)
    (tmp_path / "style.css").chmod(0o640)
    os.symlink(tmp_path / "style.css", tmp_path / "link.css")
    return tmp_path


def test_large_texts_are_compressed_once(folder: Path) -> None:
    assert sorted(compress(folder)) == ["js/app.js.gz", "style.css.gz"]
    packed = folder / "style.css.gz"
    assert gzip.decompress(packed.read_bytes()) == (folder / "style.css").read_bytes()
    assert stat.S_IMODE(packed.stat().st_mode) == 0o640
    assert compress(folder) == []
    assert list(folder.rglob("*.golive")) == []


def test_a_changed_file_is_compressed_again(folder: Path) -> None:
    compress(folder)
    (folder / "style.css").write_text("b { color: blue }\n" * 200)
    os.utime(folder / "style.css", (5, 5))
    assert compress(folder) == ["style.css.gz"]
    assert b"blue" in gzip.decompress((folder / "style.css.gz").read_bytes())


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(PrecompressError, match="none"):
        jobs(str(tmp_path / "none"), ["gzip"], SUFFIXES, 1024)
