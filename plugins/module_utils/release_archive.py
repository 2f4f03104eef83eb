# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder as a deterministic tar.gz, and an id that depends on its content alone."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import io
import os
import stat
import tarfile
import tempfile
from dataclasses import dataclass
from typing import IO, Any

DEFAULT_EXCLUDE = [
    ".git",
    ".venv",
    "venv",
    "__pycache__",
    "*.pyc",
    "node_modules",
    "instance",
    "*.db",
    "*.sqlite3",
    "*.sqlite",
    "*.db-wal",
    "*.db-shm",
    ".env",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".tox",
]
_ID_LENGTH = 12
_CHUNK = 1 << 20


class ArchiveError(Exception):
    """Which path can't be packed, why, and what to set."""


@dataclass(frozen=True)
class Entry:
    """One thing to pack; `path` is relative to the folder, with slashes."""

    path: str
    kind: str
    executable: bool = False
    link: str = ""


@dataclass
class Archive:
    release_id: str
    sha256: str
    files: int
    content_size: int
    path: str | None = None
    archive_sha256: str | None = None
    archive_size: int | None = None


def _excluded(path: str, patterns: list[str]) -> bool:
    """A pattern with a slash is for the path from the folder, one without for any name."""
    name = path.rsplit("/", 1)[-1]
    for pattern in patterns:
        if "/" in pattern.strip("/"):
            if fnmatch.fnmatchcase(path, pattern.strip("/")):
                return True
        elif pattern.startswith("/"):
            if fnmatch.fnmatchcase(path, pattern.strip("/")):
                return True
        elif fnmatch.fnmatchcase(name, pattern.strip("/")):
            return True
    return False


def _link_entry(root: str, path: str) -> Entry:
    full = os.path.join(root, path)
    link = os.readlink(full)
    inside = os.path.realpath(os.path.join(os.path.dirname(full), link))
    if os.path.isabs(link) or not (inside + "/").startswith(root + "/"):
        raise ArchiveError(
            f"{full} is a symbolic link to {link}, which is outside of {root}: it would point to "
            "something else on the host. Replace it by what it points to, or add it to exclude."
        )
    return Entry(path, "link", link=link)


def list_entries(root: str, patterns: list[str]) -> list[Entry]:
    """Everything below the folder in the order of its bytes, without what is excluded."""
    found: list[Entry] = []
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            names = os.listdir(os.path.join(root, folder))
        except OSError as error:
            raise _unreadable(os.path.join(root, folder), error) from error
        for name in names:
            path = f"{folder}/{name}" if folder else name
            if _excluded(path, patterns):
                continue
            full = os.path.join(root, path)
            mode = os.lstat(full).st_mode
            if stat.S_ISLNK(mode):
                found.append(_link_entry(root, path))
            elif stat.S_ISDIR(mode):
                found.append(Entry(path, "folder"))
                pending.append(path)
            elif stat.S_ISREG(mode):
                found.append(Entry(path, "file", executable=bool(mode & 0o100)))
            else:
                raise ArchiveError(
                    f"{full} is neither file, folder nor symbolic link (a socket or pipe?). Remove "
                    "it, or add it to exclude."
                )
    found.sort(key=lambda entry: os.fsencode(entry.path))
    return found


def _unreadable(path: str, error: OSError) -> ArchiveError:
    return ArchiveError(
        f"{path} can't be read: {error.strerror}. Make it readable for the user that runs Ansible, "
        "or add it to exclude."
    )


class _Hashing(io.RawIOBase):
    """Reads a file for tarfile, and hashes what was read."""

    def __init__(self, handle: IO[bytes], digest: Any) -> None:
        self._handle = handle
        self._digest = digest

    def read(self, size: int = -1) -> bytes:
        block = self._handle.read(size)
        self._digest.update(block)
        return block


def _field(digest: Any, text: bytes) -> None:
    digest.update(len(text).to_bytes(8, "big"))
    digest.update(text)


def _describe(digest: Any, entry: Entry) -> None:
    _field(digest, entry.kind.encode() + (b"x" if entry.executable else b""))
    _field(digest, os.fsencode(entry.path))
    _field(digest, os.fsencode(entry.link))


def _member(entry: Entry, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(entry.path)
    member.mode = 0o755 if entry.executable or entry.kind == "folder" else 0o644
    member.size = size
    if entry.kind == "folder":
        member.type = tarfile.DIRTYPE
    elif entry.kind == "link":
        member.type = tarfile.SYMTYPE
        member.mode = 0o777
        member.linkname = entry.link
    return member


def _walk(root: str, entries: list[Entry], tar: tarfile.TarFile | None) -> Archive:
    digest = hashlib.sha256()
    files = size = 0
    for entry in entries:
        _describe(digest, entry)
        if entry.kind != "file":
            if tar is not None:
                tar.addfile(_member(entry, 0))
            continue
        full = os.path.join(root, entry.path)
        try:
            with open(full, "rb") as handle:
                length = os.fstat(handle.fileno()).st_size
                digest.update(length.to_bytes(8, "big"))
                reader = _Hashing(handle, digest)
                if tar is not None:
                    tar.addfile(_member(entry, length), reader)
                else:
                    left = length
                    while left:
                        block = reader.read(min(_CHUNK, left))
                        if not block:
                            raise OSError(0, "it became shorter while it was read")
                        left -= len(block)
        except OSError as error:
            if error.strerror is None:
                error = OSError(0, str(error))
            raise _unreadable(full, error) from error
        files += 1
        size += length
    value = digest.hexdigest()
    return Archive(value[:_ID_LENGTH], value, files, size)


def make_archive(
    src: str, patterns: list[str], dest_dir: str | None = None, pack: bool = True
) -> Archive:
    """The id of a folder's content, and its archive if `pack`."""
    root = os.path.realpath(src)
    if not os.path.exists(root):
        raise ArchiveError(f"The folder {src} does not exist. Set src to the application's folder.")
    if not os.path.isdir(root):
        raise ArchiveError(f"{src} is not a folder. Set src to the application's folder.")
    entries = list_entries(root, patterns)
    if not any(entry.kind == "file" for entry in entries):
        raise ArchiveError(
            f"The folder {src} has no files"
            + (" that exclude leaves" if patterns else "")
            + ". Set src to the application's folder, or change exclude."
        )
    if not pack:
        return _walk(root, entries, None)
    return _pack(root, entries, dest_dir)


def _pack(root: str, entries: list[Entry], dest_dir: str | None) -> Archive:
    folder = dest_dir or tempfile.mkdtemp(prefix="golive-webstack-")
    temporary = None
    try:
        os.makedirs(folder, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".release-", dir=folder)
        with os.fdopen(descriptor, "wb") as handle:
            with gzip.GzipFile(filename="", fileobj=handle, mode="wb", mtime=0) as packed:
                with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
                    archive = _walk(root, entries, tar)
        archive.path = os.path.join(folder, f"{archive.release_id}.tar.gz")
        digest = hashlib.sha256()
        with open(temporary, "rb") as handle:
            while block := handle.read(_CHUNK):
                digest.update(block)
        archive.archive_sha256 = digest.hexdigest()
        archive.archive_size = os.stat(temporary).st_size
        os.replace(temporary, archive.path)
        temporary = None
        return archive
    except OSError as error:
        raise ArchiveError(
            f"The archive can't be written to {folder}: {error.strerror}. Set dest_dir to a folder "
            "that is writable and has room."
        ) from error
    finally:
        if temporary is not None:
            os.unlink(temporary)
        if dest_dir is None and not os.listdir(folder):
            os.rmdir(folder)
