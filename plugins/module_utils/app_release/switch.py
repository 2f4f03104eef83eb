# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From one release to another on one host, under one listening socket that stays open.

The new release starts in the idle slot and proves itself on a private socket. Then its workers
take requests from the shared socket, and the old slot's workers stop to, finish what they have,
and end. The link slots/live is what counts; all else is made to agree with it, by this run or,
if this one is killed, by the next.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from . import commands, connections, health, history, systemd
from .errors import ReleaseError
from .layout import (
    CANARY,
    SLOTS,
    Layout,
    Release,
    idle,
    point,
    read_text,
    remove,
    write_atomically,
)

_PAUSE = 0.1
# What a gate's file says.
_UNPROVED = "unproved\n"
_DRAINING = "draining\n"
# Between the look at the gate and the accept a worker may be put aside by the kernel: a process
# counts as drained when it has no connection for as long as this.
_QUIET = 0.3
_LOG_PID = re.compile(r"^\[[^\]]+\] \[(\d+)\] \[[A-Z]+\]")


@dataclass(frozen=True)
class Settings:
    user: str
    listen: str
    health: health.Health
    graceful_timeout: float
    smoke_command: str = ""
    smoke_timeout: float = 60
    credentials: Sequence[str] = ()
    # Whether the server's workers heed the gate: then one start serves for proof and for traffic.
    gated: bool = True


@dataclass(frozen=True)
class Result:
    changed: bool
    release: str
    previous: str | None
    slot: str | None
    seconds: float = 0
    drain_seconds: float = 0
    warnings: list[str] = field(default_factory=list)


def last_words(text: str, foreign: set[int], lines: int = 30) -> str:
    """The end of a log that several processes write, without the lines of the foreign ones."""
    found = []
    skip = False
    for line in text.splitlines():
        match = _LOG_PID.match(line)
        if match:
            skip = int(match[1]) in foreign
        if not skip:
            found.append(line)
    return "\n".join(found[-lines:])


def socket_is_older(layout: Layout, unit: str) -> bool:
    """The socket is closed, or its file was changed after it was opened."""
    since = systemd.shown(unit, "ActiveEnterTimestampMonotonic")
    if systemd.state(unit).active != "active" or not since.isdigit():
        return True
    opened = time.time() - time.monotonic() + int(since) / 1e6
    return os.stat(f"{layout.units}/{unit}").st_mtime > opened


def remove_socket(address: str) -> None:
    """The file that a closed unix socket leaves."""
    if address.startswith("/"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)


