# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a release and its parts are, and what is noted with each."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .errors import ReleaseError

SLOTS = ("a", "b")
CANARY = "canary"
MARK = ".golive-release"
ENVIRONMENT_MARK = ".golive-environment"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def utc(seconds: float | None = None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def read_text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def write_atomically(path: str, text: str, mode: int = 0o644, owner: int = 0) -> None:
    """Whole or not at all, even when the machine stops in between."""
    folder, name = os.path.split(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".golive", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            if owner:
                os.fchown(stream.fileno(), owner, owner)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def point(link: str, target: str) -> bool:
    """A symbolic link that changes in one step; tells whether it had to."""
    if os.path.islink(link) and os.readlink(link) == target:
        return False
    temporary = f"{link}.golive"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, link)
    return True


def remove(path: str) -> None:
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)


@dataclass(frozen=True)
class Release:
    """What is noted with a release; times are seconds since 1970, 0 for never."""

    id: str
    built: float = 0
    live_at: float = 0
    # None: never live. False: taken back, or left by a rollback.
    good: bool | None = None
    environment: str = ""
    schema: str = ""
    schema_breaks: bool = False
    # Rises by one with each release whose schema older code can't use.
    schema_level: int = 0

    def told(self) -> dict[str, Any]:
        facts = asdict(self)
        for name in ("built", "live_at"):
            facts[name] = utc(facts[name]) if facts[name] else None
        return facts


def release_from(text: str, release_id: str, otherwise: float) -> Release:
    """The note of a release; of one from before there were notes, as much as is known."""
    try:
        told = json.loads(text) if text.strip() else {}
    except ValueError:
        told = {}
    if not isinstance(told, dict):
        told = {}
    known = {name: told[name] for name in Release.__dataclass_fields__ if name in told}
    known["id"] = release_id
    known.setdefault("built", otherwise)
    return Release(**known)


@dataclass(frozen=True)
class Layout:
    """The paths of one application; `root` is another than / in tests alone."""

    name: str
    home: str
    root: str = field(default="", repr=False)

    @property
    def etc(self) -> str:
        return f"{self.root}/etc/{self.name}"

    @property
    def run(self) -> str:
        return f"{self.root}/run/golive-{self.name}"

    @property
    def units(self) -> str:
        return f"{self.root}/etc/systemd/system"

    @property
    def wants(self) -> str:
        return f"{self.units}/{self.name}.service.wants"

    @property
    def error_log(self) -> str:
        return f"{self.root}/var/log/gunicorn/{self.name.replace('-', '_')}_error.log"

    @property
    def releases(self) -> str:
        return f"{self.home}/releases"

    @property
    def environments(self) -> str:
        return f"{self.home}/environments"

    @property
    def shared(self) -> str:
        return f"{self.home}/shared"

    @property
    def slots(self) -> str:
        return f"{self.home}/slots"

    @property
    def current(self) -> str:
        return f"{self.home}/current"

    @property
    def lock(self) -> str:
        return f"{self.home}/.lock"

    @property
    def history(self) -> str:
        return f"{self.home}/history.jsonl"

    @property
    def socket(self) -> str:
        return f"{self.name}.socket"

    @property
    def umbrella(self) -> str:
        return f"{self.name}.service"

    def unit(self, slot: str) -> str:
        if slot == CANARY:
            return f"{self.name}-canary.service"
        return f"{self.name}@{slot}.service"

    def gate_unit(self, slot: str) -> str:
        return f"{self.name}-gate@{slot}.service"

    def unit_file(self, slot: str) -> str:
        return f"{self.units}/{self.name}{'-canary' if slot == CANARY else '@'}.service"

    def gate(self, slot: str) -> str:
        """While this file is there, the slot's workers take nothing from the shared socket."""
        return f"{self.run}/gates/{slot}"

    def runtime(self, slot: str) -> str:
        return f"{self.run}/{slot}"

    def private_socket(self, slot: str) -> str:
        return f"{self.runtime(slot)}/private.sock"

    def slot_etc(self, slot: str) -> str:
        return f"{self.etc}/slots/{slot}"

    def release_path(self, release_id: str) -> str:
        if not _ID.fullmatch(release_id):
            raise ReleaseError(
                f"'{release_id}' is no release's id: letters, digits, '.', '_', '-'."
            )
        return f"{self.releases}/{release_id}"

    def is_built(self, release_id: str) -> bool:
        """Its mark is there, and so is the environment that it points to."""
        path = self.release_path(release_id)
        return os.path.isfile(f"{path}/{MARK}") and os.path.isfile(f"{path}/.venv/bin/python")

    def release(self, release_id: str) -> Release:
        path = f"{self.release_path(release_id)}/{MARK}"
        text = read_text(path)
        if text is None:
            raise ReleaseError(
                f"There is no release {release_id} in {self.releases}: there are "
                f"{', '.join(one.id for one in self.all_releases()) or 'none'}."
            )
        return release_from(text, release_id, os.stat(path).st_mtime)

    def note(self, release: Release, **changes: Any) -> Release:
        changed = replace(release, **changes)
        text = json.dumps(asdict(changed), indent=1, sort_keys=True) + "\n"
        write_atomically(f"{self.release_path(release.id)}/{MARK}", text)
        return changed

    def all_releases(self) -> list[Release]:
        """The complete ones, the newest first."""
        try:
            names = os.listdir(self.releases)
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            if _ID.fullmatch(name) and os.path.isfile(f"{self.releases}/{name}/{MARK}"):
                found.append(self.release(name))
        return sorted(found, key=lambda one: (max(one.live_at, one.built), one.id), reverse=True)

    def live_slot(self) -> str | None:
        target = self._link(f"{self.slots}/live")
        return target if target in SLOTS else None

    def slot_release(self, slot: str) -> str | None:
        target = self._link(f"{self.slots}/{slot}")
        return os.path.basename(target) if target else None

    def live_release(self) -> str | None:
        """The live slot's; on a host from before there were slots, what `current` points to."""
        slot = self.live_slot()
        if slot:
            return self.slot_release(slot)
        target = self._link(self.current)
        return os.path.basename(target) if target else None

    def previous_good(self) -> Release | None:
        """The release to go back to: the last good one that went live before the live one."""
        live = self.live_release()
        past = [one for one in self.all_releases() if one.good and one.id != live]
        return max(past, key=lambda one: one.live_at, default=None)

    @staticmethod
    def _link(path: str) -> str | None:
        try:
            return os.readlink(path)
        except OSError:
            return None


def idle(slot: str | None) -> str:
    return "b" if slot == "a" else "a"


@contextlib.contextmanager
def guarded(home: str) -> Iterator[None]:
    """One process of this host at a time; the kernel lets go when the process ends."""
    import fcntl

    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
