# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback of the benchmark: each task's action and seconds, as JSON at the end of the run."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_times
type: aggregate
short_description: Write the seconds of each task to the file named by TASK_TIMES_FILE
description:
  - Used by the benchmark of provisioning alone.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[dict[str, Any]] = []
        self.began = time.monotonic()

    def _next(self, name: str, action: str) -> None:
        now = time.monotonic()
        if self.tasks:
            self.tasks[-1]["seconds"] = round(now - self.tasks[-1]["began"], 3)
        self.tasks.append({"name": name, "action": action, "began": now, "seconds": 0.0})

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._next(task.get_name(), task.action)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self._next(task.get_name(), task.action)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._next("end", "end")
        tasks = [{k: v for k, v in task.items() if k != "began"} for task in self.tasks[:-1]]
        hosts = {host: stats.summarize(host) for host in stats.processed}
        result = {
            "seconds": round(time.monotonic() - self.began, 3),
            "tasks": tasks,
            "hosts": hosts,
        }
        with open(os.environ["TASK_TIMES_FILE"], "w") as stream:
            json.dump(result, stream, indent=1)
