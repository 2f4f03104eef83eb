# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients see of the servers that converge.yml asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

ADMIN = "golive-admin"
PASSWORD = 'it\'s "a" pass word: 100% $HOME {{ x }} {% \\ # ü€'
SHOP = "sh'o\"p {{ x }} % \\ @:/?#ü€"
SHOP_CACHE = "another password"
TLS = {"main": 6390, "cache": 6483}
PACKAGES = ["celery[redis]", "flask-session", "flask-caching", "flask-limiter", "python-socketio"]

pytestmark = pytest.mark.units("redis-server.service", "redis-server@cache.service",
                               "valkey-server.service", "valkey-server@cache.service")  # fmt: skip


@pytest.fixture
def kind(host):
    return "valkey" if "valkey" in host.check_output("hostname") else "redis"


@pytest.fixture
def unit(kind):
    return f"{kind}-server"


@pytest.fixture
def network_address(host):
    return host.check_output("hostname -I").split()[0]


@pytest.fixture
def redis(host, kind):
    """Runs a command on the socket as the administrator, or otherwise as asked."""

    def run(*command, user=ADMIN, password=PASSWORD, instance="main", place=None):
        suffix = "" if instance == "main" else f"-{instance}"
        place = place or ["-s", f"/run/{kind}{suffix}/{kind}-server.sock"]
        words = [f"{kind}-cli", "--raw", *place, *(["--user", user] if user else []), *command]
        return host.run("REDISCLI_AUTH=%s " + " ".join(["%s"] * len(words)), password, *words)

    return run


@pytest.fixture
def answer(redis):
    def ask(*command, **options):
        done = redis(*command, **options)
        assert done.rc == 0, done.stderr
        return done.stdout.strip()

    return ask


@pytest.fixture
def setting(answer):
    return lambda name, **options: answer("CONFIG", "GET", name, **options).partition("\n")[2]


def by_tls(address, port):
    return ["-h", address, "-p", str(port), "--tls", "--cacert", "/etc/golive/tls/ca.crt"]


def test_each_user_comes_in_by_tls_and_nobody_without(redis, answer, network_address):
    for address in ("127.0.0.1", network_address):
        place = by_tls(address, TLS["main"])
        assert answer("PING", place=place) == "PONG"
        assert answer("PING", place=place, user="shop", password=SHOP) == "PONG"
        assert answer("PING", place=place, user="watch", password="monitoring-password") == "PONG"
        for user, password in (("shop", SHOP[:-1]), ("", "the-password-of-everybody")):
            told = redis("PING", place=place, user=user, password=password)
            assert "PONG" not in told.stdout
    place = by_tls(network_address, TLS["cache"])
    assert answer("PING", place=place, user="shop", password=SHOP_CACHE) == "PONG"
    assert "PONG" not in redis("PING", place=place, user="shop", password=SHOP).stdout


def test_no_plain_port_is_open(host):
    listening = host.check_output("ss -Hltn")
    for port in (6380, 6381, 6482):
        assert f":{port} " not in listening
    for port in TLS.values():
        assert f":{port} " in listening


def test_the_certificate_is_the_hosts_and_tls_is_not_old(host, network_address):
    told = host.check_output(
        "openssl s_client -connect %s:6390 -CAfile /etc/golive/tls/ca.crt -verify_ip %s"
        " -verify_return_error </dev/null 2>&1",
        network_address,
        network_address,
    )
    assert "Verify return code: 0 (ok)" in told
    assert host.run("openssl s_client -connect 127.0.0.1:6390 -tls1_1 </dev/null 2>&1").rc != 0


def test_the_certificates_end_is_a_metric_and_keys_are_closed(host, kind):
    told = host.file("/var/lib/prometheus/node-exporter/golive_certificates.prom").content_string
    value = int(told.split()[-1])
    now = int(host.check_output("date +%s"))
    assert 360 < (value - now) / 86400 <= 365
    for path, group, mode in (
        ("/etc/golive/tls/host.key", "root", 0o600),
        ("/etc/golive/tls/authority/1.key", "root", 0o600),
        (f"/etc/{kind}/tls/server.key", kind, 0o640),
    ):
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("root", group, mode), path


def test_values_outlive_a_restart_and_a_crash(host, unit, answer):
    # Settled first, so that the writes below are the append-only file's alone to keep.
    assert answer("CONFIG", "SET", "save", "") == "OK"
    try:
        for number, stop in enumerate(("restart", "kill --signal=KILL")):
            assert answer("SET", f"test:{number}", "kept ü€ \\ \"'") == "OK"
            before = answer("INFO", "server")
            host.check_output(f"systemctl {stop} {unit}")
            host.check_output(
                f"timeout 30 sh -c 'until systemctl is-active -q {unit} &&"
                " openssl s_client -connect 127.0.0.1:6390 </dev/null >/dev/null 2>&1;"
                " do sleep 0.2; done'"
            )
            assert answer("INFO", "server") != before
            assert answer("GET", f"test:{number}") == "kept ü€ \\ \"'"
            assert answer("DEL", f"test:{number}") == "1"
    finally:
        answer("CONFIG", "SET", "save", "3600 1 300 100 60 10000")


