# SPDX-License-Identifier: GPL-3.0-or-later
"""A web application with tasks: each request gives the workers one."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery

if "JOBS_ARE_BROKEN" in os.environ and "worker" in sys.argv:
    raise SystemExit("no worker today")

queue = Celery("jobs")
queue.conf.update(
    task_acks_late=True,
    beat_schedule={"tick": {"task": "jobs.tick", "schedule": 1.0}},
    broker_connection_retry_on_startup=True,
)


@queue.task
def tick() -> None:
    with open("/srv/jobs/shared/ticks", "a") as stream:
        stream.write(f"{os.environ.get('GOLIVE_RELEASE')}\n")


@queue.task
def work(name: str) -> None:
    time.sleep(2)
    with open("/srv/jobs/shared/done", "a") as stream:
        stream.write(f"{name}\n")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    name = environ["PATH_INFO"].strip("/")
    if name != "health":
        work.delay(name)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"greeting": "jobs"}).encode()]
