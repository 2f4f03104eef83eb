# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a host in restic's encrypted repositories: uploads, Redis's data, settings, secrets.

backup     save all of them into each repository, and forget what is too old
check      read a part of each repository and compare it with its checksums
status     tell what there is; exit code 1 if the newest snapshot is late or a check failed
snapshots  list the snapshots
restore    bring a snapshot into an empty folder: restore --to FOLDER [--snapshot ID]

Runs as root. Prints JSON.
"""

from __future__ import annotations

# It runs on the host without Ansible, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import argparse
import contextlib
import datetime
import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

SETTINGS_FILE = "/etc/golive/backup/files.json"
METRICS = {
    "last_success": "golive_backup_last_success_timestamp_seconds",
    "success": "golive_backup_last_run_success",
    "seconds": "golive_backup_duration_seconds",
    "bytes": "golive_backup_size_bytes",
    "last_run": "golive_backup_last_run_timestamp_seconds",
}
MB = 1 << 20


class FilesError(Exception):
    """What failed, where, and what an operator can do about it."""


@dataclass(frozen=True)
class Repository:
    """Where snapshots go; ``options`` are restic's for this place."""

    name: str
    place: str
    options: list[str] = field(default_factory=list)
    credentials: str = ""


@dataclass(frozen=True)
class Settings:
    """What the role wrote for this host; no secret is in it."""

    paths: list[str]
    exclude: list[str]
    repositories: list[Repository]
    password_file: str
    redis_access: str
    retention_days: int
    maximum_age_hours: float
    check_percent: int
    state: str
    metrics_folder: str
    lock_seconds: float = 7200


def load(path: str) -> Settings:
    try:
        with open(path, encoding="utf-8") as handle:
            told = json.load(handle)
        told["repositories"] = [Repository(**one) for one in told["repositories"]]
        return Settings(**told)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FilesError(f"{path} can't be read: {error}. Run phase8_production.yml.") from None


