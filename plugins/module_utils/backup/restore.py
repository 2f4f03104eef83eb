# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""restore.yml's work: to the latest moment, a time or a named point, beside the live cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from typing import Any

from . import dump, evidence, moment, replace
from .cluster import (
    PORT,
    Scratch,
    remove,
    replayed,
    stop_leftover,
    stop_options,
    target_options,
)
from .common import (
    BackupError,
    Settings,
    free_bytes,
    job_lock,
    megabytes,
    note,
    now,
    parse_time,
    read_json,
    run,
    stamp,
    told_time,
    write_json,
)
from .database import Server
from .drill import known
from .driver import psycopg2
from .pgbackrest import PLACE, Backup, PgBackRest, Repository, choose, listed, points

AsPostgres = Callable[[Callable[[], Any]], Any]


@dataclasses.dataclass(frozen=True)
class Request:
    """What the operator wants."""

    target: str = "latest"
    time: str = ""
    name: str = ""
    repository: int = 0
    set: str = ""
    replaces: str = ""
    whole_cluster: str = ""
    again: bool = False

    @property
    def key(self) -> str:
        """The same for the same wish, whatever is to be done with what it brings."""
        return json.dumps([self.target, self.time, self.name, self.repository, self.set])


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where it comes from and goes to."""

    request: Request
    backup: Backup
    moment: datetime.datetime | None
    data: str
    space: dict[str, str]
    steps: list[str]

    def told(self) -> dict[str, Any]:
        return {
            "target": described(self.request, self.moment),
            "repository": PLACE[self.backup.repository],
            "backup": f"{self.backup.label} of {told_time(self.backup.stopped)[:19]}+00",
            "space": self.space,
            "steps": self.steps,
        }


def described(request: Request, moment: datetime.datetime | None) -> str:
    if request.target == "time" and moment:
        return f"the moment {told_time(moment)}"
    if request.target == "name":
        return f"the restore point {request.name}"
    return "the newest commit in the archive"


def check_request(request: Request) -> datetime.datetime | None:
    """What can be seen to be wrong without a look at any repository."""
    if request.target not in ("latest", "time", "name"):
        raise BackupError(f"restore_target is {request.target!r}; it is latest, time or name.")
    for target, variable, value in (
        ("time", "restore_time", request.time),
        ("name", "restore_name", request.name),
    ):
        if request.target == target and not value:
            raise BackupError(f"restore_target is {target}, so {variable} has to be set.")
        if request.target != target and value:
            raise BackupError(
                f"{variable} is set and restore_target is {request.target}: set"
                f" restore_target={target}"
                f" or leave {variable} out."
            )
    if request.replaces and request.whole_cluster:
        raise BackupError("Set restore_replaces or restore_whole_cluster, not both.")
    if request.replaces in ("postgres", "template0", "template1"):
        raise BackupError(f"restore_replaces is {request.replaces}, which is PostgreSQL's own.")
    if request.target != "time":
        return None
    moment = parse_time(request.time)
    if moment > now():
        raise BackupError(
            f"restore_time is {told_time(moment)}, which is in the future; it is"
            f" {told_time(now())} now."
        )
    return moment


def find(
    request: Request, moment: datetime.datetime | None, repositories: list[Repository]
) -> Backup:
    """The backup to begin with, from the first repository that has one that fits."""
    until = moment
    if request.target == "name" and not request.set:
        there = {one["name"]: one for one in points(repositories)}
        if request.name not in there:
            names = ", ".join(
                f"{one['name']} ({str(one['time'])[:19]}+00)" for one in there.values()
            )
            raise BackupError(
                f"restore_name is {request.name!r}, which isn't among the known restore points:"
                f" {names or 'there are none'}. For one that was made otherwise set"
                " restore_set to the"
                f" backup before it; {listed(repositories)}."
            )
        until = parse_time(str(there[request.name]["time"]))
    for repository in repositories:
        found = choose(repository.backups, until, request.set)
        if found:
            return found
    what = f"restore_set is {request.set!r}; n" if request.set else "N"
    raise BackupError(
        f"{what}o whole backup ended before {told_time(until) if until else 'now'}:"
        f" {listed(repositories)}."
    )


def read_repositories(settings: Settings, wanted: int) -> list[Repository]:
    if wanted and wanted not in settings.repositories:
        raise BackupError(
            f"restore_repo is {wanted}; this host has {', '.join(map(str, settings.repositories))}"
            " (1 is the local one, 2 is S3)."
        )
    pg, found, failed = PgBackRest(settings), [], []
    for number in [wanted] if wanted else settings.repositories:
        try:
            found.append(pg.info(number))
        except BackupError as error:
            failed.append(str(error))
            note(str(error))
    if not any(one.backups for one in found):
        raise BackupError(" ".join(failed) or f"There is nothing to restore: {listed(found)}.")
    return found


def _filesystem(path: str) -> tuple[int, str]:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return os.stat(path).st_dev, path


def _space(needs: list[tuple[str, float]]) -> dict[str, str]:
    """Needs on the same file system add up; too little of one is an error."""
    total: dict[int, tuple[str, float]] = {}
    for path, size in needs:
        device, there = _filesystem(path)
        total[device] = (there, total.get(device, ("", 0.0))[1] + size)
    for path, size in total.values():
        if free_bytes(path) < size:
            raise BackupError(
                f"{path} has {megabytes(free_bytes(path))} free and the restore takes about"
                f" {megabytes(size)}. Nothing was written. Add space, or set"
                " backup_scratch_folder to"
                " a folder that has it."
            )
    return {
        path: f"about {megabytes(size)} of {megabytes(free_bytes(path))} free"
        for path, size in total.values()
    }


def plan(settings: Settings, request: Request) -> Plan:
    """All that can be refused is refused here, before anything changes."""
    moment = check_request(request)
    ours = f"{settings.version}/{settings.cluster}"
    if request.whole_cluster and request.whole_cluster != ours:
        raise BackupError(
            f"restore_whole_cluster is {request.whole_cluster!r}; the cluster on this"
            f" host is {ours}."
        )
    repositories = read_repositories(settings, request.repository)
    backup = find(request, moment, repositories)
    version = next(
        (
            one.split("-")[0]
            for r in repositories
            if r.number == backup.repository
            for one in r.wal_ids
        ),
        settings.version,
    )
    if not os.path.exists(f"/usr/lib/postgresql/{version}/bin/postgres"):
        raise BackupError(
            f"The backup is of PostgreSQL {version}, which isn't installed here (this host has"
            f" {settings.version}). Install postgresql-{version}."
        )
    if request.whole_cluster and version != settings.version:
        raise BackupError(f"The backup is of PostgreSQL {version} and the cluster here is {ours}.")
    if request.replaces:
        _check_replaced(settings, request.replaces, repositories)
    data = os.path.join(settings.scratch, "restored")
    if request.whole_cluster:
        data = f"{settings.data_directory}_restored_{stamp(now())}"
    size = backup.size * 1.05 + (256 << 20)
    needs = [(os.path.dirname(data), size)]
    if request.replaces:
        needs += [
            (settings.scratch, backup.size * 0.5),
            (settings.data_directory, backup.size * 1.1),
        ]
    target = described(request, moment)
    steps = [
        f"restore {backup.label} from {PLACE[backup.repository]} into {data}, a new cluster that"
        " archives nothing and listens on no network",
        f"replay WAL up to {target}",
        "check tables and indexes, and compare with the evidence where the target has some",
    ]
    if request.replaces:
        steps += [
            f"copy the database {request.replaces} from it into the live cluster under a new name,"
            " and compare every table",
            f"close {request.replaces}, end its sessions, and give its name to the"
            " copy; the old one"
            f" stays as {request.replaces}_before_<time>",
            "remove the restored cluster",
        ]
    elif request.whole_cluster:
        steps += [
            f"stop {settings.unit}, rename {settings.data_directory} to ..._before_<time>, put the"
            " restored cluster in its place, and start it",
        ]
    else:
        steps.append(
            f"leave it running for a look: psql -h {data}.socket -p {PORT} DATABASE, as"
            " the user postgres;"
            " nothing of the live cluster changes"
        )
    return Plan(request, backup, moment, data, _space(needs), steps)


def _check_replaced(settings: Settings, name: str, repositories: list[Repository]) -> None:
    live = dump.live(settings)
    try:
        there = live.databases()
    except psycopg2.Error as error:
        raise BackupError(
            f"The live cluster doesn't answer on port {settings.port}: {str(error).strip()}. For a"
            " host that lost its cluster set restore_whole_cluster instead."
        ) from None
    closed = [row[0] for row in live.ask("SELECT datname FROM pg_database WHERE NOT datallowconn")]
    remembered = set(settings.databases)
    for repository in repositories:
        for backup in repository.backups:
            with contextlib.suppress(BackupError):
                remembered |= set(known(settings, backup) or {})
    if name not in there and name not in closed and name not in remembered:
        raise BackupError(
            f"restore_replaces names {name!r}, which neither the live cluster nor a backup has."
            f" Live: {', '.join(there)}. In backups:"
            f" {', '.join(sorted(remembered)) or 'not recorded'}."
        )


class Memo:
    """What a run has done so far, for the one after a killed one."""

    def __init__(self, settings: Settings) -> None:
        self._path = os.path.join(settings.state, "restore.json")

    def read(self) -> dict[str, Any]:
        return dict(read_json(self._path) or {})

    def write(self, **told: Any) -> None:
        write_json(self._path, {**self.read(), **told})

    def begin(self, **told: Any) -> None:
        write_json(self._path, told)


def mend(settings: Settings) -> None:
    """A run that was killed while a name was closed: the name is opened again."""
    memo = Memo(settings)
    told = memo.read()
    if told.get("stage") != "switching":
        return
    live = dump.live(settings)
    name, old = told["replaces"], told["old"]
    if replace.exists(live, told["new"]):
        if replace.exists(live, name):
            note(f"An earlier run was killed while {name} was closed; it is open again")
            replace.gate(live, name, True)
        memo.write(stage="restored")
    else:
        if replace.exists(live, old):
            replace.gate(live, old, True)
        memo.write(stage="done", finished=told_time(now()))


def done_before(settings: Settings, request: Request) -> dict[str, Any] | None:
    told = Memo(settings).read()
    same = told.get("request") == request.key and told.get("stage") == "done"
    same = same and told.get("replaces", "") == request.replaces
    same = same and told.get("whole_cluster", "") == request.whole_cluster
    return (
        told if same and not request.again and (request.replaces or request.whole_cluster) else None
    )


def restore(settings: Settings, request: Request) -> dict[str, Any]:
    """Beside the live cluster, and into it where a database is named."""
    with job_lock(settings):
        return _restore(settings, request)


def _restore(settings: Settings, request: Request) -> dict[str, Any]:
    memo = Memo(settings)
    mend(settings)
    before = done_before(settings, request)
    if before:
        return {"changed": False, **before}
    data = os.path.join(settings.scratch, "restored")
    told = memo.read()
    server = Server(f"{data}.socket", PORT)
    if told.get("stage") == "restored" and told.get("request") == request.key and _answers(server):
        if not request.replaces:
            return {"changed": False, **told}
        note("The cluster that an earlier run has restored to this target is used")
        made = plan(settings, request)
    else:
        remove(data)
        made = plan(settings, request)
        memo.begin(request=request.key, stage="restoring", data=data, started=told_time(now()))
        memo.write(**_bring_back(settings, made, data, durable=False), stage="restored", data=data)
    if not request.replaces:
        return {"changed": True, "connect": f"psql -h {data}.socket -p {PORT}", **memo.read()}
    live = dump.live(settings)
    text = replace.properties(server, request.replaces)["comment"]
    new = replace.bring(settings, server, live, request.replaces, f"{data}.dump")
    old = replace.derived(request.replaces, "before", stamp(now()))
    memo.write(stage="switching", replaces=request.replaces, new=new, old=old)
    note(f"{request.replaces} becomes {old}, and the copy takes its name")
    replaced = replace.exists(live, request.replaces)
    clock = time.monotonic()
    replace.switch(live, request.replaces, new, old, text)
    memo.write(
        stage="done", finished=told_time(now()), old=old if replaced else "",
        closed_seconds=round(time.monotonic() - clock, 3), whole_cluster="",
    )  # fmt: skip
    _stop(settings, data)
    remove(data)
    return {"changed": True, **memo.read()}


def _answers(server: Server) -> bool:
    try:
        return not server.one("SELECT pg_is_in_recovery()")
    except psycopg2.Error:
        return False


def _stop(settings: Settings, data: str) -> None:
    if os.path.exists(os.path.join(data, "postmaster.pid")):
        with contextlib.suppress(BackupError):
            run(f"{settings.binaries}/pg_ctl", "stop", "-D", data, "-m", "fast", "-t", "600")
    stop_leftover(data)


def _flush_live(settings: Settings, backup: Backup) -> str:
    """Have the live cluster archive what it has, so that the target is met; it may be away."""
    live = dump.live(settings)
    try:
        own = int(live.one("SELECT system_identifier FROM pg_control_system()"))
        if PgBackRest(settings).info(backup.repository).current_system_id != own:
            return ""
        # A commit after the target is what lets recovery see that it has passed it.
        live.ask("SELECT pg_current_xact_id()")
        wanted = str(live.one("SELECT pg_walfile_name(pg_switch_wal())"))
        for _attempt in range(1200):
            done = live.one("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver")
            if done[8:24] >= wanted[8:24]:
                return ""
            time.sleep(0.1)
    except psycopg2.Error:
        return "The live cluster doesn't answer; what it had not archived can't be restored."
    return (
        "The live cluster's newest WAL was not archived within 120 s; the archive ends before it."
    )


def _bring_back(settings: Settings, made: Plan, data: str, durable: bool) -> dict[str, Any]:
    """Restore, recover to the target, open and check; the server stays up."""
    request, backup = made.request, made.backup
    told: dict[str, Any] = {
        "target": described(request, made.moment), "backup": backup.label,
        "repository": PLACE[backup.repository], "notes": [],
    }  # fmt: skip
    warning = _flush_live(settings, backup)
    if warning:
        note(warning)
        told["notes"].append(warning)
    scratch = Scratch(settings, data, backup, durable)
    clock = time.monotonic()
    try:
        note(f"Restoring {backup.label} from {PLACE[backup.repository]} into {data}")
        scratch.restore(tablespaces=not durable)
        note(f"Replaying WAL up to {described(request, made.moment)}")
        target: dict[str, str] = {}
        if request.target == "name":
            target = target_options(request.name)
        elif made.moment:
            pg = PgBackRest(settings)
            stop = moment.find(pg, backup, data, scratch.binaries, made.moment)
            target = stop_options(stop)
            if not stop.complete:
                warning = (
                    "The archive ends before the target: all of it was replayed, and"
                    " commits between"
                    " its end and the target are missing."
                )
                note(warning)
                told["notes"].append(warning)
        scratch.start(**target)
        scratch.wait("open")
        came = replayed(scratch.server)
        told["seconds"] = round(time.monotonic() - clock, 3)
        told["newest_commit"] = (
            told_time(datetime.datetime.fromtimestamp(came["last_commit"], datetime.timezone.utc))
            if came["last_commit"] else ""
        )  # fmt: skip
        if request.target == "time" and came["last_commit"] and made.moment:
            if came["last_commit"] > made.moment.timestamp():
                raise BackupError("Recovery went beyond the target.")
        told["evidence"] = _compare(settings, scratch, request)
        told["structure"] = scratch.check_structure()
        told["databases"] = scratch.server.databases()
    except BaseException:
        with contextlib.suppress(Exception):
            scratch.stop()
        remove(data)
        raise
    return told


def _compare(settings: Settings, scratch: Scratch, request: Request) -> str:
    """Only a target that is a restore point with evidence can be compared table by table."""
    if request.target == "name":
        for repository in read_repositories(settings, 0):
            for backup in repository.backups:
                if (backup.point or {}).get("name") == request.name:
                    expected = known(settings, backup)
                    if expected is None:
                        break
                    found = evidence.take(scratch.server, expected)
                    different = [
                        line
                        for name in sorted(expected)
                        for line in evidence.differences(expected[name], found.get(name, {}), name)
                    ]
                    if different:
                        raise BackupError(
                            f"What was restored differs from {request.name}:"
                            f" {'; '.join(different[:20])}"
                        )
                    return (
                        f"{sum(map(len, expected.values()))} tables are as they were"
                        f" at {request.name}"
                    )
    return "none was recorded for this moment"


def point(settings: Settings, name: str) -> dict[str, Any]:
    """Make a named restore point, and note it with the newest backup of each repository."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,62}", name):
        raise BackupError(
            f"The name {name!r} isn't allowed: letters, digits and _ . : -, 63 characters at most."
        )
    with job_lock(settings):
        pg = PgBackRest(settings)
        found = [pg.info(number) for number in settings.repositories]
        if name in {one["name"] for one in points(found)}:
            raise BackupError(f"There is a restore point {name} already; choose another name.")
        newest = [one.newest for one in found if one.newest]
        if not newest:
            raise BackupError("There is no backup yet: systemctl start golive-backup-full")
        live = dump.live(settings)
        lsn = live.one("SELECT pg_create_restore_point(%s)::text", name)
        told = {"name": name, "time": told_time(now()), "lsn": lsn}
        live.ask("SELECT pg_current_xact_id()")
        live.ask("SELECT pg_switch_wal()")
        for backup in newest:
            pg.annotate(backup, f"golive-point-{name}", json.dumps(told))
    return told


