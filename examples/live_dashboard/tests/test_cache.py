from __future__ import annotations

import time

import pytest
from redis import Redis

from app.services.cache_service import CacheService, LocalStore
from app.services.redis_guard import RedisGuard, make_client


@pytest.fixture(params=["local", "redis"])
def cache(request: pytest.FixtureRequest) -> CacheService:
    if request.param == "local":
        return CacheService()
    return CacheService(make_client(request.getfixturevalue("real_redis_url")))


def test_set_get_delete_clear(cache: CacheService) -> None:
    value = {"text": "ü\n\\N", "list": [1, None, 2.5, True]}
    assert cache.get("k") is None
    assert cache.set("k", value, 60) is True
    assert cache.get("k") == value
    assert cache.delete("k", "absent") == 1
    assert cache.get("k") is None and cache.delete() == 0
    for number in range(5):
        cache.set(f"n{number}", number + 1, 60)
    assert cache.clear() == 5
    assert cache.get("n0") is None


def test_expiry(cache: CacheService) -> None:
    cache.set("k", 1, 1)
    assert cache.get("k") == 1
    time.sleep(1.1)
    assert cache.get("k") is None
    assert cache.set("k", 1, 0) is False and cache.get("k") is None


def test_get_or_set_loads_once(cache: CacheService) -> None:
    calls: list[int] = []

    def load() -> list[int]:
        calls.append(1)
        return []

    assert cache.get_or_set("k", 60, load) == []
    assert cache.get_or_set("k", 60, load) == []
    assert len(calls) == 1
    assert cache.get_or_set("none", 60, lambda: None) is None
    cache.clear()


def test_values_are_copies() -> None:
    cache = CacheService()
    value = {"a": [1]}
    cache.set("k", value, 60)
    value["a"].append(2)
    cache.get("k")["a"].append(3)
    assert cache.get("k") == {"a": [1]}


def test_local_store_is_bounded() -> None:
    store = LocalStore(max_items=3)
    for key in "abc":
        store.set(key, key, 60)
    assert store.get("a") == "a"
    store.set("d", "d", 60)
    assert [store.get(key) for key in "abcd"] == ["a", None, "c", "d"]


def test_clear_leaves_other_keys_alone(real_redis_url: str) -> None:
    raw = Redis.from_url(real_redis_url)
    raw.set("dashboard:other", "1", ex=60)
    cache = CacheService(make_client(real_redis_url))
    cache.set("k", 1, 60)
    assert 0 < raw.ttl("dashboard:cache:k") <= 60
    raw.set("dashboard:cache:garbage", b"{not json", ex=60)
    assert cache.get("garbage") is None
    assert cache.clear() == 2
    assert raw.get("dashboard:other") == b"1"
    assert cache.state() == "up"
    raw.close()


def test_down_redis_is_a_quick_miss() -> None:
    cache = CacheService(make_client("redis://127.0.0.1:1/0"), RedisGuard(pause=30))
    assert cache.get("k") is None
    assert cache.set("k", 1, 60) is False
    assert cache.delete("k") == 0 and cache.clear() == 0
    assert cache.get_or_set("k", 60, lambda: 7) == 7
    assert cache.state() == "down"


def test_guard_pauses_after_a_failure_and_recovers() -> None:
    guard = RedisGuard(pause=0.05)
    calls: list[str] = []

    def broken() -> None:
        calls.append("broken")
        raise ConnectionError

    assert guard.run("x", broken) == (False, None)
    assert guard.run("x", broken) == (False, None)
    assert calls == ["broken"]
    assert guard.run("x", lambda: "up", always=True) == (True, "up")
    assert guard.run("x", lambda: "up") == (True, "up")
    with pytest.raises(ZeroDivisionError):
        guard.run("x", lambda: 1 // 0)