def call_redis(place: dict[str, Any], commands: Sequence[Sequence[str]]) -> list[str]:
    """The answers to some commands, each as one text."""
    if place.get("path"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(place["path"])
    else:
        connection = socket.create_connection((place["host"], place["port"]), 30)
    answers = []
    with connection, connection.makefile("rb") as stream:
        for words in commands:
            encoded = [word.encode() for word in words]
            parts = [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
            connection.sendall(b"*%d\r\n" % len(encoded) + b"".join(parts))
            answers.append(_answer(stream))
    return answers


def _answer(stream: Any) -> str:
    line = stream.readline().decode("utf-8", "replace").rstrip("\r\n")
    kind, rest = line[:1], line[1:]
    if kind == "-":
        raise FilesError(f"Redis refuses: {rest}")
    if kind == "$":
        return (
            str(stream.read(int(rest) + 2)[:-2].decode("utf-8", "replace")) if rest != "-1" else ""
        )
    if kind == "*":
        return "\n".join(_answer(stream) for _unused in range(int(rest)))
    if kind not in ("+", ":"):
        raise FilesError("Redis closed the connection")
    return str(rest)


def save_redis(access: str, timeout: float = 3600) -> list[str]:
    """Let each persistent instance write a snapshot now; the files that came of it."""
    if not os.path.exists(access):
        return []
    with open(access, encoding="utf-8") as handle:
        instances = [one for one in json.load(handle) if one["persistent"]]
    files = []
    for one in instances:
        login = (("AUTH", one["user"] or "default", one["password"]),) if one["password"] else ()

        def ask(*commands: Sequence[str], one: Any = one, login: Any = login) -> list[str]:
            try:
                return call_redis(one["place"], [*login, *commands])[len(login) :]
            except OSError as error:
                raise FilesError(
                    f"The Redis instance {one['name']} can't be asked to save: {error}. Look "
                    "whether it runs; a backup without its data would say nothing of that later."
                ) from error

        def persistence(ask: Any = ask) -> dict[str, str]:
            lines = ask(["INFO", "persistence"])[0].split("\r\n")
            return dict(line.split(":", 1) for line in lines if ":" in line)

        end = time.monotonic() + timeout
        begun = False
        while True:
            told = persistence()
            running = (
                told["rdb_bgsave_in_progress"] == "1" or told["aof_rewrite_in_progress"] == "1"
            )
            if begun and not running:
                break
            if not running:
                ask(["BGSAVE"])
                begun = True
            if time.monotonic() > end:
                raise FilesError(
                    f"The Redis instance {one['name']} did not save within {timeout} s."
                )
            time.sleep(0.2)
        if told["rdb_last_bgsave_status"] != "ok":
            raise FilesError(
                f"The Redis instance {one['name']} could not save; its log says why. Mostly the "
                f"disk of {one['dir']} is full or memory too short for a fork."
            )
        name = ask(["CONFIG", "GET", "dbfilename"])[0].split("\n")[1]
        files.append(os.path.join(one["dir"], name))
    return files


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Alone among all backup jobs of the host."""
    os.makedirs(settings.state, mode=0o755, exist_ok=True)
    with open(os.path.join(settings.state, "jobs.lock"), "a", encoding="utf-8") as handle:
        end = time.monotonic() + settings.lock_seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > end:
                    raise FilesError(
                        f"Another backup job has held {handle.name} for "
                        f"{settings.lock_seconds:.0f} s. systemctl list-units 'golive-backup*' "
                        "tells which."
                    ) from None
                time.sleep(1)
        yield


def restic(settings: Settings, repository: Repository, *words: str) -> tuple[int, str, str]:
    environment = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin"), "HOME": "/root"}
    environment["RESTIC_CACHE_DIR"] = os.path.join(settings.state, "restic-cache")
    if repository.credentials:
        environment["AWS_SHARED_CREDENTIALS_FILE"] = repository.credentials
    done = subprocess.run(
        ["restic", "--repo", repository.place, "--password-file", settings.password_file]
        + [*repository.options, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def run(settings: Settings, repository: Repository, *words: str) -> str:
    code, out, err = restic(settings, repository, *words)
    if code:
        said = " ".join((err.strip() or out.strip()).split())[-1500:]
        raise FilesError(
            f"restic {words[0]} on the repository {repository.name} ({repository.place}) ended "
            f"with {code}: {said}"
        )
    return out


def prepare(settings: Settings, repository: Repository) -> None:
    """Make the repository if there is none; free it of a killed run's lock."""
    code, _out, err = restic(settings, repository, "cat", "config")
    if code:
        if "wrong password" in err or "no key found" in err:
            raise FilesError(
                f"The repository {repository.name} ({repository.place}) has another password "
                f"than {settings.password_file}. Give the one that it was made with, "
                "backup_files_password."
            )
        missing = re.search(
            r"does not exist|no such file|not found|unable to open config", err, re.I
        )
        if not missing or re.search(r"access denied|forbidden|certificate|refused", err, re.I):
            run(settings, repository, "cat", "config")
        run(settings, repository, "init")
    run(settings, repository, "unlock")


def size_of(paths: Sequence[str]) -> int:
    total = 0
    for path in paths:
        if os.path.isfile(path):
            total += os.path.getsize(path)
        for folder, _folders, names in os.walk(path):
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(folder, name)).st_size
    return total


def room(repository: Repository, needed: int) -> None:
    folder = repository.place
    if ":" in folder.split("/")[0]:
        return
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FilesError(
            f"{repository.place} has {free // MB} MB free, and a backup may need {needed // MB} "
            "MB. Nothing was written. Make room, or shorten backup_retention_days or "
            "backup_files_paths."
        )


def snapshots(settings: Settings, repository: Repository) -> list[dict[str, Any]]:
    told = json.loads(run(settings, repository, "snapshots", "--json", "--tag", "golive") or "null")
    return sorted(told or [], key=lambda one: str(one["time"]))


def keep(settings: Settings, name: str, **figures: Any) -> None:
    path = os.path.join(settings.state, "files.json")
    known = recall(settings)
    known[name] = {**known.get(name, {}), **figures}
    _write(path, json.dumps(known, indent=2, sort_keys=True) + "\n", 0o644)
    lines = [
        f'{metric}{{kind="files",name="{one}"}} {told[key]}'
        for key, metric in METRICS.items()
        for one, told in sorted(known.items())
        if told.get(key) is not None
    ]
    os.makedirs(settings.metrics_folder, mode=0o755, exist_ok=True)
    target = os.path.join(settings.metrics_folder, "golive_backup_files.prom")
    _write(target, "\n".join(lines) + "\n", 0o644)


def recall(settings: Settings) -> dict[str, dict[str, Any]]:
    try:
        with open(os.path.join(settings.state, "files.json"), encoding="utf-8") as handle:
            return dict(json.load(handle))
    except (OSError, ValueError):
        return {}


def _write(path: str, text: str, mode: int) -> None:
    handle, partial = tempfile.mkstemp(prefix=".golive-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(partial, mode)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise


def _each(settings: Settings, work: Any, prefix: str = "") -> dict[str, Any]:
    """The work for each repository; one that fails does not keep the others from theirs."""
    told, failed = {}, []
    for repository in settings.repositories:
        started = time.time()
        figures: dict[str, Any] = {prefix + "last_run": round(started)}
        try:
            done = work(repository)
            told[repository.name] = done
            figures.update({prefix + "success": 1, prefix + "last_success": round(time.time())})
            figures.update(bytes=done["bytes"]) if "bytes" in done else None
        except FilesError as error:
            failed.append(str(error))
            figures[prefix + "success"] = 0
        figures[prefix + "seconds"] = round(time.time() - started, 3)
        keep(settings, repository.name, **figures)
    if failed:
        raise FilesError(" ".join(failed))
    return told


def backup(settings: Settings) -> dict[str, Any]:
    dumps = save_redis(settings.redis_access)
    paths = [path for path in settings.paths + dumps if os.path.lexists(path)]
    if not paths:
        raise FilesError(
            f"None of {', '.join(settings.paths)} is there, so there is nothing to save."
        )
    total = size_of(paths)

    def one(repository: Repository) -> dict[str, Any]:
        room(repository, total // 10)
        prepare(settings, repository)
        if not snapshots(settings, repository):
            room(repository, total)
        words = [word for pattern in settings.exclude for word in ("--exclude", pattern)]
        run(settings, repository, "backup", "--tag", "golive", "--one-file-system", *words, *paths)
        run(
            settings, repository, "forget", "--tag", "golive", "--group-by", "host", "--prune",
            "--keep-within", f"{settings.retention_days}d", "--keep-last", "1",
        )  # fmt: skip
        newest = snapshots(settings, repository)[-1]
        return {"snapshot": newest["short_id"], "time": newest["time"], "bytes": total}

    return _each(settings, one)


def check(settings: Settings) -> dict[str, Any]:
    def one(repository: Repository) -> dict[str, Any]:
        prepare(settings, repository)
        run(settings, repository, "check", f"--read-data-subset={settings.check_percent}%")
        return {"checked": True}

    return _each(settings, one, "check_")


def status(settings: Settings) -> dict[str, Any]:
    """From what the jobs noted: asks no repository."""
    known, late = recall(settings), []
    for repository in settings.repositories:
        told = known.get(repository.name, {})
        age = (time.time() - told.get("last_success", 0)) / 3600
        if "last_success" not in told:
            late.append(f"The repository {repository.name} has no backup of the files yet.")
        elif age > settings.maximum_age_hours:
            late.append(f"The newest backup of the files in {repository.name} is {age:.1f} h old.")
        if told.get("check_success") == 0:
            late.append(
                f"The last check of the repository {repository.name} found damage or failed."
            )
    if late:
        raise FilesError(
            " ".join(late)
            + " journalctl -u golive-backup-files -u golive-backup-files-check says why."
        )
    return known


def restore(settings: Settings, folder: str, snapshot: str, name: str) -> dict[str, Any]:
    chosen = [one for one in settings.repositories if name in ("", one.name)]
    if not chosen:
        raise FilesError(
            f"There is no repository {name}; there are "
            f"{', '.join(one.name for one in settings.repositories)}."
        )
    if os.path.isdir(folder) and os.listdir(folder):
        raise FilesError(
            f"{folder} is not empty. Name a new folder; nothing is restored over files."
        )
    there = snapshots(settings, chosen[0])
    if not there:
        raise FilesError(f"The repository {chosen[0].name} has no snapshot.")
    match = [one for one in there if snapshot == "latest" or one["id"].startswith(snapshot)]
    if not match:
        raise FilesError(
            f"There is no snapshot {snapshot} in {chosen[0].name}; there are "
            f"{', '.join(one['short_id'] + ' of ' + one['time'][:19] for one in there[-10:])}."
        )
    os.makedirs(folder, mode=0o700, exist_ok=True)
    run(settings, chosen[0], "restore", match[-1]["id"], "--target", folder, "--verify")
    return {"restored": match[-1]["short_id"], "time": match[-1]["time"], "folder": folder}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="golive-backup-files",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command", choices=["backup", "ensure", "check", "status", "snapshots", "restore"]
    )
    parser.add_argument("--to", help="empty folder for what is restored")
    parser.add_argument(
        "--snapshot", default="latest", help="id of a snapshot; the newest without it"
    )
    parser.add_argument("--repository", default="", help="local or s3; the first one without it")
    parser.add_argument("--settings", default=SETTINGS_FILE)
    given = parser.parse_args()
    changed = False
    try:
        settings = load(given.settings)
        if given.command == "restore":
            if not given.to:
                parser.error("restore needs --to FOLDER")
            told: Any = restore(settings, given.to, given.snapshot, given.repository)
        elif given.command == "status":
            told = status(settings)
        elif given.command == "snapshots":
            told = {one.name: snapshots(settings, one) for one in settings.repositories}
        else:
            with locked(settings):
                command = given.command
                if command == "ensure":
                    try:
                        told = status(settings)
                    except FilesError:
                        command = "backup"
                        if any("check_success" in one for one in recall(settings).values()):
                            check(settings)
                if command == "backup":
                    told, changed = backup(settings), True
                elif command == "check":
                    told = check(settings)
    except FilesError as error:
        print(f"golive-backup-files: {error}", file=sys.stderr)
        return 1
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    print(json.dumps({"at": now, "changed": changed, "told": told}, indent=2, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
