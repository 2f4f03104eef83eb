# SPDX-License-Identifier: GPL-3.0-or-later
"""What applications do with Redis, by the clients that they use; test_redis.py runs it.

REDIS_CLIENTS has three lines: the address of the server for what must be kept and of the one for
what may go, without the number of the database, and what comes after that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import redis
from celery import Celery

DURABLE, CACHE, AFTER = os.environ["REDIS_CLIENTS"].split("\n")

celery = Celery("redis_clients", broker=f"{DURABLE}/1{AFTER}", backend=f"{DURABLE}/2{AFTER}")


@celery.task(name="redis_clients.add")
def add(one: int, other: int) -> int:
    return one + other


def queue() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "--app", "redis_clients", "worker", "--pool=threads"]
        + ["--concurrency=2", "--loglevel=WARNING"],
        cwd=Path(__file__).parent,
    )
    try:
        waiting = [add.apply_async((number, 1), countdown=number % 2) for number in range(6)]
        assert [one.get(timeout=60) for one in waiting] == list(range(1, 7))
        assert celery.control.ping(timeout=5), "the worker does not answer the control"
    finally:
        worker.terminate()
        worker.wait()


def web() -> None:
    from flask import Flask, session
    from flask_caching import Cache
    from flask_limiter import Limiter
    from flask_limiter.util import get_remote_address
    from flask_session import Session

    app = Flask("web")
    app.config.update(
        SESSION_TYPE="redis",
        SESSION_REDIS=redis.from_url(f"{DURABLE}/0{AFTER}"),
        CACHE_TYPE="RedisCache",
        CACHE_REDIS_URL=f"{CACHE}/0{AFTER}",
        CACHE_KEY_PREFIX="",
    )
    Session(app)
    cache = Cache(app)
    limiter = Limiter(
        get_remote_address, app=app, storage_uri=f"{DURABLE}/0{AFTER}", key_prefix=str(os.getpid())
    )

    @app.get("/count")
    @limiter.limit("3/minute")
    def count() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    visitor = app.test_client()
    answers = [visitor.get("/count") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[2].text == "3"
    with app.app_context():
        cache.set("a", "b")
        assert cache.get("a") == "b"
        cache.clear()
        assert cache.get("a") is None


def live() -> None:
    import socketio

    heard: list[object] = []
    listener = socketio.RedisManager(f"{DURABLE}/0{AFTER}", channel="live")

    def listen() -> None:
        for message in listener._listen():
            heard.append(message)

    threading.Thread(target=listen, daemon=True).start()
    sender = socketio.RedisManager(f"{DURABLE}/0{AFTER}", channel="live", write_only=True)
    end = time.monotonic() + 20
    while not heard and time.monotonic() < end:
        sender.emit("news", {"a": 1})
        time.sleep(0.1)
    assert heard, "no message came through"


def refused() -> None:
    client = redis.from_url(f"{DURABLE}/0{AFTER}", client_name="shop")
    assert client.ping() and list(client.scan_iter("*")) is not None and client.info()
    for command in (
        "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET maxmemory 1", "KEYS *", "DEBUG SLEEP 0",
        "SHUTDOWN NOSAVE", "REPLICAOF 127.0.0.1 1", "MODULE LIST", "SCRIPT FLUSH", "FUNCTION FLUSH",
        "ACL LIST", "CLIENT LIST", "CLIENT KILL 127.0.0.1:1", "MONITOR", "SAVE", "BGSAVE",
        "SLAVEOF NO ONE",
    ):  # fmt: skip
        try:
            client.execute_command(*command.split())
        except redis.exceptions.NoPermissionError:
            continue
        except redis.exceptions.ResponseError as error:
            # Switched off for everybody, which comes before the rights.
            if command.startswith("DEBUG") and "not allowed" in str(error):
                continue
            raise
        raise AssertionError(f"{command} was not refused")


if __name__ == "__main__":
    for part in (web, live, refused, queue):
        part()
        print(part.__name__, "works", flush=True)
