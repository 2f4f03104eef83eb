# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that is restored beside the live one: it archives nothing and listens on no network."""

from __future__ import annotations

# It runs on the host without Ansible, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from typing import Any

from .common import BackupError, Settings, environment, run
from .database import Server
from .driver import psycopg2
from .moment import Stop
from .pgbackrest import Backup, PgBackRest

PORT = 5499
# A standby refuses to start with less of these than the cluster that wrote its WAL.
_AS_ORIGINAL = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}
_NO_SUCH_TARGET = "recovery ended before configured recovery target was reached"


class TargetNotReached(BackupError):
    """The archive ends before the target."""


def control_settings(text: str) -> dict[str, str]:
    """`pg_controldata`: what the original had."""
    found = dict(re.findall(r"^([^:\n]+):\s+(\S.*)$", text, re.MULTILINE))
    return {name: found[key] for key, name in _AS_ORIGINAL.items() if key in found}


def system_id(text: str) -> int:
    found = re.search(r"^Database system identifier:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


class Scratch:
    """One restored cluster in a folder of its own."""

    def __init__(self, settings: Settings, data: str, backup: Backup, durable: bool) -> None:
        self._settings = settings
        self._backup = backup
        self._durable = durable
        self.data = data
        self.log = f"{data}.log"
        self.server = Server(f"{data}.socket", PORT)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def binaries(self) -> str:
        with open(os.path.join(self.data, "PG_VERSION"), encoding="utf-8") as file:
            return f"/usr/lib/postgresql/{file.read().strip()}/bin"

    def restore(self, tablespaces: bool = True) -> float:
        """Seconds that the files took to come back."""
        clock = time.monotonic()
        os.makedirs(os.path.dirname(self.data), mode=0o700, exist_ok=True)
        for suffix in ("", ".socket", ".spool", ".lock"):
            os.makedirs(self.data + suffix, mode=0o700)
        if tablespaces:
            os.makedirs(f"{self.data}.tablespaces", mode=0o700)
        PgBackRest(self._settings).restore(
            self._backup, self.data, f"{self.data}.tablespaces" if tablespaces else ""
        )
        return time.monotonic() - clock

    def _options(self, target: dict[str, str]) -> dict[str, str]:
        pg = PgBackRest(self._settings)
        hba = f"{self.data}.hba"
        with open(hba, "w", encoding="utf-8") as file:
            file.write("local all postgres peer\n")
        control = run(f"{self.binaries}/pg_controldata", self.data)
        options = {
            **control_settings(control),
            "config_file": f"{self.data}.conf",
            "hba_file": hba,
            "ident_file": f"{self.data}.ident",
            "external_pid_file": "",
            "port": str(PORT),
            "listen_addresses": "",
            "unix_socket_directories": f"{self.data}.socket",
            "unix_socket_permissions": "0700",
            "cluster_name": "golive-restored",
            "shared_buffers": "128MB",
            "huge_pages": "off",
            "max_wal_size": "4GB",
            "archive_mode": "off",
            "archive_command": "",
            "restore_command": pg.restore_command(self._backup.repository, self.data),
            "recovery_end_command": "",
            "archive_cleanup_command": "",
            "primary_conninfo": "",
            "hot_standby": "on",
            "recovery_target_timeline": "latest",
            "synchronous_standby_names": "",
            "shared_preload_libraries": "",
            "session_preload_libraries": "",
            "local_preload_libraries": "",
            "max_logical_replication_workers": "0",
            "default_transaction_read_only": "off",
            "autovacuum": "off",
            "ssl": "off",
            "jit": "off",
            "logging_collector": "off",
            "log_destination": "stderr",
            "log_min_messages": "warning",
            "log_min_error_statement": "panic",
            "log_statement": "none",
            "log_min_duration_statement": "-1",
            "lc_messages": "C",
            "log_timezone": "UTC",
        }
        if not self._durable:
            options |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        return {**options, **target}

    def start(self, **target: str) -> None:
        """Start with a recovery target; without one recovery goes on to the end of the archive."""
        for suffix in (".conf", ".ident"):
            with open(self.data + suffix, "w", encoding="utf-8"):
                pass
        argv = [f"{self.binaries}/postgres", "-D", self.data]
        for name, value in self._options(target).items():
            argv += ["-c", f"{name}={value}"]
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(),
                cwd=self.data,
                start_new_session=True,
            )

    def said(self) -> str:
        with contextlib.suppress(FileNotFoundError), open(self.log, "rb") as file:
            return file.read()[-3000:].decode("utf-8", "replace").strip()
        return ""

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self, wanted: str) -> float:
        """Until it is 'paused' at its target or 'open' for writing; no time limit but"
        " its own end."""
        clock = time.monotonic()
        query = (
            "SELECT pg_get_wal_replay_pause_state() = 'paused'"
            if wanted == "paused"
            else "SELECT NOT pg_is_in_recovery()"
        )
        while True:
            if not self._alive():
                said = self.said()
                if _NO_SUCH_TARGET in said:
                    raise TargetNotReached(
                        "The archive ends before the target: recovery found all there is and did"
                        " not meet it. WAL after it was not archived, or is missing or damaged."
                    )
                raise BackupError(f"The restored server did not start. Its last words: {said}")
            try:
                if self.server.one(query):
                    return time.monotonic() - clock
            except psycopg2.Error as error:
                # 55000: it has just left recovery, so there is nothing that could pause.
                if getattr(error, "pgcode", None) == "55000" and wanted == "paused":
                    raise TargetNotReached(
                        "The restored server did not stop at its target."
                    ) from None
            time.sleep(0.1)

    def promote(self) -> None:
        self.server.ask("SELECT pg_promote(true, 3600)")
        self.wait("open")

    def stop(self) -> None:
        if self._alive():
            run(f"{self.binaries}/pg_ctl", "stop", "-D", self.data, "-m", "fast", "-t", "3600")
            if self._process:
                self._process.wait()

    def remove(self) -> None:
        remove(self.data)

    def check_structure(self) -> str:
        """pg_amcheck over all databases, on a server that takes writes; what was checked."""
        lacking = []
        for name in self.server.databases():
            if not self.server.ask(
                "SELECT 1 FROM pg_extension WHERE extname = 'amcheck'", database=name
            ):
                lacking.append(name)
        available = self.server.ask("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'")
        if not available:
            return "not checked: the extension amcheck is not installed"
        try:
            run(
                f"{self.binaries}/pg_amcheck",
                *self.server.options,
                "--all",
                "--install-missing",
                f"--jobs={self._settings.jobs}",
            )
        finally:
            with contextlib.suppress(psycopg2.Error):
                for name in lacking:
                    self.server.ask("DROP EXTENSION IF EXISTS amcheck", database=name)
        return "tables and B-tree indexes of all databases are sound"


