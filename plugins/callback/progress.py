# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: aggregate
short_description: Which part of a long run is at work, for how long, and what took the time
version_added: 0.2.0
author: golive.webstack contributors (@golive-webstack)
description:
  - Adds a line to the usual output when a part of the run begins and ends (a part is what comes of
    one playbook file), a line now and then while a task takes long, and at the end a table of the
    parts and the slowest tasks. The usual output stays as it is.
  - A run of one short playbook gets nothing but the table, and that only if it took a while.
requirements:
  - listed in C(callbacks_enabled), as the C(ansible.cfg) of the collection's checkout does
options:
  interval:
    description: Seconds after which a running task is told of, and again after as many.
    type: int
    default: 10
    env:
      - name: GOLIVE_PROGRESS_INTERVAL
    ini:
      - section: callback_golive_progress
        key: interval
  slowest:
    description: How many of the slowest tasks are told of at the end.
    type: int
    default: 5
    env:
      - name: GOLIVE_PROGRESS_SLOWEST
    ini:
      - section: callback_golive_progress
        key: slowest
"""

import os
import threading
import time

from ansible.plugins.callback import CallbackBase

from ansible_collections.golive.webstack.plugins.plugin_utils.parts import (
    Parts,
    source_of,
)

# A worker forked while the watching thread prints would wait for the output's lock for ever.
_PRINTING = threading.Lock()
os.register_at_fork(
    before=_PRINTING.acquire,
    after_in_parent=_PRINTING.release,
    after_in_child=_PRINTING.release,
)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "golive.webstack.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display=None, options=None):
        super().__init__(display, options)
        self._parts = Parts(time.monotonic)
        self._over = threading.Event()
        self._watcher = None
        self._process = os.getpid()

    def _tell(self, lines):
        for line in lines:
            self._display.display(line)

    def v2_playbook_on_start(self, playbook):
        try:
            plan = [source_of(play.get_path()) for play in playbook.get_plays()]
        except Exception:
            # Whatever a later core calls these, the run itself must not suffer.
            plan = []
        self._parts.plan(plan)
        interval = self.get_option("interval")
        if interval > 0:
            self._watcher = threading.Thread(target=self._watch, args=(interval,), daemon=True)
            self._watcher.start()

    def _watch(self, interval):
        while not self._over.wait(1):
            if os.getpid() != self._process:
                return
            with _PRINTING:
                self._tell(self._parts.waiting(interval))

    def v2_playbook_on_play_start(self, play):
        try:
            source = source_of(play.get_path())
        except Exception:
            source = play.get_name()
        self._tell(self._parts.play(source, play.get_name().strip()))

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._parts.task(task.get_name().strip())

    def v2_playbook_on_handler_task_start(self, task):
        self._parts.task(task.get_name().strip())

    def v2_playbook_on_cleanup_task_start(self, task):
        self._parts.task(task.get_name().strip())

    def v2_runner_on_start(self, host, task):
        self._parts.host_began(host.get_name())

    def _ended(self, result, changed=False, failed=False):
        # The name of the method changed in core 2.19; what it gives did not.
        host = getattr(result, "host", None) or result._host
        self._parts.host_ended(host.get_name(), changed, failed)

    def v2_runner_on_ok(self, result):
        told = getattr(result, "result", None) or result._result
        self._ended(result, changed=bool(told.get("changed")))

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._ended(result, failed=not ignore_errors)

    def v2_runner_on_skipped(self, result):
        self._ended(result)

    def v2_runner_on_unreachable(self, result):
        self._ended(result, failed=True)

    def v2_playbook_on_stats(self, stats):
        self._over.set()
        if self._watcher is not None:
            self._watcher.join(2)
        self._tell(self._parts.table(self.get_option("slowest")))
