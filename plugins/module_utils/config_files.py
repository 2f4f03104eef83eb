# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders and small files as they should be, each file checked and then renamed into place."""

from __future__ import annotations

# This part runs without Ansible too, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import contextlib
import grp
import os
import pwd
import re
import shlex
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

MAXIMUM_DIFF_BYTES = 256 * 1024


class ConfigFilesError(Exception):
    """A folder or file that can't be what it should be; the text names the path and the cause."""


@dataclass(frozen=True)
class Wanted:
    """A folder (``content`` is None) or file, and who owns it.

    ``mode`` is octal text such as ``0640``. ``validate`` is a command line with ``%s`` for the
    file that is checked. ``secret`` keeps the content out of any diff.
    """

    path: str
    content: str | None = None
    owner: str = "root"
    group: str = "root"
    mode: str = "0644"
    validate: str = ""
    secret: bool = False


@dataclass(frozen=True)
class Change:
    """What differed at ``path``: ``created``, ``content`` or ``attributes``; texts for a diff."""

    path: str
    kind: str
    before: str
    after: str


def _mode(wanted: Wanted) -> int:
    if not re.fullmatch(r"0?[0-7]{3,4}", wanted.mode):
        raise ConfigFilesError(
            f"{wanted.path}: the mode {wanted.mode!r} is not octal text such as 0640."
        )
    return int(wanted.mode, 8)


def _id(wanted: Wanted, kind: str, may_be_missing: bool) -> int | None:
    name = wanted.owner if kind == "user" else wanted.group
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except KeyError:
        if may_be_missing:
            return None
        raise ConfigFilesError(
            f"{wanted.path}: there is no {kind} {name} on this host to own it."
        ) from None


def _validate(command: str, candidate: str, path: str) -> None:
    argv = [part.replace("%s", candidate) for part in shlex.split(command)]
    if not any(candidate in part for part in argv):
        raise ConfigFilesError(f"{path}: its validate command has no %s for the file.")
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ConfigFilesError(f"{path}: {argv[0]} can't be run: {error.strerror}.") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).replace(candidate, path)
        raise ConfigFilesError(
            f"{path} was refused and stays as it was. "
            f"{argv[0]} ended with {done.returncode}: {said}"
        )


@contextlib.contextmanager
def _candidate(wanted: Wanted, content: bytes, uid: int, gid: int) -> Iterator[str]:
    """A finished file beside its place, which nobody else could read before it had its owner."""
    folder, name = os.path.split(wanted.path)
    handle, candidate = tempfile.mkstemp(prefix=f".{name}.", suffix=".golive", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), _mode(wanted))
            os.fsync(stream.fileno())
        yield candidate
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(candidate)


def _attributes(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def _told(attributes: tuple[int | None, int | None, int]) -> str:
    uid, gid, mode = attributes
    return f"owner {uid}, group {gid}, mode {mode:04o}\n"


def _apply_one(wanted: Wanted, check: bool) -> Change | None:
    uid, gid = (_id(wanted, kind, check) for kind in ("user", "group"))
    target = (uid, gid, _mode(wanted))
    try:
        status = os.lstat(wanted.path)
    except FileNotFoundError:
        status = None
    if status is not None:
        fits = stat.S_ISDIR if wanted.content is None else stat.S_ISREG
        if not fits(status.st_mode):
            kind = "a folder" if wanted.content is None else "a plain file"
            raise ConfigFilesError(f"{wanted.path} is there and is not {kind}; move it away first.")
    after = "" if wanted.content is None else wanted.content
    before = ""
    if status is not None and wanted.content is not None:
        with open(wanted.path, "rb") as stream:
            current = stream.read()
        before = current.decode("utf-8", "replace")
        if current == wanted.content.encode():
            before = after
    same_content = status is not None and before == after
    if status is not None and same_content:
        if _attributes(status) == target:
            return None
        if not check:
            os.chown(wanted.path, target[0] or 0, target[1] or 0)
            os.chmod(wanted.path, target[2])
        return Change(wanted.path, "attributes", _told(_attributes(status)), _told(target))
    if not check:
        if uid is None or gid is None:
            raise AssertionError("owner and group were not looked up")
        if wanted.content is None:
            os.makedirs(os.path.dirname(wanted.path), mode=0o755, exist_ok=True)
            os.mkdir(wanted.path, 0o700)
            os.chown(wanted.path, uid, gid)
            os.chmod(wanted.path, target[2])
        else:
            if not os.path.isdir(os.path.dirname(wanted.path)):
                raise ConfigFilesError(
                    f"{wanted.path}: the folder {os.path.dirname(wanted.path)} is not there."
                )
            with _candidate(wanted, wanted.content.encode(), uid, gid) as candidate:
                if wanted.validate:
                    _validate(wanted.validate, candidate, wanted.path)
                os.replace(candidate, wanted.path)
    if wanted.secret or max(len(before), len(after)) > MAXIMUM_DIFF_BYTES:
        before = after = "(not shown)\n"
    return Change(wanted.path, "content" if status is not None else "created", before, after)


def apply(wanted: list[Wanted], check: bool = False) -> list[Change]:
    """Make each as it should be, in order; with ``check``, only tell what would change.

    Raises ConfigFilesError at the first one that can't be; those before it are in their places,
    that one and those after it are as they were.
    """
    changes = []
    for one in wanted:
        if not os.path.isabs(one.path):
            raise ConfigFilesError(f"{one.path}: a path begins with a slash.")
        try:
            change = _apply_one(one, check)
        except OSError as error:
            raise ConfigFilesError(f"{one.path}: {error.strerror or error}.") from error
        if change:
            changes.append(change)
    return changes
