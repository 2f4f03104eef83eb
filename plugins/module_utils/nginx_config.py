# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nginx's files as one set: tested together before any takes its place, then loaded for certain.

nginx reads all its files or none, so a file can't be judged alone: two sites may be good by
themselves and clash. The new set is therefore laid out in a folder of its own and given to
``nginx -t``. And a reload that nginx refuses (a port that another program holds, a zone whose key
changed) is told by its error log only, so the workers are looked at.
"""

from __future__ import annotations

# This part runs without Ansible too, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

MAXIMUM_DIFF_BYTES = 256 * 1024
CANDIDATE_SUFFIX = ".golive"
POLL_SECONDS = 0.02
_PLACE = re.compile(r"in (/\S+?):(\d+)")
_STAMP = re.compile(r"^(nginx: |\d{4}/\d\d/\d\d [\d:]{8} )?\[\w+\] (\d+#\d+: )?")


class NginxConfigError(Exception):
    """A set of files that nginx can't serve with; the text names the file and the cause."""


@dataclass(frozen=True)
class File:
    """A file below nginx's folder; ``source`` tells a user which setting it comes from."""

    path: str
    content: str
    source: str = ""
    mode: int = 0o644


@dataclass(frozen=True)
class Change:
    """What differs at ``path``: ``created``, ``content``, ``attributes`` or ``removed``."""

    path: str
    kind: str
    before: str
    after: str


@dataclass(frozen=True)
class Process:
    """One process of nginx: ``started`` in seconds since the epoch."""

    pid: int
    parent: int
    started: float
    title: str

    @property
    def serves(self) -> bool:
        return "worker process" in self.title and "shutting down" not in self.title

    @property
    def leaves(self) -> bool:
        return "worker process" in self.title and "shutting down" in self.title


@dataclass(frozen=True)
class Service:
    """What systemd says of nginx."""

    active: bool
    enabled: bool
    main_pid: int


@dataclass
class Outcome:
    """What was done, or would be with ``check``."""

    changes: list[Change] = field(default_factory=list)
    stale: bool = False
    reloaded: bool = False
    still_leaving: int = 0
    service: Service = field(default_factory=lambda: Service(False, False, 0))


@dataclass(frozen=True)
class Settings:
    """Where nginx is and how it is asked."""

    root: str = "/etc/nginx"
    manifest: str = "/etc/nginx/golive/manifest.json"
    main_file: str = "nginx.conf"
    binary: str = "nginx"
    unit: str = "nginx.service"
    error_log: str = "/var/log/nginx/error.log"
    staging_folder: str | None = None
    reload_timeout: float = 30.0


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def read_manifest(path: str) -> list[str]:
    """The files that earlier runs made. A manifest that can't be read is told, not guessed."""
    content = _read(path)
    if content is None:
        return []
    try:
        told = json.loads(content)
        files = told["files"]
        if not isinstance(files, list) or not all(isinstance(one, str) for one in files):
            raise ValueError("files is not a list of paths")
    except (ValueError, KeyError, TypeError) as error:
        raise NginxConfigError(
            f"{path} is not the list of files that this role keeps there ({error}). Remove it: the "
            "next run makes it anew, and files of sites that are gone must then be removed by hand."
        ) from error
    return files


def _check_paths(files: Sequence[File], settings: Settings) -> None:
    seen: dict[str, File] = {}
    for one in files:
        if os.path.normpath(one.path) != one.path or not one.path.startswith(settings.root + "/"):
            raise NginxConfigError(
                f"{one.path}: a file of nginx has a plain path below {settings.root}/."
            )
        if one.path in seen:
            raise NginxConfigError(
                f"{one.path} would be written twice, for {seen[one.path].source or 'one file'} and "
                f"for {one.source or 'another'}: give one of them another name."
            )
        seen[one.path] = one