def test_values_outlived_the_changes_of_the_settings(answer):
    assert answer("GET", "made:with:defaults") == "kept"


def test_settings_are_in_force(host, kind, setting):
    memory = int(host.check_output("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
    limit = int(setting("maxmemory")) / 2**20
    # MemTotal as the fact has it may differ by a megabyte's rounding.
    assert abs(limit - max(memory // 8 - 64, 64)) <= 1
    wanted = {
        "maxmemory-policy": "volatile-ttl",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "databases": "4",
        "protected-mode": "yes",
        "slowlog-log-slower-than": "5000",
        "notify-keyspace-events": "",
        "save": "3600 1 300 100 60 10000",
        "dir": f"/var/lib/{kind}",
    }
    for name, value in wanted.items():
        assert setting(name) == value, name
    assert "pubsub 16777216 4194304 30" in setting("client-output-buffer-limit")
    of_cache = {
        "maxmemory": str(64 * 2**20),
        "maxmemory-policy": "allkeys-lfu",
        "appendonly": "no",
        "save": "",
        "dir": f"/var/lib/{kind}/cache",
    }
    for name, value in of_cache.items():
        assert setting(name, instance="cache") == value, name


def test_only_keys_with_an_expiry_give_way(answer, setting):
    """What the policy is for: full memory refuses a session nothing, and loses no queue."""
    used = int(answer("INFO", "memory").split("used_memory:")[1].split()[0])
    maximum = setting("maxmemory")
    try:
        assert answer("SET", "test:job", "x" * 1000) == "OK"
        assert answer("SETRANGE", "test:cached", "200000", "x") == "200001"
        assert answer("EXPIRE", "test:cached", "600") == "1"
        assert answer("CONFIG", "SET", "maxmemory", str(used + 100_000)) == "OK"
        assert answer("SET", "test:new", "y", "EX", "900") == "OK"
        assert answer("EXISTS", "test:cached") == "0"
        assert answer("EXISTS", "test:job") == "1"
    finally:
        answer("CONFIG", "SET", "maxmemory", maximum)
        answer("DEL", "test:job", "test:cached", "test:new")


def test_the_cache_is_emptied_by_a_restart_and_the_other_is_not(host, unit, answer):
    assert answer("SET", "test:cached", "1", instance="cache") == "OK"
    host.check_output(f"systemctl restart {unit}@cache")
    assert answer("EXISTS", "test:cached", instance="cache") == "0"
    assert answer("EXISTS", "made:with:defaults") == "1"


def test_monitoring_sees_figures_and_no_key(answer, redis):
    as_watch = {"user": "watch", "password": "monitoring-password"}
    assert "used_memory" in answer("INFO", **as_watch)
    assert answer("CONFIG", "GET", "maxclients", **as_watch)
    for command in (("GET", "a"), ("SET", "a", "b"), ("CONFIG", "SET", "maxclients", "1")):
        assert "NOPERM" in redis(*command, **as_watch).stdout


def test_passwords_are_nowhere(host, kind):
    path = f"/etc/{kind}/golive-users.acl"
    file = host.file(path)
    assert (file.user, file.group, file.mode) == (kind, kind, 0o640)
    assert not host.file(f"/etc/{kind}/golive-auth.conf").exists
    access = host.file("/etc/golive/redis/access.json")
    assert (access.user, access.mode) == ("root", 0o600)
    assert json.loads(access.content_string)[0]["password"] == PASSWORD
    for password in (PASSWORD, SHOP, "the-password-of-everybody"):
        # Not what converge.yml itself ran as a client.
        own = "-e ansible.legacy.command -e REDISCLI_AUTH"
        said = f"journalctl --no-pager | grep -v {own} | grep -F %s"
        assert host.run(said, password).stdout == ""
        assert host.run(f"grep -rF %s /var/log/{kind} /etc/{kind}", password).rc == 1


def test_they_start_at_boot(host, unit):
    for name in (unit, f"{unit}@cache"):
        assert host.service(name).is_enabled
        assert host.service(name).is_running


def test_a_large_file_is_read_in_peace_and_a_save_alone_is_ended(host, unit):
    told = host.check_output(f"systemctl show -p TimeoutStartUSec -p OOMPolicy {unit}")
    assert sorted(told.split()) == ["OOMPolicy=continue", "TimeoutStartUSec=infinity"]


@pytest.fixture(scope="session")
def clients():
    """An environment with the clients that applications use, made once."""
    folder = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "clients"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        (folder / "ready").touch()
    return python


def test_real_clients_work_as_the_applications_user(host, clients, network_address, tmp_path):
    (tmp_path / "ca.crt").write_text(host.file("/etc/golive/tls/ca.crt").content_string)
    addresses = [
        f"rediss://shop:{quote(password, safe='')}@{network_address}:{port}"
        for password, port in ((SHOP, TLS["main"]), (SHOP_CACHE, TLS["cache"]))
    ]
    after = f"?ssl_cert_reqs=required&ssl_ca_certs={tmp_path / 'ca.crt'}"
    done = subprocess.run(
        [clients, Path(__file__).parent / "redis_clients.py"],
        env={"PATH": os.environ["PATH"], "REDIS_CLIENTS": "\n".join([*addresses, after])},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("web", "live", "refused", "queue"):
        assert f"{part} works\n" in done.stdout


@pytest.fixture
def backups(host):
    if host.check_output("hostname") != "redis-debian12":
        pytest.skip("files are backed up on one host of this scenario")
    return lambda *words: host.run("golive-backup-files" + " %s" * len(words), *words)


def test_a_backup_has_what_redis_holds_and_can_be_restored(host, backups, answer):
    uploads = '/srv/up loads/ü " file'
    host.check_output("install -D /etc/hostname %s", uploads)
    assert answer("SET", "test:saved", "in the backup") == "OK"
    assert backups("backup").rc == 0
    assert answer("SET", "test:later", "not in the backup") == "OK"
    host.check_output("rm -rf /root/restored")
    done = backups("restore", "--to", "/root/restored")
    assert done.rc == 0, done.stderr
    assert host.check_output("cat %s", f"/root/restored{uploads}") == "redis-debian12"
    secret = host.file("/etc/golive/redis/secrets")
    assert not secret.exists or host.file("/root/restored/etc/golive/redis").exists
    # The saved keys, by a server that has nothing but the snapshot.
    script = (
        "chmod -R a+rX /root/restored/var && cp /root/restored/var/lib/redis/dump.rdb /tmp/t.rdb &&"
        " redis-server --port 0 --unixsocket /tmp/t.sock --dir /tmp --dbfilename t.rdb --save ''"
        " --daemonize yes >/dev/null && sleep 1 &&"
        " redis-cli -s /tmp/t.sock GET test:saved && redis-cli -s /tmp/t.sock EXISTS test:later;"
        " redis-cli -s /tmp/t.sock SHUTDOWN NOSAVE; rm -f /tmp/t.rdb"
    )
    assert host.check_output(script).split("\n")[:2] == ["in the backup", "0"]
    again = backups("restore", "--to", "/root/restored")
    assert again.rc == 1 and "is not empty" in again.stderr
    unknown = backups("restore", "--to", "/root/other", "--snapshot", "ffffffff")
    assert unknown.rc == 1 and "there are" in unknown.stderr
    answer("DEL", "test:saved", "test:later")


def test_one_damaged_bit_is_found(host, backups):
    assert backups("check").rc == 0
    assert backups("status").rc == 0
    flip = (
        "import glob,os;"
        "path=max(glob.glob('/var/backups/golive-files/data/*/*'),key=os.path.getsize);"
        "f=open(path,'r+b');f.seek(100);b=f.read(1);f.seek(100);f.write(bytes([b[0]^1]));f.close()"
    )
    host.check_output("chmod -R u+w /var/backups/golive-files; python3 -c %s", flip)
    try:
        found = backups("check")
        assert found.rc == 1 and "local" in found.stderr
        told = backups("status")
        assert told.rc == 1 and "damage" in told.stderr
    finally:
        host.check_output("python3 -c %s", flip)
    assert backups("check").rc == 0
    assert backups("status").rc == 0


def test_backups_run_by_timers_and_are_metrics(host, backups):
    for unit in ("golive-backup-files.timer", "golive-backup-files-check.timer"):
        assert host.service(unit).is_enabled and host.service(unit).is_running
    host.check_output("systemctl start golive-backup-files.service")
    metrics = host.file("/var/lib/prometheus/node-exporter/golive_backup_files.prom").content_string
    now = int(host.check_output("date +%s"))
    line = 'golive_backup_last_success_timestamp_seconds{kind="files",name="local"} '
    found = [one for one in metrics.splitlines() if one.startswith(line)]
    assert now - int(found[0].split()[-1]) < 600
    assert 'golive_backup_last_run_success{kind="files",name="local"} 1' in metrics


def test_a_redis_that_does_not_answer_fails_the_backup(host, backups):
    host.check_output("systemctl stop redis-server")
    try:
        done = backups("backup")
        assert done.rc == 1 and "can't be asked to save" in done.stderr
    finally:
        host.check_output("systemctl start redis-server")
