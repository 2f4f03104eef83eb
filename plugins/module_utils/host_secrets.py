# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that are generated once and kept in root-only files."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import string
import tempfile
import time
from dataclasses import dataclass, field

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ALPHABET = string.ascii_letters + string.digits
_STALE_SECONDS = 3600
_LARGEST = 65536


class SecretError(Exception):
    """Which secret or path is wrong, why, and what to do. Never holds a value."""


@dataclass(frozen=True)
class Wanted:
    """One secret: its name, the user's value if there is one, else the length to generate."""

    name: str
    value: str | None = field(default=None, repr=False)
    length: int = 32


@dataclass
class Kept:
    """The outcome: all values, the names of the new ones, and whether anything changed."""

    values: dict[str, str] = field(default_factory=dict, repr=False)
    generated: list[str] = field(default_factory=list)
    mended: list[str] = field(default_factory=list)
    changed: bool = False


def generate(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _unused in range(length))


def check(wanted: list[Wanted]) -> None:
    """All of the input, before the first change."""
    seen: set[str] = set()
    for secret in wanted:
        if not _NAME.fullmatch(secret.name):
            raise SecretError(
                f"The secret name {secret.name!r} is not allowed. Use lower-case letters, digits "
                "and _, starting with a letter, 64 characters at most."
            )
        if secret.name in seen:
            raise SecretError(f"The secret {secret.name} is listed twice.")
        seen.add(secret.name)
        if secret.value and re.search(r"[\n\r\x00]", secret.value):
            raise SecretError(
                f"The value given for the secret {secret.name} has a line end or a NUL in it, "
                "which no configuration file can hold. Set it without."
            )
        if not secret.value and not 16 <= secret.length <= 1024:
            raise SecretError(
                f"The length of the secret {secret.name} is {secret.length}. Set it to 16 to 1024."
            )


class Store:
    """A folder with one file per secret."""

    def __init__(self, directory: str, check_mode: bool = False) -> None:
        self.directory = directory
        self._check_mode = check_mode
        self._owner = os.geteuid()

    def provide(self, wanted: list[Wanted]) -> Kept:
        check(wanted)
        kept = Kept()
        try:
            self._prepare_directory(kept)
            for secret in wanted:
                if secret.value:
                    kept.values[secret.name] = secret.value
                else:
                    kept.values[secret.name] = self._stored(secret, kept)
        except OSError as error:
            raise SecretError(
                f"{error.filename or self.directory}: {error.strerror}. The folder of the secrets "
                "must be on a local, writable file system; run the task as root."
            ) from error
        kept.changed = bool(kept.generated or kept.mended)
        return kept

    def _prepare_directory(self, kept: Kept) -> None:
        try:
            info = os.lstat(self.directory)
        except FileNotFoundError:
            kept.mended.append(self.directory)
            if not self._check_mode:
                with contextlib.suppress(FileExistsError):
                    os.makedirs(os.path.dirname(self.directory) or "/", mode=0o755, exist_ok=True)
                    os.mkdir(self.directory, 0o700)
                self._sync(os.path.dirname(self.directory) or "/")
                self._mend(self.directory, os.lstat(self.directory), 0o700, kept)
            return
        if not stat.S_ISDIR(info.st_mode):
            raise SecretError(
                f"{self.directory} is not a folder. Set directory to one, or remove the file."
            )
        self._mend(self.directory, info, 0o700, kept)

    def _mend(self, path: str, info: os.stat_result, mode: int, kept: Kept) -> None:
        wrong_owner = info.st_uid != self._owner
        wrong_mode = stat.S_IMODE(info.st_mode) != mode
        if not (wrong_owner or wrong_mode):
            return
        if path not in kept.mended:
            kept.mended.append(path)
        if self._check_mode:
            return
        if wrong_owner:
            os.chown(path, self._owner, os.getegid(), follow_symlinks=False)
        os.chmod(path, mode)

    def _stored(self, secret: Wanted, kept: Kept) -> str:
        path = os.path.join(self.directory, secret.name)
        try:
            return self._read(path, kept)
        except FileNotFoundError:
            pass
        value = generate(secret.length)
        if not self._check_mode and not self._create(path, value):
            # Another run was faster: its value is the one that counts.
            return self._read(path, kept)
        kept.generated.append(secret.name)
        return value

    def _read(self, path: str, kept: Kept) -> str:
        info = os.lstat(path)
        if not stat.S_ISREG(info.st_mode):
            raise SecretError(f"{path} is no regular file, so it can't hold a secret. Remove it.")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as handle:
            content = handle.read(_LARGEST + 1)
        hint = (
            "It isn't replaced, for something may still be using the old value: put the right "
            "value there with a line end after it, or remove the file to get a new one."
        )
        if not content.strip():
            raise SecretError(f"{path} is empty. {hint}")
        if not content.endswith(b"\n"):
            raise SecretError(f"{path} is truncated: it doesn't end with a line end. {hint}")
        body = content[:-1]
        try:
            value = body.decode("utf-8")
        except UnicodeDecodeError:
            raise SecretError(f"{path} holds no UTF-8 text. {hint}") from None
        if len(content) > _LARGEST or re.search(r"[\n\r\x00]", value):
            raise SecretError(f"{path} holds more than one line of text. {hint}")
        self._mend(path, info, 0o600, kept)
        return value

    def _create(self, path: str, value: str) -> bool:
        """Whether this run's value is the one that is kept now."""
        self._remove_stale()
        # mkstemp makes the file with mode 0600.
        descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=self.directory)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(value.encode() + b"\n")
                handle.flush()
                os.fsync(handle.fileno())
            try:
                # A link fails if the name exists; a rename would replace another run's value.
                os.link(temporary, path)
            except FileExistsError:
                return False
        finally:
            os.unlink(temporary)
        self._sync(self.directory)
        return True

    def _remove_stale(self) -> None:
        """What a killed run left; a living one needs its file for milliseconds."""
        for entry in os.scandir(self.directory):
            if entry.name.startswith(".new-"):
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE_SECONDS:
                        os.unlink(entry.path)

    @staticmethod
    def _sync(directory: str) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