def plan(files: Sequence[File], absent: Sequence[str], settings: Settings) -> list[Change]:
    """What has to change so that the files are there, and those of gone sites are not."""
    _check_paths(files, settings)
    wanted = {one.path for one in files}
    changes = []
    for one in files:
        try:
            status = os.lstat(one.path)
        except (FileNotFoundError, NotADirectoryError):
            changes.append(Change(one.path, "created", "", one.content))
            continue
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            raise NginxConfigError(f"{one.path} is there and is not a file; move it away first.")
        content = (_read(one.path) or b"") if stat.S_ISREG(status.st_mode) else b""
        if stat.S_ISLNK(status.st_mode) or content != one.content.encode():
            before = content.decode("utf-8", "replace")
            changes.append(Change(one.path, "content", before, one.content))
        elif stat.S_IMODE(status.st_mode) != one.mode:
            told = (f"mode {mode:04o}\n" for mode in (stat.S_IMODE(status.st_mode), one.mode))
            changes.append(Change(one.path, "attributes", *told))
    gone = [path for path in read_manifest(settings.manifest) if path not in wanted]
    for path in [*gone, *(path for path in absent if path not in wanted and path not in gone)]:
        if not path.startswith(settings.root + "/"):
            continue
        if os.path.islink(path):
            changes.append(Change(path, "removed", f"link to {os.readlink(path)}\n", ""))
        elif os.path.isfile(path):
            text = (_read(path) or b"").decode("utf-8", "replace")
            changes.append(Change(path, "removed", text, ""))
    return changes


def _lay_out(source: str, target: str, root: str, stage: str, removed: set[str]) -> None:
    """Copy the tree, with paths into it turned to the copy; all else becomes links.

    Links keep private keys out of the copy.
    """
    os.makedirs(target, mode=0o700, exist_ok=True)
    with os.scandir(source) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        place = os.path.join(target, entry.name)
        real = os.path.realpath(entry.path)
        if entry.path in removed or entry.name.endswith(CANDIDATE_SUFFIX):
            continue
        if entry.is_dir(follow_symlinks=True):
            if real.startswith(root + "/") or not entry.is_symlink():
                _lay_out(entry.path, place, root, stage, removed)
            else:
                os.symlink(real, place)
            continue
        content = _read(entry.path) if entry.is_file() else None
        if content is not None and (root + "/").encode() in content:
            with open(place, "wb") as stream:
                stream.write(content.replace((root + "/").encode(), (stage + "/").encode()))
        elif content is not None:
            os.symlink(real, place)
        else:
            # A link to nowhere stays one: nginx has to stumble over it here as it would there.
            os.symlink(os.readlink(entry.path) if entry.is_symlink() else entry.path, place)


@contextlib.contextmanager
def staged(files: Sequence[File], changes: Sequence[Change], settings: Settings) -> Iterator[str]:
    """A copy of nginx's folder as it would be after the changes; gives its path."""
    root = settings.root
    removed = {change.path for change in changes if change.kind == "removed"}
    removed |= {change.path for change in changes if change.kind in ("content", "created")}
    folder = settings.staging_folder
    if folder is None:
        folder = "/run" if os.path.isdir("/run") and os.access("/run", os.W_OK) else None
    stage = tempfile.mkdtemp(prefix="golive-nginx.", dir=folder)
    try:
        if os.path.isdir(root):
            _lay_out(root, stage, root, stage, removed)
        for one in files:
            place = stage + one.path[len(root) :]
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(place)
            with open(place, "w", encoding="utf-8") as stream:
                stream.write(one.content.replace(root + "/", stage + "/"))
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _whose(said: str, files: Sequence[File], settings: Settings) -> str:
    place = _PLACE.search(said)
    if place is None:
        return ""
    source = next((one.source for one in files if one.path == place[1]), None)
    if source is None:
        return (
            f" {place[1]} is not written by this role: mend it there, or move it out of "
            f"{settings.root}."
        )
    return f" {place[1]} comes from {source}." if source else ""


def check_set(files: Sequence[File], changes: Sequence[Change], settings: Settings) -> None:
    """Let nginx read the whole set before any file takes its place."""
    with staged(files, changes, settings) as stage:
        argv = [settings.binary, "-q", "-t", "-c", os.path.join(stage, settings.main_file)]
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
            raise NginxConfigError(f"{settings.binary} can't be run: {error.strerror}.") from error
        if done.returncode == 0:
            return
        said = (done.stderr.strip() or done.stdout.strip()).replace(stage, settings.root)
    said = "\n".join(
        _STAMP.sub("", line) for line in said.splitlines() if " test failed" not in line
    )
    raise NginxConfigError(
        "nginx refused the new configuration, so nothing was changed and it serves on with its old "
        f"files. nginx says: {said}.{_whose(said, files, settings)}"
    )