class Switch:
    def __init__(self, layout: Layout, settings: Settings) -> None:
        self.layout = layout
        self.settings = settings
        self._log_offset = 0
        self._begun = time.time()

    # What is there

    def wanted_files(self, slot: str, release_id: str) -> dict[str, str]:
        """What a slot's folder in /etc has to hold for this release."""
        environment = read_text(f"{self.layout.etc}/environment") or ""
        unit = read_text(self.layout.unit_file(slot)) or ""
        credentials = hashlib.sha256()
        for name in self.settings.credentials:
            text = read_text(f"{self.layout.etc}/credentials/{name}") or ""
            credentials.update(f"{name} {len(text)} {text}".encode())
        return {
            "credentials.sha256": credentials.hexdigest() + "\n",
            "environment": f'{environment}GOLIVE_RELEASE="{release_id}"\nGOLIVE_SLOT="{slot}"\n',
            "gunicorn.conf.py": read_text(f"{self.layout.etc}/gunicorn.conf.py") or "",
            "unit.sha256": hashlib.sha256(unit.encode()).hexdigest() + "\n",
        }

    def is_current(self, slot: str, release_id: str) -> bool:
        if self.layout.slot_release(slot) != release_id:
            return False
        wanted = self.wanted_files(slot, release_id).items()
        folder = self.layout.slot_etc(slot)
        return all(read_text(f"{folder}/{name}") == text for name, text in wanted)

    def serves(self, slot: str) -> bool:
        units = (self.layout.unit(slot), self.layout.umbrella, self.layout.socket)
        return all(systemd.state(unit).active == "active" for unit in units)

    def needs(self, release_id: str) -> bool:
        slot = self.layout.live_slot()
        if slot is None or not self.is_current(slot, release_id) or not self.serves(slot):
            return True
        return self._socket_is_older() or os.path.exists(self.layout.gate(slot))

    def _legacy_pid(self) -> int:
        """The server of the layout before there were slots, which ran in NAME.service itself."""
        return systemd.state(self.layout.umbrella).pid

    def _socket_is_older(self) -> bool:
        return socket_is_older(self.layout, self.layout.socket)

    # Steps

    def prepare(self, slot: str, release_id: str) -> None:
        folder = self.layout.slot_etc(slot)
        os.makedirs(self.layout.slots, exist_ok=True)
        os.makedirs(folder, exist_ok=True)
        point(f"{self.layout.slots}/{slot}", f"../releases/{release_id}")
        for name, text in self.wanted_files(slot, release_id).items():
            mode = 0o600 if name in ("environment", "credentials.sha256") else 0o644
            if read_text(f"{folder}/{name}") != text:
                write_atomically(f"{folder}/{name}", text, mode)

    def open_socket(self) -> None:
        """The listening socket, opened anew only where its file asks for another one."""
        if not self._socket_is_older():
            return
        for unit in (*map(self.layout.unit, SLOTS), self.layout.umbrella):
            systemd.systemctl("stop", unit, may_fail=True)
        systemd.systemctl("restart", self.layout.socket)

    def reload(self) -> None:
        units = [self.layout.socket, self.layout.umbrella, *map(self.layout.unit, SLOTS)]
        if any(systemd.state(unit).reload_needed for unit in units):
            systemd.systemctl("daemon-reload")

    def close_gate(self, slot: str, why: str) -> None:
        os.makedirs(os.path.dirname(self.layout.gate(slot)), exist_ok=True)
        write_atomically(self.layout.gate(slot), why)

    def open_gate(self, slot: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.layout.gate(slot))

    def start(self, slot: str) -> None:
        """Start the slot so that no visitor reaches it, and return when it has proved itself."""
        with contextlib.suppress(OSError):
            self._log_offset = os.path.getsize(self.layout.error_log)
        self._begun = time.time()
        if self.settings.gated:
            self.close_gate(slot, _UNPROVED)
            systemd.systemctl("reset-failed", self.layout.unit(slot), may_fail=True)
            systemd.systemctl("start", "--no-block", self.layout.unit(slot))
            self._until_proved(self.layout.unit(slot), slot, self.layout.private_socket(slot))
            self._smoke(slot, self.layout.private_socket(slot))
            return
        gate, address = self.layout.gate_unit(slot), f"{self.layout.run}/gate.sock"
        try:
            systemd.systemctl("reset-failed", gate, may_fail=True)
            systemd.systemctl("start", f"{self.layout.name}-gate.socket")
            systemd.systemctl("start", "--no-block", gate)
            self._until_proved(gate, f"gate-{slot}", address)
            self._smoke(slot, address)
        except ReleaseError as error:
            error.log = error.log or self._last_words(gate)
            raise
        finally:
            systemd.systemctl("stop", f"{self.layout.name}-gate.socket", may_fail=True)
            self._kill(gate)

    def _until_proved(self, unit: str, runtime: str, address: str) -> None:
        """Every worker has loaded the application, and the health path has a good answer."""
        until = time.monotonic() + self.settings.health.timeout
        why = "its workers have not loaded the application"
        while True:
            state = systemd.state(unit)
            if state.active == "failed" or state.sub == "auto-restart" or state.restarts:
                raise ReleaseError(f"{unit} does not start: it ended with {state.result}.")
            left = until - time.monotonic()
            if left <= 0:
                raise ReleaseError(
                    f"{unit} was not healthy within {self.settings.health.timeout:g} s "
                    f"(gunicorn_app_health_timeout): {why}."
                )
            if state.active == "active" and self._workers_are_ready(runtime):
                why = health.ask(address, self.settings.health, min(5, max(left, 0.5)))
                if not why:
                    return
            time.sleep(_PAUSE)

    def _workers_are_ready(self, runtime: str) -> bool:
        """As Gunicorn's settings tell by files; another server tells nothing."""
        folder = self.layout.runtime(runtime)
        wanted = read_text(f"{folder}/workers")
        if wanted is None:
            return True
        ready = [name for name in os.listdir(folder) if name.startswith("ready-")]
        return len(ready) >= int(wanted or 1)

    def _smoke(self, slot: str, address: str) -> None:
        if not self.settings.smoke_command:
            return
        release_id = self.layout.slot_release(slot) or ""
        done = commands.run(
            self.layout,
            "smoke",
            self.settings.user,
            self.layout.release_path(release_id),
            f"{self.layout.slot_etc(slot)}/environment",
            self.settings.smoke_command,
            self.settings.smoke_timeout,
            {"GOLIVE_SMOKE_SOCKET": address, "GOLIVE_SMOKE_HOST": self.settings.health.host},
            self.settings.credentials,
        )
        if done.code:
            raise ReleaseError(
                f"gunicorn_app_smoke_command ended with {done.code}:\n{done.told[-4000:]}"
            )

    def admit(self, slot: str) -> None:
        """Let the proved slot take requests from the shared socket."""
        self.open_gate(slot)
        if self.settings.gated:
            return
        unit = self.layout.unit(slot)
        systemd.systemctl("reset-failed", unit, may_fail=True)
        systemd.systemctl("start", "--no-block", unit)
        until = time.monotonic() + self.settings.health.timeout
        while time.monotonic() < until:
            state = systemd.state(unit)
            if state.active == "failed" or state.sub == "auto-restart" or state.restarts:
                break
            if state.active == "active" and self._takes_connections(state.pid):
                return
            time.sleep(_PAUSE)
        raise ReleaseError(f"{unit} did not take requests from {self.layout.socket}.")

    def _takes_connections(self, pid: int) -> bool:
        """Whether one of some connections to the shared socket came to this server."""
        links = []
        try:
            for _unused in range(8):
                links.append(health.connect(self.settings.listen, 1))
            time.sleep(_PAUSE)
            return connections.accepted(connections.family(pid), self.settings.listen) > 0
        except OSError:
            return False
        finally:
            for link in links:
                link.close()

    def commit(self, slot: str, release_id: str) -> None:
        """From here the slot is the live one, also after a reboot."""
        point(f"{self.layout.slots}/live", slot)
        self._agree()

    def _agree(self) -> None:
        """Make the rest agree with slots/live."""
        slot = self.layout.live_slot()
        release_id = self.layout.live_release()
        if slot is None or release_id is None:
            return
        changed = point(self.layout.current, f"releases/{release_id}")
        point(self.layout.slot_etc("live"), slot)
        os.makedirs(self.layout.wants, exist_ok=True)
        wanted = f"{self.layout.wants}/{self.layout.unit(slot)}"
        changed |= point(wanted, f"../{self.layout.name}@.service")
        other = f"{self.layout.wants}/{self.layout.unit(idle(slot))}"
        if os.path.lexists(other):
            os.unlink(other)
            changed = True
        enabled = {
            f"multi-user.target.wants/{self.layout.umbrella}": self.layout.umbrella,
            f"sockets.target.wants/{self.layout.socket}": self.layout.socket,
        }
        for link, unit in enabled.items():
            os.makedirs(os.path.dirname(f"{self.layout.units}/{link}"), exist_ok=True)
            if not os.path.lexists(f"{self.layout.units}/{link}"):
                point(f"{self.layout.units}/{link}", f"{self.layout.units}/{unit}")
                changed = True
        if changed:
            systemd.systemctl("daemon-reload")

    def retire(self, slot: str) -> float:
        """Drain a slot and stop it; tells the seconds."""
        unit = self.layout.unit(slot)
        return self._retire(unit, slot, self.settings.listen)

    def _retire(self, unit: str, slot: str, listen: str) -> float:
        begun = time.monotonic()
        state = systemd.state(unit)
        if self.settings.gated and state.active == "active" and state.pid:
            self.close_gate(slot, _DRAINING)
            self._until_drained(state.pid, listen)
        systemd.systemctl("stop", unit, may_fail=True)
        systemd.systemctl("reset-failed", unit, may_fail=True)
        self.open_gate(slot)
        return round(time.monotonic() - begun, 1)

    def _until_drained(self, pid: int, listen: str) -> None:
        until = time.monotonic() + self.settings.graceful_timeout
        quiet_since = None
        while time.monotonic() < until:
            if connections.accepted(connections.family(pid), listen):
                quiet_since = None
            elif quiet_since is None:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since >= _QUIET:
                return
            time.sleep(_PAUSE)

    def _retire_legacy(self, pid: int) -> None:
        """The server that ran in NAME.service itself: its unit's new form knows no main process,
        and stopping the unit would stop the slots with it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 15)
        until = time.monotonic() + self.settings.graceful_timeout + 5
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < until:
            time.sleep(_PAUSE)
        if os.path.exists(f"/proc/{pid}"):
            systemd.systemctl("kill", "--signal=KILL", self.layout.umbrella, may_fail=True)

    def _kill(self, unit: str) -> None:
        """End what serves nobody, also where it hangs."""
        systemd.systemctl("stop", "--no-block", unit, may_fail=True)
        until = time.monotonic() + 30
        while systemd.state(unit).runs and time.monotonic() < until:
            systemd.systemctl("kill", "--signal=KILL", unit, may_fail=True)
            time.sleep(_PAUSE)
        systemd.systemctl("reset-failed", unit, may_fail=True)

    def abandon(self, slot: str) -> None:
        """Leave nothing of a slot that was not proved; what was live goes on."""
        self._kill(self.layout.unit(slot))
        self.open_gate(slot)
        self.forget(slot)
        live = self.layout.live_slot()
        if live:
            # It was stopped where the socket had to be opened anew.
            systemd.systemctl("start", self.layout.umbrella, self.layout.unit(live), may_fail=True)
        elif not self._legacy_pid():
            for unit in (self.layout.umbrella, self.layout.socket):
                systemd.systemctl("stop", unit, may_fail=True)
            remove_socket(self.settings.listen)

    def forget(self, slot: str) -> None:
        for path in (f"{self.layout.slots}/{slot}", self.layout.slot_etc(slot)):
            remove(path)

    def last_words(self, slot: str) -> str:
        return self._last_words(self.layout.unit(slot))

    def _last_words(self, unit: str) -> str:
        said = systemd.journal([unit], self._begun)
        foreign: set[int] = set()
        slot = self.layout.live_slot()
        pid = systemd.state(self.layout.unit(slot)).pid if slot else self._legacy_pid()
        if pid:
            foreign = set(connections.family(pid))
        with contextlib.suppress(OSError):
            with open(self.layout.error_log, "rb") as stream:
                stream.seek(self._log_offset)
                written = stream.read(1 << 20).decode("utf-8", "replace")
            said = f"{said.rstrip()}\n{last_words(written, foreign)}"
        return "\n".join(said.strip().splitlines()[-50:])

    # The whole

    def settle(self) -> None:
        """Finish what a killed run began: nothing but the live slot runs."""
        live = self.layout.live_slot()
        if live is None:
            if not os.path.isdir(self.layout.slots):
                return
            for slot in SLOTS:
                self._kill(self.layout.unit(slot))
                self.open_gate(slot)
            return
        if systemd.state(self.layout.unit(live)).active == "active":
            self.open_gate(live)
        if systemd.state(self.layout.unit(idle(live))).runs:
            if read_text(self.layout.gate(idle(live))) == _UNPROVED:
                self._kill(self.layout.unit(idle(live)))
            else:
                self.retire(idle(live))
        self.open_gate(idle(live))
        self._agree()

    def to(self, release_id: str, *, as_it_was: bool = False) -> Result:
        """Make the release the live one, or leave all as it was and raise ReleaseError."""
        begun = time.monotonic()
        if not as_it_was and not self.layout.is_built(release_id):
            raise ReleaseError(
                f"Release {release_id} is not complete in {self.layout.releases}. Build it first."
            )
        previous = self.layout.live_release()
        self.reload()
        if not as_it_was and not self.needs(release_id):
            return Result(False, release_id, previous, self.layout.live_slot())
        self.settle()
        legacy = self._legacy_pid()
        if legacy == 0:
            self.open_socket()
        live = self.layout.live_slot()
        slot = idle(live)
        if not as_it_was:
            self.prepare(slot, release_id)
        try:
            self.start(slot)
            self.admit(slot)
        except ReleaseError as error:
            error.log = error.log or self._last_words(self.layout.unit(slot))
            self.abandon(slot)
            raise
        except BaseException:
            self.abandon(slot)
            raise
        self.commit(slot, release_id)
        taken = round(time.monotonic() - begun, 1)
        drained = 0.0
        if legacy:
            self._retire_legacy(legacy)
        elif live:
            drained = self.retire(live)
        systemd.systemctl("start", self.layout.umbrella)
        return Result(True, release_id, previous, slot, taken, drained)

    def restart(self) -> Result:
        """Stop the live release and start it with the environment of now; not without a pause."""
        begun = time.monotonic()
        release_id = self.layout.live_release()
        if release_id is None:
            raise ReleaseError(f"{self.layout.name} has no live release to start.")
        slot = self.layout.live_slot() or SLOTS[0]
        self.reload()
        for unit in (self.layout.umbrella, *map(self.layout.unit, SLOTS), self.layout.socket):
            systemd.systemctl("stop", unit, may_fail=True)
        for one in SLOTS:
            self.open_gate(one)
        self.prepare(slot, release_id)
        self.commit(slot, release_id)
        with contextlib.suppress(OSError):
            self._log_offset = os.path.getsize(self.layout.error_log)
        self._begun = time.time()
        unit = self.layout.unit(slot)
        systemd.systemctl("reset-failed", unit, may_fail=True)
        systemd.systemctl("start", self.layout.socket)
        systemd.systemctl("start", "--no-block", self.layout.umbrella, unit)
        try:
            self._until_proved(unit, slot, self.settings.listen)
        except ReleaseError as error:
            error.log = self._last_words(unit)
            raise
        return Result(True, release_id, release_id, slot, round(time.monotonic() - begun, 1))


@dataclass(frozen=True)
class Deployment:
    """A switch with what it leaves behind: the releases' notes and the history."""

    switch: Switch
    by: str

    @property
    def layout(self) -> Layout:
        return self.switch.layout

    def deploy(self, release_id: str, schema: str = "", breaks: bool = False) -> Result:
        level = max((one.schema_level for one in self.layout.all_releases()), default=0)

        def note(result: Result) -> None:
            release = self.layout.release(release_id)
            first = breaks and not release.schema_breaks
            self.layout.note(
                release,
                live_at=time.time(),
                good=True,
                schema=schema or release.schema,
                schema_breaks=breaks or release.schema_breaks,
                schema_level=max(level + first, release.schema_level),
            )

        return self._do("deploy", lambda: self.switch.to(release_id), note, release_id)

    def target(self, wanted: str, schema_ok: bool) -> tuple[Release, list[str]]:
        """The release that a rollback goes to, checked; and what is to be told."""
        live = self.layout.live_release()
        if live is None:
            raise ReleaseError(f"{self.layout.name} has no live release on this host.")
        found = self.layout.release(wanted) if wanted else self.layout.previous_good()
        if found is None:
            raise ReleaseError(
                f"There is no good release before {live} on this host. There are "
                f"{', '.join(one.id for one in self.layout.all_releases())}: name one of them in "
                "gunicorn_app_rollback_to."
            )
        if not self.layout.is_built(found.id):
            raise ReleaseError(f"Release {found.id} has no whole environment. Deploy it anew.")
        return found, self.schema_way(found, self.layout.release(live), schema_ok)

    def schema_way(self, to: Release, live: Release, schema_ok: bool) -> list[str]:
        if to.schema_level < live.schema_level and not schema_ok:
            raise ReleaseError(
                f"Release {to.id} can't use the database any more: a release after it changed the "
                f"schema in a way that older code can't live with (schema {to.schema or 'unknown'} "
                f"then, {live.schema or 'unknown'} now). Nothing was changed. Take the schema back "
                "yourself, or restore the data, and set gunicorn_app_rollback_schema_ok=true."
            )
        if to.schema != live.schema and to.schema and live.schema:
            return [
                f"The database stays at schema {live.schema}; release {to.id} was made for "
                f"{to.schema}. Rolling back changes code alone, never data."
            ]
        return []

    def rollback(self, wanted: str, schema_ok: bool) -> Result:
        found, warnings = self.target(wanted, schema_ok)
        return self._back("rollback", found.id, warnings, as_it_was=False)

    def take_back(self, schema_ok: bool, reason: str) -> Result:
        """The last switch undone: the slot before, with the environment that it had."""
        live = self.layout.live_slot()
        before = self.layout.slot_release(idle(live)) if live else None
        if before is None or not self.layout.is_built(before):
            raise ReleaseError("There is no switch to take back on this host.")
        now = self.layout.release(self.layout.live_release() or "")
        warnings = self.schema_way(self.layout.release(before), now, schema_ok)
        return self._back("take-back", before, warnings, as_it_was=True, reason=reason)

    def _back(
        self, what: str, release_id: str, warnings: list[str], as_it_was: bool, reason: str = ""
    ) -> Result:
        left = self.layout.live_release()

        def note(result: Result) -> None:
            self.layout.note(self.layout.release(release_id), live_at=time.time(), good=True)
            if left and left != release_id:
                self.layout.note(self.layout.release(left), good=False)

        def act() -> Result:
            done = self.switch.to(release_id, as_it_was=as_it_was)
            if done.changed and done.slot:
                # What was left is nothing to come back to.
                self.switch.forget(idle(done.slot))
            done.warnings.extend(warnings)
            return done

        return self._do(what, act, note, release_id, reason)

    def _do(
        self,
        what: str,
        act: Callable[[], Result],
        note: Callable[[Result], None],
        release_id: str,
        reason: str = "",
    ) -> Result:
        begun = time.time()
        before = self.layout.live_release()
        try:
            result = act()
            # A run that was killed in between has left the live release without its note.
            if result.changed or self.layout.release(release_id).good is None:
                note(result)
        except ReleaseError as error:
            self._remember(what, "failed", begun, before, release_id, str(error).splitlines()[0])
            after = (
                f"The release {before} still serves."
                if before
                else "There was no release before it, and nothing serves."
            )
            raise ReleaseError(
                f"Release {release_id} of {self.layout.name} did not go live: {error}\n{after}",
                error.log,
            ) from error
        if result.changed:
            self._remember(what, "done", begun, before, release_id, reason)
        return result

    def _remember(
        self, what: str, outcome: str, begun: float, before: str | None, after: str, reason: str
    ) -> None:
        entry = history.event(
            what, self.by, outcome, begun, time.time(), before=before, after=after, reason=reason
        )
        with contextlib.suppress(OSError):
            history.append(self.layout.history, entry)