def stop_leftover(data: str) -> None:
    """The server of a run that was killed: only the one that has exactly this folder."""
    with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError, PermissionError):
        with open(os.path.join(data, "postmaster.pid"), encoding="utf-8") as file:
            pid = int(file.readline())
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            argv = file.read().split(b"\0")
        if data.encode() not in argv:
            return
        os.kill(pid, signal.SIGQUIT)
        for _attempt in range(600):
            os.kill(pid, 0)
            time.sleep(0.1)


def remove(data: str) -> None:
    """A scratch cluster with all that stands beside it."""
    stop_leftover(data)
    for suffix in (".socket", ".spool", ".lock", ".tablespaces", ".wal", ".dump", ""):
        shutil.rmtree(data + suffix, ignore_errors=True)
    for suffix in (".conf", ".hba", ".ident", ".log"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(data + suffix)


def target_options(name: str, action: str = "promote") -> dict[str, str]:
    """A named restore point as settings of the server."""
    return {"recovery_target_name": name, "recovery_target_action": action}


def stop_options(stop: Stop) -> dict[str, str]:
    """A position in WAL as settings of the server; none is the end of the backup."""
    target = {"recovery_target_lsn": stop.lsn} if stop.lsn else {"recovery_target": "immediate"}
    return {
        **target,
        "recovery_target_timeline": str(stop.timeline),
        "recovery_target_inclusive": "on",
        "recovery_target_action": "promote",
    }


def replayed(server: Server) -> dict[str, Any]:
    """How far recovery came: the newest commit, and the position in WAL."""
    last, position = server.ask(
        "SELECT extract(epoch FROM pg_last_xact_replay_timestamp())::float8,"
        " coalesce(pg_last_wal_replay_lsn(), pg_current_wal_lsn())::text"
    )[0]
    return {"last_commit": last, "lsn": position}