def _write_manifest(paths: set[str], settings: Settings) -> None:
    text = json.dumps({"files": sorted(paths)}, indent=1) + "\n"
    if _read(settings.manifest) == text.encode():
        return
    os.makedirs(os.path.dirname(settings.manifest), mode=0o755, exist_ok=True)
    handle, candidate = tempfile.mkstemp(
        prefix=".manifest.", suffix=CANDIDATE_SUFFIX, dir=os.path.dirname(settings.manifest)
    )
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        os.fchmod(stream.fileno(), 0o644)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(candidate, settings.manifest)


def _sweep(files: Sequence[File]) -> None:
    """Remove what a run that was killed left beside the files."""
    for folder in {os.path.dirname(one.path) for one in files}:
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(folder):
                if name.startswith(".") and name.endswith(CANDIDATE_SUFFIX):
                    os.unlink(os.path.join(folder, name))


def install(files: Sequence[File], changes: Sequence[Change], settings: Settings) -> None:
    """Put the checked files into their places, all within an instant.

    The manifest comes first, so that a file is known to be ours whenever the run is killed.
    """
    kinds = {change.path: change.kind for change in changes}
    wanted = {one.path for one in files}
    # nginx's workers read the pages and must get through the folders.
    before = os.umask(0o022)
    try:
        _install(files, changes, kinds, wanted, settings)
    finally:
        os.umask(before)


def _install(
    files: Sequence[File],
    changes: Sequence[Change],
    kinds: dict[str, str],
    wanted: set[str],
    settings: Settings,
) -> None:
    _sweep(files)
    _write_manifest(wanted | set(read_manifest(settings.manifest)), settings)
    candidates: list[tuple[str, str]] = []
    try:
        for one in files:
            if kinds.get(one.path) not in ("created", "content"):
                continue
            folder, name = os.path.split(one.path)
            os.makedirs(folder, mode=0o755, exist_ok=True)
            handle, candidate = tempfile.mkstemp(
                prefix=f".{name}.", suffix=CANDIDATE_SUFFIX, dir=folder
            )
            candidates.append((candidate, one.path))
            with os.fdopen(handle, "wb") as stream:
                stream.write(one.content.encode())
                os.fchmod(stream.fileno(), one.mode)
                stream.flush()
                os.fsync(stream.fileno())
        while candidates:
            os.replace(*candidates[0])
            candidates.pop(0)
    finally:
        for candidate, _unused in candidates:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(candidate)
    for one in files:
        if kinds.get(one.path) == "attributes":
            os.chmod(one.path, one.mode)
    for change in changes:
        if change.kind == "removed":
            with contextlib.suppress(FileNotFoundError):
                os.unlink(change.path)
            with contextlib.suppress(OSError):
                if os.path.dirname(change.path).startswith(f"{settings.root}/golive/"):
                    os.rmdir(os.path.dirname(change.path))
    _write_manifest(wanted, settings)


def newest_file(settings: Settings, watched: Sequence[str]) -> float:
    """When something that nginx reads was last changed, by the clock."""
    newest = 0.0
    places = [settings.root]
    for folder, folders, names in os.walk(settings.root):
        places += [os.path.join(folder, name) for name in (*folders, *names)]
    for place in [*places, *watched]:
        if place == settings.manifest:
            continue
        with contextlib.suppress(OSError):
            status = os.stat(place)
            newest = max(newest, status.st_mtime, status.st_ctime)
    return newest


def processes(proc: str = "/proc") -> list[Process]:
    """All processes that can be seen."""
    offset = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    ticks = os.sysconf("SC_CLK_TCK")
    found = []
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        try:
            with open(f"{proc}/{name}/stat", "rb") as stream:
                fields = stream.read().rpartition(b")")[2].split()
            with open(f"{proc}/{name}/cmdline", "rb") as stream:
                title = stream.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue
        if len(fields) > 19 and fields[0] != b"Z":
            started = offset + int(fields[19]) / ticks
            found.append(Process(int(name), int(fields[1]), started, title))
    return found


def workers(master: int, proc: str = "/proc") -> list[Process]:
    """The workers of a master, those that leave too."""
    return [one for one in processes(proc) if one.parent == master and (one.serves or one.leaves)]


