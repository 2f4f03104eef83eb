# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program golive-backup. Prints one JSON document; ends with 1 if something is wrong.

run      dump each database now
drill    restore the newest backup beside the live cluster, compare and time it
ensure   make whatever backup, dump or drill is missing or late
status   tell what there is; 1 if something is late, missing or failing
"""

from __future__ import annotations

# It runs on the host without Ansible, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import argparse
import contextlib
import json
import os
import pwd
import signal
import sys
from collections.abc import Callable
from typing import Any

from . import backups, drill, dump, metrics, restore
from .common import (
    SETTINGS_FILE,
    BackupError,
    Settings,
    job_lock,
    load_settings,
    now,
    told_time,
)
from .driver import psycopg2
from .pgbackrest import PgBackRest, points

USER = "postgres"


def _interrupted(number: int, _frame: Any) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise BackupError(f"Stopped by signal {number}. Nothing that was begun counts; run it again.")


def _drop_privileges() -> None:
    entry = pwd.getpwnam(USER)
    os.initgroups(USER, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.umask(0o077)


def as_postgres(work: Callable[[], Any]) -> Any:
    """Do it as the system user postgres, in a process of its own where this one is root's."""
    if os.geteuid() != 0:
        signal.signal(signal.SIGTERM, _interrupted)
        return work()
    from_child, to_parent = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(from_child)
        signal.signal(signal.SIGTERM, _interrupted)
        try:
            _drop_privileges()
            told: dict[str, Any] = {"result": work()}
        except (BackupError, psycopg2.Error, OSError) as error:
            told = {"error": str(error).strip() or type(error).__name__}
        except BaseException as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        with contextlib.suppress(OSError), os.fdopen(to_parent, "w", encoding="utf-8") as pipe:
            json.dump(told, pipe)
        sys.stderr.flush()
        os._exit(0)
    os.close(to_parent)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.kill(child, signal.SIGTERM))
    with os.fdopen(from_child, encoding="utf-8") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    if not text:
        raise BackupError("The process that did the work was killed.")
    answer = json.loads(text)
    if "error" in answer:
        raise BackupError(answer["error"])
    return answer.get("result")


def _dumps(settings: Settings) -> bool:
    with job_lock(settings):
        failed = []
        for database in settings.databases:
            try:
                dump.dump(settings, database)
            except (BackupError, psycopg2.Error, OSError) as error:
                failed.append(f"{database}: {str(error).strip()}")
        if failed:
            raise BackupError(" ".join(failed))
    return True


def _dump_drills(settings: Settings) -> bool:
    with job_lock(settings):
        for database in settings.databases:
            dump.drill(settings, database)
    return True


def _backup(settings: Settings, kind: str) -> bool:
    with job_lock(settings):
        backups.make(settings, kind)
    return True


def _ensure(settings: Settings) -> bool:
    changed = False
    pg = PgBackRest(settings)
    with job_lock(settings):
        if settings.databases:
            lacking: dict[str, list[int]] = {}
            for number in settings.repositories:
                kind = backups.needed(pg.info(number), settings)
                if kind:
                    lacking.setdefault(kind, []).append(number)
            for kind in sorted(lacking, reverse=True):
                backups.make(settings, kind, lacking[kind])
                changed = True
        for database in settings.databases:
            found = dump.manifests(settings, database)
            failed = metrics.state(settings, "dump", database).get("success") == 0
            if failed or not found or dump.age_hours(found[0]) > settings.maximum_age_hours:
                dump.dump(settings, database)
                changed = True
            if not dump.manifests(settings, database)[0]["drill"]:
                dump.drill(settings, database)
                changed = True
        if settings.databases and settings.drill_maximum_age_hours > 0:
            for number in _drills_due(settings):
                drill.drill(settings, number)
                changed = True
    return changed


def _drills_due(settings: Settings) -> list[int]:
    """The repositories whose last drill failed; else, if the last good one is late, any (0)."""
    last = {one: metrics.state(settings, "drill", f"repo{one}") for one in settings.repositories}
    failed = [number for number, told in last.items() if told.get("success") == 0]
    if failed:
        return failed
    newest = max((told.get("last_success") or 0 for told in last.values()), default=0)
    return [0] if now().timestamp() - newest > settings.drill_maximum_age_hours * 3600 else []


def _drill(settings: Settings, repository: int) -> dict[str, Any]:
    with job_lock(settings):
        return drill.drill(settings, repository)