def disposable(
    releases: list[Release], protected: set[str], keep: int
) -> tuple[list[str], list[str]]:
    """Of releases (the newest first) those that stay and those that go; of those that were never
    live only the newest stays."""
    stay = [one.id for one in releases if one.id in protected]
    untried = 0
    for one in releases:
        if one.id in protected:
            continue
        if one.good is None:
            untried += 1
            if untried > 1:
                continue
        if len(stay) < keep:
            stay.append(one.id)
    return stay, [one.id for one in releases if one.id not in stay]


def prune(layout: Layout, keep: int) -> list[str]:
    """Remove the oldest releases, never one that is live, runs or is the one to go back to, and
    the environments that no release uses."""
    previous = layout.previous_good()
    protected = {layout.live_release(), previous.id if previous else None}
    protected |= {layout.slot_release(slot) for slot in (*SLOTS, CANARY)}
    names = {one for one in protected if one}
    _unused, gone = disposable(layout.all_releases(), names, keep)
    for release_id in gone:
        path = layout.release_path(release_id)
        # The mark goes first: a removal that is killed leaves no release that looks whole.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}/.golive-release")
        remove(path)
    used = {
        os.path.basename(os.readlink(f"{layout.releases}/{name}/.venv"))
        for name in (os.listdir(layout.releases) if os.path.isdir(layout.releases) else [])
        if os.path.islink(f"{layout.releases}/{name}/.venv")
    }
    if os.path.isdir(layout.environments):
        for name in os.listdir(layout.environments):
            if name not in used:
                remove(f"{layout.environments}/{name}")
    return gone