def drop_old(settings: Settings, name: str) -> bool:
    """What a restore has replaced: a database, or the folder of a whole cluster."""
    if not name.startswith("/"):
        return replace.drop_old(dump.live(settings), name)
    kept = [
        path
        for path in (
            os.path.join(os.path.dirname(settings.data_directory), one)
            for one in os.listdir(os.path.dirname(settings.data_directory))
        )
        if re.fullmatch(re.escape(settings.data_directory) + r"_before_\d{8}T\d{6}Z", path)
    ]
    if name not in kept:
        raise BackupError(
            f"restore_drop_old names {name}, which is no folder that a restore has"
            " replaced. Those that"
            f" can be removed: {', '.join(kept) or 'none'}."
        )
    shutil.rmtree(name)
    return True


def remove_restored(settings: Settings) -> bool:
    data = os.path.join(settings.scratch, "restored")
    with job_lock(settings):
        mend(settings)
        there = os.path.exists(data)
        _stop(settings, data)
        remove(data)
        memo = Memo(settings)
        if memo.read().get("stage") in ("restored", "restoring"):
            memo.begin()
    return there


def strip_recovery(text: str) -> str:
    """postgresql.auto.conf without what pgBackRest wrote for the recovery that is over."""
    return "".join(
        line
        for line in text.splitlines(keepends=True)
        if not re.match(
            r"\s*(restore_command|recovery_target\w*)\s*=|# Recovery settings gen", line
        )
    )