def is_stale(found: Sequence[Process], newest: float) -> bool:
    """Whether a worker serves that began before the newest file was there.

    The oldest one counts: a worker that crashed and was replaced has the master's old files too.
    """
    serving = [one.started for one in found if one.serves]
    # The kernel gives starts in hundredths of a second.
    return bool(serving) and min(serving) + 0.02 < newest


def ask_service(unit: str) -> Service:
    """Whether the unit runs and starts at boot."""
    done = subprocess.run(
        ["systemctl", "show", unit, "-p", "ActiveState", "-p", "MainPID", "-p", "UnitFileState"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    pid = told.get("MainPID", "0")
    return Service(
        active=told.get("ActiveState") in ("active", "reloading"),
        enabled=told.get("UnitFileState") == "enabled",
        main_pid=int(pid) if pid.isdigit() else 0,
    )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _said_since(path: str, offset: int) -> str:
    try:
        with open(path, "rb") as stream:
            stream.seek(min(offset, _size(path)))
            text = stream.read(64 * 1024).decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if re.search(r"\[(emerg|alert|crit)\]", line)]
    # One line of its own for each try to bind a port: the last ones tell it.
    return "\n".join(lines[-3:])


def reload(master: int, settings: Settings) -> None:
    """Reload, and wait until new workers serve and no old one takes connections."""
    before = {one.pid for one in workers(master)}
    offset = _size(settings.error_log)
    # Files and starts are compared by the clock, which ticks in hundredths.
    time.sleep(0.03)
    done = subprocess.run(
        ["systemctl", "reload", settings.unit],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NginxConfigError(
            f"systemctl reload {settings.unit} failed, and nginx serves on as before: "
            f"{done.stderr.strip()} Look at: journalctl -u {settings.unit} -n 20"
        )
    end = time.monotonic() + settings.reload_timeout
    while time.monotonic() < end:
        now = workers(master)
        fresh = [one for one in now if one.serves and one.pid not in before]
        if fresh and not [one for one in now if one.serves and one.pid in before]:
            return
        said = _said_since(settings.error_log, offset)
        if "[emerg]" in said and not fresh:
            # It tries for half a second to bind a port; what it says last counts.
            time.sleep(0.6)
            if not [one for one in workers(master) if one.serves and one.pid not in before]:
                break
        time.sleep(POLL_SECONDS)
    said = _said_since(settings.error_log, offset)
    raise NginxConfigError(
        "nginx read the new files and did not take them: it serves on with the old ones. "
        + (f"{settings.error_log} says:\n{said}" if said else f"See {settings.error_log}.")
        + "\nMend the cause and run again; the files are in their places already."
    )


def wait_for_leaving(master: int, seconds: float) -> int:
    """Wait until the workers of before have answered all they had; how many have not."""
    end = time.monotonic() + seconds
    while True:
        left = sum(one.leaves for one in workers(master))
        if not left or time.monotonic() >= end:
            return left
        time.sleep(POLL_SECONDS)


def apply(
    files: Sequence[File],
    absent: Sequence[str] = (),
    watched: Sequence[str] = (),
    settings: Settings | None = None,
    check: bool = False,
    wait_seconds: float = 0.0,
    with_service: bool = True,
) -> Outcome:
    """Make nginx serve with these files; with ``check``, only tell what would change.

    Raises NginxConfigError before the first change when nginx doesn't accept the set.
    """
    settings = settings or Settings()
    outcome = Outcome(changes=plan(files, absent, settings))
    if with_service:
        outcome.service = ask_service(settings.unit)
    master = outcome.service.main_pid if outcome.service.active else 0
    if not outcome.changes and master:
        outcome.stale = is_stale(workers(master), newest_file(settings, watched))
    if check:
        return outcome
    if outcome.changes or outcome.stale or (with_service and not master):
        check_set(files, outcome.changes, settings)
    if outcome.changes or set(read_manifest(settings.manifest)) != {one.path for one in files}:
        install(files, outcome.changes, settings)
    if master and (outcome.changes or outcome.stale):
        reload(master, settings)
        outcome.reloaded = True
    if master and wait_seconds > 0:
        outcome.still_leaving = wait_for_leaving(master, wait_seconds)
    return outcome
