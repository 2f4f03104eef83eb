"""One way to call Redis that never lets its failures reach a request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app.metrics import REDIS_ERRORS

logger = logging.getLogger(__name__)
T = TypeVar("T")


def make_client(url: str) -> Redis:
    """A client that gives up after half a second instead of holding a request."""
    return Redis.from_url(
        url,
        socket_timeout=0.5,
        socket_connect_timeout=0.5,
        # One immediate retry hides a connection that died with a restarted server.
        retry=Retry(NoBackoff(), 1),
    )


class RedisGuard:
    """Runs Redis calls; a failure is logged, counted and followed by a pause.

    The pause keeps a hung Redis from costing every request its time-out.
    """

    def __init__(self, pause: float = 1.0) -> None:
        self.pause = pause
        self._closed_until = 0.0

    def run(
        self, operation: str, call: Callable[[], T], always: bool = False
    ) -> tuple[bool, T | None]:
        """Return (True, result), or (False, None) when Redis failed or is paused."""
        if not always and time.monotonic() < self._closed_until:
            return False, None
        try:
            result = call()
        except (RedisError, OSError) as error:
            self._closed_until = time.monotonic() + self.pause
            REDIS_ERRORS.labels(operation).inc()
            logger.warning(
                "redis operation failed",
                extra={"operation": operation, "error": type(error).__name__},
            )
            return False, None
        self._closed_until = 0.0
        return True, result