def whole(settings: Settings, request: Request, as_postgres: AsPostgres) -> dict[str, Any]:
    """The restored cluster becomes the live one; as root, for the service and the folders."""
    if os.geteuid() != 0:
        raise BackupError("restore_whole_cluster stops and starts a service: run it as root.")
    with job_lock(settings):
        memo = Memo(settings)
        told = memo.read()
        if told.get("stage") == "cluster-switching":
            note("An earlier run was killed between the folders' renames; they are finished")
        else:
            before = done_before(settings, request)
            if before:
                return {"changed": False, **before}
            told = as_postgres(lambda: _prepare_whole(settings, request))
        _swap(settings, told, as_postgres)
        as_postgres(lambda: memo.write(stage="done", finished=told_time(now())))
        as_postgres(lambda: _adopt(settings))
        return {"changed": True, **memo.read()}


def _prepare_whole(settings: Settings, request: Request) -> dict[str, Any]:
    memo = Memo(settings)
    parent, base = os.path.split(settings.data_directory)
    for name in sorted(os.listdir(parent)):
        if re.fullmatch(re.escape(base) + r"_restored_\d{8}T\d{6}Z", name):
            remove(os.path.join(parent, name))
    made = plan(settings, request)
    memo.begin(
        request=request.key, stage="restoring", whole_cluster=request.whole_cluster, data=made.data
    )
    told = _bring_back(settings, made, made.data, durable=True)
    _stop(settings, made.data)
    auto = os.path.join(made.data, "postgresql.auto.conf")
    with open(auto, encoding="utf-8") as file:
        text = strip_recovery(file.read())
    with open(auto, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    old = f"{settings.data_directory}_before_{stamp(now())}"
    memo.write(**told, stage="cluster-switching", old=old)
    return memo.read()


def _swap(settings: Settings, told: dict[str, Any], as_postgres: AsPostgres) -> None:
    live, new, old = settings.data_directory, told["data"], told["old"]
    run("systemctl", "stop", settings.unit)
    if os.path.exists(new):
        if os.path.exists(live):
            note(f"{live} becomes {old}")
            os.rename(live, old)
        os.rename(new, live)
    try:
        run("systemctl", "start", settings.unit)
    except BackupError as error:
        raise BackupError(
            f"The restored cluster is in {live} and {settings.unit} does not start: {error} See"
            f" /var/log/postgresql/. The cluster before it is in {old}."
        ) from None
    as_postgres(lambda: _wait_live(settings))
    as_postgres(lambda: remove(new))


def _wait_live(settings: Settings) -> None:
    for _attempt in range(600):
        if _answers(dump.live(settings)):
            return
        time.sleep(0.1)
    raise BackupError(f"{settings.unit} runs and doesn't answer on port {settings.port}.")


def _adopt(settings: Settings) -> None:
    """A repository that knew the cluster that was replaced learns the one that is live now."""
    pg = PgBackRest(settings)
    own = int(dump.live(settings).one("SELECT system_identifier FROM pg_control_system()"))
    ids = [pg.info(number).current_system_id for number in settings.repositories]
    if any(one is None for one in ids):
        pg.create()
    if any(one not in (None, own) for one in ids):
        pg.upgrade()
