# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients see of the server that converge.yml asked for."""

from __future__ import annotations

import pytest

PORT = 6380
PASSWORD = 'it\'s "a" pass word: 100% $HOME {{ x }} {% \\ # ü€'

pytestmark = pytest.mark.units("redis-server.service")


def redis(host, *command, address="127.0.0.1", password=PASSWORD):
    words = ["redis-cli", "--raw", "-h", address, "-p", str(PORT), *command]
    line = " ".join(["%s"] * len(words))
    if password:
        return host.run("REDISCLI_AUTH=%s " + line, password, *words)
    return host.run(line, *words)


def answer(host, *command, **options):
    done = redis(host, *command, **options)
    assert done.rc == 0, done.stderr
    return done.stdout.strip()


def setting(host, name):
    return answer(host, "CONFIG", "GET", name).partition("\n")[2]


@pytest.fixture
def network_address(host):
    return host.check_output("hostname -I").split()[0]


def test_password_is_needed_on_every_address(host, network_address):
    for address in ("127.0.0.1", network_address):
        assert answer(host, "PING", address=address) == "PONG"
        assert "NOAUTH" in redis(host, "PING", address=address, password="").stdout
        wrong = redis(host, "PING", address=address, password=PASSWORD[:-1])
        assert "NOAUTH" in wrong.stdout


def test_values_outlive_a_restart_and_a_crash(host):
    # Settled first, so that the writes below are the append-only file's alone to keep.
    assert answer(host, "CONFIG", "SET", "save", "") == "OK"
    for number, stop in enumerate(("restart", "kill --signal=KILL")):
        assert answer(host, "SET", f"test:{number}", "kept ü€ \\ \"'") == "OK"
        before = answer(host, "INFO", "server")
        host.check_output(f"systemctl {stop} redis-server")
        host.check_output("timeout 30 sh -c 'until systemctl is-active -q redis-server &&"
                          f" redis-cli -p {PORT} PING >/dev/null; do sleep 0.2; done'")  # fmt: skip
        assert answer(host, "INFO", "server") != before
        assert answer(host, "GET", f"test:{number}") == "kept ü€ \\ \"'"
        assert answer(host, "DEL", f"test:{number}") == "1"


def test_values_outlived_the_changes_of_the_settings(host):
    assert answer(host, "GET", "made:with:defaults") == "kept"


def test_settings_are_in_force(host):
    memory = int(host.check_output("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
    limit = int(setting(host, "maxmemory")) / 2**20
    # MemTotal as the fact has it may differ by a megabyte's rounding.
    assert abs(limit - max(memory // 8, 64)) <= 1
    wanted = {
        "maxmemory-policy": "volatile-ttl",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "databases": "4",
        "protected-mode": "yes",
        "slowlog-log-slower-than": "5000",
        "notify-keyspace-events": "",
        "dir": "/var/lib/redis",
    }
    for name, value in wanted.items():
        assert setting(host, name) == value, name
    buffers = setting(host, "client-output-buffer-limit")
    assert "pubsub 16777216 4194304 30" in buffers


def test_only_keys_with_an_expiry_give_way(host):
    """What the policy is for: full memory refuses a session nothing, and loses no queue."""
    used = int(answer(host, "INFO", "memory").split("used_memory:")[1].split()[0])
    maximum = setting(host, "maxmemory")
    try:
        assert answer(host, "SET", "test:job", "x" * 1000) == "OK"
        assert answer(host, "SETRANGE", "test:cached", "200000", "x") == "200001"
        assert answer(host, "EXPIRE", "test:cached", "600") == "1"
        assert answer(host, "CONFIG", "SET", "maxmemory", str(used + 100_000)) == "OK"
        assert answer(host, "SET", "test:new", "y", "EX", "900") == "OK"
        assert answer(host, "EXISTS", "test:cached") == "0"
        assert answer(host, "EXISTS", "test:job") == "1"
    finally:
        answer(host, "CONFIG", "SET", "maxmemory", maximum)
        answer(host, "DEL", "test:job", "test:cached", "test:new")


def test_the_password_is_readable_by_redis_only_and_in_no_log(host):
    for path in ("/etc/redis/golive-auth.conf", "/etc/redis/redis.conf"):
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("redis", "redis", 0o640)
    assert not host.file("/etc/redis/redis.conf").contains("requirepass")
    assert host.run("journalctl --no-pager | grep -F %s", PASSWORD).stdout == ""
    assert host.run("grep -rF %s /var/log/redis", PASSWORD).rc == 1


def test_it_starts_at_boot(host):
    assert host.service("redis-server").is_enabled
    assert host.service("redis-server").is_running
