# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows how far a module on the host has come, while it runs.

The module writes its figures into a file of a private folder on the host; a thread here reads it
over a copy of the task's connection. The same thread renews the file 'alive' beside it: a module
that no longer sees it renewed knows that its job was cancelled, and rolls back.
"""

from __future__ import annotations

import copy
import json
import os
import shlex
import threading
import time
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

INTERVAL_VARIABLE = "golive_progress_interval"
# A terminal is watched; a log is read afterwards.
_TERMINAL_SECONDS = 2.0
_LOG_SECONDS = 10.0
_POLL_SECONDS = 1.0
# Below this a run is over before anyone looks, and the questions would only make it longer.
_SMALL_BYTES = 32 * 2**20
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

_PREPARE = (
    'size=$(stat -Lc %s -- "$1" 2>/dev/null || echo 0); '
    'if [ -n "$1" ] && [ "$size" -lt "$2" ]; then exit 0; fi; '
    "umask 077; mktemp -d /tmp/golive-progress.XXXXXXXX"
)
_POLL = 'touch "$1/alive" && cat "$1/progress.json" 2>/dev/null || true'


def on_terminal() -> bool:
    """Whether ansible-playbook's output goes to a terminal; a worker has lost its own."""
    for path in (f"/proc/{os.getppid()}/fd/1", "/dev/fd/1"):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            return os.isatty(descriptor)
        finally:
            os.close(descriptor)
    return False


def read_interval(given: Any) -> float:
    """Seconds between two lines, 0 for none; the default depends on who reads them."""
    if given is None:
        return _TERMINAL_SECONDS if on_terminal() else _LOG_SECONDS
    try:
        seconds = float(given)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < 86400:
        raise AnsibleError(
            f"{INTERVAL_VARIABLE} is {given!r}; it takes seconds between two lines of progress, "
            "0 for none."
        )
    return seconds


def _amount(number: float) -> str:
    power = 0
    while number >= 1024 and power < len(_UNITS) - 1:
        number /= 1024
        power += 1
    digits = 1 if power and number < 100 else 0
    return f"{number:,.{digits}f} {_UNITS[power]}"


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def progress_line(figures: dict[str, Any]) -> str:
    """One line for people, from what the module wrote."""
    phase = str(figures.get("phase") or "")
    parts = [phase.replace("_", " ")]
    if figures.get("table"):
        parts[0] += f" {figures['table']}"
    if figures.get("tables_total"):
        parts.append(f"{figures.get('tables_done', 0)} of {figures['tables_total']} tables")
    done, total = figures.get("rows_done") or 0, figures.get("rows_total") or 0
    unit = figures.get("unit") or "rows"
    if total:
        parts.append(f"{done:,} of {total:,} {unit} ({100 * done // total} %)")
    elif done:
        parts.append(f"{done:,} {unit}")
    if figures.get("bytes_done"):
        parts.append(_amount(float(figures["bytes_done"])))
    if figures.get("rows_per_second"):
        parts.append(f"{figures['rows_per_second']:,.0f} {unit}/s")
    if figures.get("note"):
        parts.append(str(figures["note"]))
    if figures.get("seconds"):
        parts.append(f"{_span(float(figures['seconds']))} so far")
    if figures.get("seconds_left") is not None and phase not in ("commit", "done"):
        parts.append(f"about {_span(float(figures['seconds_left']))} left")
    return ", ".join(parts)


class _Watcher(threading.Thread):
    """Asks the host, over its own copy of the connection, until it is told to end."""

    def __init__(self, action: ProgressAction, folder: str, interval: float, label: str) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._interval = interval
        self._label = label
        self._over = threading.Event()
        # exec_command keeps its state (marks of become, flags) in these objects.
        self._action = copy.copy(action)
        self._action._connection = copy.copy(action._connection)
        if action._connection.become:
            self._action._connection.become = copy.copy(action._connection.become)

    def run(self) -> None:
        shown_at = time.monotonic()
        shown_phase: Any = None
        while not self._over.wait(min(_POLL_SECONDS, self._interval)):
            try:
                figures = self._ask()
            except Exception as error:
                display.vvv(f"no progress from {self._label}: {to_text(error)}")
                continue
            if not figures:
                continue
            now = time.monotonic()
            due = now - shown_at >= self._interval
            new_phase = shown_phase is not None and figures.get("phase") != shown_phase
            if due or new_phase:
                display.display(f"[{self._label}] {progress_line(figures)}")
                shown_at = now
            shown_phase = figures.get("phase")

    def _ask(self) -> dict[str, Any]:
        answer = self._action._low_level_execute_command(
            f"sh -c {shlex.quote(_POLL)} sh {shlex.quote(self._folder)}"
        )
        text = to_text(answer.get("stdout") or "").strip()
        figures = json.loads(text) if text else {}
        return figures if isinstance(figures, dict) else {}

    def end(self) -> None:
        self._over.set()
        self.join(timeout=5)


class ProgressAction(ActionBase):
    """Runs the module of its own name, with its progress shown."""

    # Option with the path on the host whose size tells whether a run takes long; '' for always.
    size_of = "src"

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        given = dict(task_vars or {})
        interval = read_interval(given.get(INTERVAL_VARIABLE))
        arguments = dict(self._task.args)
        folder = ""
        if interval and not self._task.async_val and not arguments.get("progress_file"):
            folder = self._folder(to_text(arguments.get(self.size_of) or ""))
        if not folder:
            return self._execute(arguments, given)
        arguments["progress_file"] = f"{folder}/progress.json"
        label = to_text(given.get("inventory_hostname") or "host")
        watcher = _Watcher(self, folder, interval, label)
        watcher.start()
        try:
            result = self._execute(arguments, given)
        finally:
            watcher.end()
        # Not after an error of the connection: a module without its mark of life goes on.
        self._low_level_execute_command(f"rm -rf {shlex.quote(folder)}")
        return result

    def _folder(self, path: str) -> str:
        answer = self._low_level_execute_command(
            f"sh -c {shlex.quote(_PREPARE)} sh {shlex.quote(path)} {_SMALL_BYTES}"
        )
        lines = to_text(answer.get("stdout") or "").split()
        return lines[-1] if lines and lines[-1].startswith("/tmp/golive-progress.") else ""

    def _execute(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            module_args=arguments, task_vars=task_vars, wrap_async=bool(self._task.async_val)
        )
        return result
