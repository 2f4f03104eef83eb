# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same content makes the same archive."""

from __future__ import annotations

import os
import socket
import tarfile
from pathlib import Path

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.release_archive import (
    DEFAULT_EXCLUDE,
    Archive,
    ArchiveError,
    make_archive,
)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    (root / "pkg" / "__pycache__").mkdir(parents=True)
    (root / "wsgi.py").write_text("app = 1\n")
    (root / "pkg" / "a.py").write_text("a = 1\n")
    (root / "pkg" / "__pycache__" / "a.pyc").write_text("x")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("pkg/a.py")
    (root / "app.db").write_text("data")
    (root / ".env").write_text("SECRET=1\n")
    return root


def pack(root: Path, dest: Path, exclude: list[str] | None = None) -> Archive:
    return make_archive(str(root), DEFAULT_EXCLUDE if exclude is None else exclude, str(dest))


def test_content_modes_and_default_excludes(app: Path, tmp_path: Path) -> None:
    archive = pack(app, tmp_path / "out")
    assert archive.path == str(tmp_path / "out" / f"{archive.release_id}.tar.gz")
    assert archive.sha256.startswith(archive.release_id) and len(archive.release_id) == 12
    with tarfile.open(archive.path) as tar:
        found = {m.name: (m.mode, m.uid, m.gid, m.mtime, m.uname) for m in tar.getmembers()}
        assert tar.getmember("link").linkname == "pkg/a.py"
    assert sorted(found) == ["link", "pkg", "pkg/a.py", "run.sh", "wsgi.py"]
    assert found["run.sh"] == (0o755, 0, 0, 0, "")
    assert found["wsgi.py"] == (0o644, 0, 0, 0, "")
    assert (archive.files, archive.content_size) == (3, 24)


def test_times_and_umask_do_not_matter(app: Path, tmp_path: Path) -> None:
    first = pack(app, tmp_path / "one")
    os.utime(app / "wsgi.py", (1, 1))
    (app / "wsgi.py").chmod(0o600)
    second = pack(app, tmp_path / "two")
    assert second.archive_sha256 == first.archive_sha256
    assert Path(str(first.path)).read_bytes() == Path(str(second.path)).read_bytes()
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == [f"{first.release_id}.tar.gz"]


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "wsgi.py").write_text("app = 2\n"),
        lambda root: (root / "wsgi.py").chmod(0o755),
        lambda root: (root / "wsgi.py").rename(root / "other.py"),
        lambda root: (root / "new").write_text(""),
        lambda root: ((root / "link").unlink(), (root / "link").symlink_to("wsgi.py")),
    ],
)
def test_any_change_of_content_changes_the_id(app: Path, change) -> None:  # type: ignore[no-untyped-def]
    before = make_archive(str(app), DEFAULT_EXCLUDE, pack=False)
    change(app)
    assert make_archive(str(app), DEFAULT_EXCLUDE, pack=False).release_id != before.release_id


def test_id_alone_is_the_same_and_writes_nothing(app: Path, tmp_path: Path) -> None:
    packed = pack(app, tmp_path / "out")
    alone = make_archive(str(app), DEFAULT_EXCLUDE, str(tmp_path / "none"), pack=False)
    assert alone.sha256 == packed.sha256 and alone.path is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        ("*.py", {"wsgi.py", "pkg/a.py"}),
        ("pkg/*.py", {"pkg/a.py"}),
        ("/wsgi.py", {"wsgi.py"}),
        ("pkg/", {"pkg", "pkg/a.py", "pkg/__pycache__", "pkg/__pycache__/a.pyc"}),
    ],
)
def test_patterns(app: Path, tmp_path: Path, pattern: str, gone: set[str]) -> None:
    def names(exclude: list[str], folder: str) -> set[str]:
        with tarfile.open(str(pack(app, tmp_path / folder, exclude).path)) as tar:
            return set(tar.getnames())

    assert names([], "all") - names([pattern], "some") == gone


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "pkg/../../outside"])
def test_links_to_the_outside(app: Path, target: str) -> None:
    (app / "bad").symlink_to(target)
    with pytest.raises(ArchiveError, match="bad is a symbolic link to .*outside"):
        make_archive(str(app), [], pack=False)
    make_archive(str(app), ["bad"], pack=False)


def test_sockets(app: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(app / "s.sock"))
        with pytest.raises(ArchiveError, match="s.sock is neither"):
            make_archive(str(app), [], pack=False)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="does not exist"):
        make_archive(str(tmp_path / "none"), [])
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArchiveError, match="not a folder"):
        make_archive(str(tmp_path / "file"), [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchiveError, match="has no files"):
        make_archive(str(tmp_path / "empty"), [])


def test_odd_names(tmp_path: Path) -> None:
    root = tmp_path / "app"
    root.mkdir()
    (root / ("ä" * 100)).write_text("x")
    (root / os.fsdecode(b"\xff\xfe")).write_text("x")
    (root / "a\nb").write_text("x")
    archive = pack(root, tmp_path / "out")
    with tarfile.open(str(archive.path)) as tar:
        assert len(tar.getnames()) == 3


def test_temporary_folder(app: Path) -> None:
    archive = make_archive(str(app), DEFAULT_EXCLUDE)
    path = Path(str(archive.path))
    assert path.parent.stat().st_mode & 0o077 == 0
    path.unlink()
    path.parent.rmdir()