def _request(text: str) -> restore.Request:
    try:
        return restore.Request(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise BackupError(f"The request isn't understood: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="golive-backup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--settings", default=SETTINGS_FILE, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in (
        ("run", "dump each database now"),
        ("dump-drill", "restore each newest dump into a scratch database and compare the rows"),
        ("full", "a full backup into each repository"),
        ("diff", "a differential backup into each repository"),
        ("ensure", "make whatever is missing or late"),
        ("status", "tell what there is; 1 if something is wrong"),
        ("check", "the same, for the timer: its last line says what is wrong"),
        ("prepare", "make the stanza where it is missing"),
        ("list", "the backups and restore points that there are"),
        ("restore-remove", "remove the cluster that a restore has left running"),
    ):
        commands.add_parser(name, help=text)
    one = commands.add_parser("drill", help="restore the newest backup, compare and time it")
    one.add_argument("--repository", type=int, default=0, help="1 is local, 2 is S3")
    one = commands.add_parser("apply", help="have PostgreSQL read a changed settings file")
    one.add_argument("file")
    one = commands.add_parser("point", help="make a named restore point")
    one.add_argument("name")
    for name, text in (("restore-plan", "what a restore would do"), ("restore", "restore")):
        one = commands.add_parser(name, help=text)
        one.add_argument(
            "request", help='JSON, e.g. {"target": "time", "time": "...", "replaces": "shop"}'
        )
    one = commands.add_parser("restore-drop-old", help="remove what a restore has replaced")
    one.add_argument("name")
    return parser


def _list(settings: Settings) -> dict[str, Any]:
    found = restore.read_repositories(settings, 0)
    return {
        "backups": [
            {
                "repository": one.number, "label": backup.label, "kind": backup.kind,
                "stopped": told_time(backup.stopped), "size": backup.size,
                "stored": backup.stored, "point": (backup.point or {}).get("name", ""),
            }
            for one in found for backup in one.backups
        ],
        "points": [
            {key: point[key] for key in ("name", "time", "lsn")} for point in points(found)
        ],
    }  # fmt: skip


def _answer(settings: Settings, given: argparse.Namespace) -> dict[str, Any]:
    """What is printed; `problems` in it make the program end with 1."""
    command = given.command
    if command == "restore":
        request = _request(given.request)
        if request.whole_cluster:
            return restore.whole(settings, request, as_postgres)
        return dict(as_postgres(lambda: restore.restore(settings, request)))
    if command == "restore-plan":
        request = _request(given.request)

        def planned() -> dict[str, Any]:
            before = restore.done_before(settings, request)
            if before:
                return {"changed": False, "done_before": before}
            return {"changed": False, **restore.plan(settings, request).told()}

        return dict(as_postgres(planned))
    if command == "restore-drop-old":
        return {"changed": as_postgres(lambda: restore.drop_old(settings, given.name))}
    if command == "restore-remove":
        return {"changed": as_postgres(lambda: restore.remove_restored(settings))}
    if command == "point":
        return {"changed": True, **as_postgres(lambda: restore.point(settings, given.name))}
    if command == "list":
        return dict(as_postgres(lambda: _list(settings)))
    if command == "apply":
        return dict(as_postgres(lambda: backups.apply(settings, given.file)))
    if command == "prepare":
        return {"changed": as_postgres(lambda: backups.prepare(settings))}
    if command == "drill":
        return dict(as_postgres(lambda: _drill(settings, given.repository)))
    work: dict[str, Callable[[], bool]] = {
        "run": lambda: _dumps(settings),
        "dump-drill": lambda: _dump_drills(settings),
        "full": lambda: _backup(settings, "full"),
        "diff": lambda: _backup(settings, "diff"),
        "ensure": lambda: _ensure(settings),
    }
    changed = bool(as_postgres(work[command])) if command in work else False
    told = dict(as_postgres(lambda: backups.status(settings)))
    if command == "check":
        told = {key: told[key] for key in ("problems", "warnings")}
    if command not in ("status", "check", "ensure"):
        told.pop("problems")
    return {"changed": changed, **told}


def main(argv: list[str] | None = None) -> int:
    given = _parser().parse_args(argv)
    code = 0
    settings = None
    try:
        settings = load_settings(given.settings)
        answer = _answer(settings, given)
        problems = answer.get("problems") or []
        print(json.dumps(answer, indent=2, sort_keys=True))
        if problems:
            code = 1
            print(f"golive-backup {given.command}: {'; '.join(problems)}", file=sys.stderr)
    except (BackupError, psycopg2.Error, OSError) as error:
        text = str(error).strip() or type(error).__name__
        print(json.dumps({"changed": False, "error": text}, indent=2))
        print(f"golive-backup {given.command}: {text}", file=sys.stderr)
        code = 1
    if settings is not None and os.geteuid() == 0:
        with contextlib.suppress(OSError):
            metrics.publish(settings)
    return code
