"""Redis sessions that survive a Redis outage without failing the request."""

from __future__ import annotations

from typing import Any

from flask import Flask, Request, Response, session
from flask_session.base import ServerSideSession
from flask_session.redis.redis import RedisSessionInterface
from redis import Redis

from app.services.redis_guard import RedisGuard


class GuardedRedisSessions(RedisSessionInterface):
    """Flask-Session's Redis store behind the guard.

    While Redis is unreachable a request gets an empty session marked
    `unavailable`. It is not saved, so the browser's cookie and the stored
    session stay as they are and work again afterwards.
    """

    def __init__(self, app: Flask, client: Redis, guard: RedisGuard) -> None:
        super().__init__(app, client=client, key_prefix="dashboard:session:")
        self._guard = guard

    def open_session(self, app: Flask, request: Request) -> ServerSideSession:
        if not request.cookies.get(app.config["SESSION_COOKIE_NAME"]):
            # Needs no Redis, so an outage must not matter to it.
            return super().open_session(app, request)
        reached, opened = self._guard.run(
            "session_open", lambda: super(GuardedRedisSessions, self).open_session(app, request)
        )
        if reached and opened is not None:
            return opened
        empty = self.session_class(sid=self._generate_sid(self.sid_length))
        empty.unavailable = True
        return empty

    def save_session(self, app: Flask, session: ServerSideSession, response: Response) -> None:
        if getattr(session, "unavailable", False):
            return
        self._guard.run(
            "session_save",
            lambda: super(GuardedRedisSessions, self).save_session(app, session, response),
        )

    def regenerate(self, session: ServerSideSession) -> None:
        self._guard.run(
            "session_regenerate",
            lambda: super(GuardedRedisSessions, self).regenerate(session),
        )

    def end_of(self, user_ids: set[int]) -> bool:
        """End every session of these users; False when Redis could not be reached."""

        def end() -> None:
            keys = list(self.client.scan_iter(match=self.key_prefix + "*", count=500))
            for first in range(0, len(keys), 500):
                part = keys[first : first + 500]
                found = zip(part, self.client.mget(part), strict=True)
                theirs = [
                    key
                    for key, raw in found
                    if raw and self.serializer.decode(raw).get("user_id") in user_ids
                ]
                if theirs:
                    self.client.unlink(*theirs)

        reached, _ = self._guard.run("session_end", end)
        return reached


def session_unavailable(current: Any = None) -> bool:
    """True when the session store could not be reached for this request."""
    return bool(getattr(session if current is None else current, "unavailable", False))
