"""JSON cache on Redis, or in this process when there is no Redis."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

from redis import Redis

from app.metrics import CACHE_OPERATIONS
from app.services.redis_guard import RedisGuard

RULES_TTL = 5 * 60
APP_CONFIG_TTL = 10 * 60
PROFILE_TTL = 15 * 60


class LocalStore:
    """A small bounded store with expiry, shared by the threads of one process."""

    def __init__(self, max_items: int = 1024) -> None:
        self._items: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._lock = threading.Lock()
        self._max_items = max_items

    def get(self, key: str) -> str | None:
        with self._lock:
            item = self._items.get(key)
            if item is None:
                return None
            if item[0] <= time.monotonic():
                del self._items[key]
                return None
            self._items.move_to_end(key)
            return item[1]

    def set(self, key: str, value: str, ttl: int) -> None:
        with self._lock:
            self._items[key] = (time.monotonic() + ttl, value)
            self._items.move_to_end(key)
            while len(self._items) > self._max_items:
                self._items.popitem(last=False)

    def delete(self, keys: tuple[str, ...]) -> int:
        with self._lock:
            return sum(self._items.pop(key, None) is not None for key in keys)

    def clear(self) -> int:
        with self._lock:
            count = len(self._items)
            self._items.clear()
            return count


class CacheService:
    """get, set, delete and clear; a Redis failure is a miss, never an error."""

    def __init__(
        self,
        client: Redis | None = None,
        guard: RedisGuard | None = None,
        prefix: str = "dashboard:cache:",
    ) -> None:
        self._client = client
        self._guard = guard or RedisGuard()
        self._local = LocalStore()
        self._prefix = prefix

    @property
    def enabled(self) -> bool:
        """True when the cache is Redis and so shared between workers."""
        return self._client is not None

    def get(self, key: str) -> Any | None:
        """The cached value, or None when absent, expired, unreadable or unreachable."""
        raw: str | bytes | None
        client = self._client
        if client is None:
            raw = self._local.get(key)
        else:
            reached, found = self._guard.run("get", lambda: client.get(self._prefix + key))
            if not reached:
                CACHE_OPERATIONS.labels("get", "error").inc()
                return None
            raw = cast("bytes | None", found)
        if raw is not None:
            try:
                value = json.loads(raw)
            except ValueError:
                value = None
            if value is not None:
                CACHE_OPERATIONS.labels("get", "hit").inc()
                return value
        CACHE_OPERATIONS.labels("get", "miss").inc()
        return None

    def set(self, key: str, value: Any, ttl: int) -> bool:
        """Store a JSON value for `ttl` seconds; False when it was not stored."""
        if ttl <= 0:
            return False
        raw = json.dumps(value, separators=(",", ":"))
        client = self._client
        if client is None:
            self._local.set(key, raw, ttl)
            stored = True
        else:
            stored, _ = self._guard.run("set", lambda: client.set(self._prefix + key, raw, ex=ttl))
        CACHE_OPERATIONS.labels("set", "ok" if stored else "error").inc()
        return stored

    def delete(self, *keys: str) -> int:
        """Remove keys; returns how many existed."""
        if not keys:
            return 0
        client = self._client
        if client is None:
            return self._local.delete(keys)
        full = [self._prefix + key for key in keys]
        _, removed = self._guard.run("delete", lambda: client.unlink(*full))
        return cast(int, removed or 0)

    def clear(self) -> int:
        """Remove every key of this cache, and nothing else that lives in Redis."""
        client = self._client
        if client is None:
            return self._local.clear()

        def remove_all() -> int:
            count = 0
            batch: list[bytes] = []
            for key in client.scan_iter(match=self._prefix + "*", count=500):
                batch.append(key)
                if len(batch) == 500:
                    count += cast(int, client.unlink(*batch))
                    batch = []
            if batch:
                count += cast(int, client.unlink(*batch))
            return count

        _, removed = self._guard.run("clear", remove_all)
        return removed or 0

    def get_or_set(self, key: str, ttl: int, load: Callable[[], Any]) -> Any:
        """The cached value, else what `load` returns, which is then cached unless None."""
        value = self.get(key)
        if value is None:
            value = load()
            if value is not None:
                self.set(key, value, ttl)
        return value

    def state(self) -> str:
        """disabled (no Redis configured), up or down."""
        client = self._client
        if client is None:
            return "disabled"
        reached, _ = self._guard.run("ping", client.ping, always=True)
        return "up" if reached else "down"
