"""Live updates over Socket.IO, WebSocket transport only."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import socketio
from flask import Flask, session
from flask_socketio import SocketIO
from redis import Redis
from redis.exceptions import RedisError

from app.metrics import LIVE_CLIENTS, LIVE_REFUSED
from app.services.redis_guard import RedisGuard
from app.services.sessions import session_unavailable

logger = logging.getLogger(__name__)
CHANNEL = "dashboard:live"
LOG_EVENT = "log_entry"


class LiveManager(socketio.RedisManager):
    """Redis fan-out between workers that can't hold or fail a request."""

    def __init__(self, url: str, client: Redis, guard: RedisGuard) -> None:
        super().__init__(url, channel=CHANNEL, redis_options={"socket_connect_timeout": 2})
        self._client = client
        self._guard = guard
        # A preloading server creates this object once and forks; workers that
        # share a host id would take each other's messages for their own.
        ref = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _renew_host_id(ref))

    def _publish(self, data: Any) -> None:
        self._guard.run(
            "publish", lambda: self._client.publish(self.channel, self.json.dumps(data))
        )

    def _redis_listen_with_retries(self) -> Iterator[Any]:
        # The library's own pause grows to a minute; updates should be back sooner.
        while True:
            try:
                self._redis_connect()
                self.pubsub.subscribe(self.channel)
                yield from self.pubsub.listen()
            except (RedisError, OSError, ValueError) as error:
                logger.warning("live channel lost", extra={"error": type(error).__name__})
                time.sleep(2)


def _renew_host_id(ref: weakref.ReferenceType[LiveManager]) -> None:
    manager = ref()
    if manager is not None:
        manager.host_id = uuid.uuid4().hex


def worker_is_stopping() -> bool:
    """True once this Gunicorn worker was told to finish.

    Gunicorn has no hook for that moment, but its SIGTERM handler is a method
    of the worker object, whose `alive` flag turns false.
    """
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(worker, "alive", True) is False


class Live:
    """The Socket.IO server and the count of its clients in this process."""

    def __init__(self, app: Flask, client: Redis | None, guard: RedisGuard) -> None:
        self.app = app
        self.max_clients: int = app.config["LIVE_MAX_CLIENTS"]
        self.clients = 0
        self.stopping = False
        self._lock = threading.Lock()
        self._watching = False
        manager = None
        if client is not None:
            manager = LiveManager(app.config["REDIS_URL"], client, guard)
        self.socketio = SocketIO(
            app,
            async_mode="threading",
            client_manager=manager,
            transports=["websocket"],
            manage_session=False,
            max_http_buffer_size=4096,
        )

        @self.socketio.on("connect")
        def on_connect(auth: Any = None) -> bool:
            return "user_id" in session

    def emit_log(self, entry: dict[str, Any]) -> None:
        """Send a stored entry to every open page; failures are only logged."""
        try:
            self.socketio.emit(LOG_EVENT, entry)
        except Exception:
            logger.exception("live update failed")

    def enter(self) -> bool:
        """Take one of the process's client places, if one is free."""
        with self._lock:
            if self.stopping or self.clients >= self.max_clients:
                return False
            self.clients += 1
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="live-watch", daemon=True).start()
        LIVE_CLIENTS.inc()
        return True

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self.clients -= 1
        LIVE_CLIENTS.dec()

    def close_all(self) -> None:
        """End all connections of this process; pages reconnect elsewhere."""
        self.stopping = True
        for client in list(self.socketio.server.eio.sockets.values()):
            client.close(wait=False)

    def _watch(self) -> None:
        # Open WebSockets would otherwise hold a stopping worker until its time-out.
        while not worker_is_stopping():
            time.sleep(0.5)
        self.close_all()


StartResponse = Callable[..., Any]


class LiveGate:
    """Refuses a WebSocket before its handshake, while it still costs nothing.

    An open WebSocket holds one of the server's threads, so only logged-in
    users get one, and never more than LIVE_MAX_CLIENTS per process.
    """

    def __init__(self, wsgi: Callable[..., Iterable[bytes]], app: Flask, live: Live) -> None:
        self.wsgi = wsgi
        self.app = app
        self.live = live

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path != "/socket.io" and not path.startswith("/socket.io/"):
            return self.wsgi(environ, start_response)
        if environ.get("HTTP_UPGRADE", "").lower() != "websocket":
            return self._refuse(start_response, "400 Bad Request", "websocket_only")
        with self.app.app_context():
            opened = self.app.session_interface.open_session(
                self.app, self.app.request_class(environ)
            )
        if session_unavailable(opened):
            return self._refuse(start_response, "503 Service Unavailable", "sessions_unavailable")
        if not opened or "user_id" not in opened:
            return self._refuse(start_response, "401 Unauthorized", "unauthorized")
        if not self.live.enter():
            return self._refuse(start_response, "503 Service Unavailable", "too_many_live_clients")
        try:
            return self.wsgi(environ, start_response)
        finally:
            self.live.leave()

    @staticmethod
    def _refuse(start_response: StartResponse, status: str, reason: str) -> list[bytes]:
        LIVE_REFUSED.labels(reason).inc()
        body = f'{{"error":"{reason}"}}\n'.encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        start_response(status, headers)
        return [body]
