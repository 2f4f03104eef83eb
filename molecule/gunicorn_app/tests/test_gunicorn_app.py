# SPDX-License-Identifier: GPL-3.0-or-later
"""What a proxy and the system see of the two applications that converge.yml asked for."""

from __future__ import annotations

import json
import re

import pytest

pytestmark = pytest.mark.units("test-shop@a.service", "test-shop@b.service", "second@a.service")

AWKWARD = 'it\'s "a" va`lue: 100% $HOME ${HOME} {{ x }} {% \\ \\n # ü€ '
SOCKET = "/run/test-shop.sock"

# Runs on the host: requests over a unix socket or TCP, one after the other for some seconds.
CLIENT = r"""
import http.client, json, socket, sys, time
where, path, seconds, headers = json.loads(sys.argv[1])

class Link(http.client.HTTPConnection):
    def connect(self):
        if where.startswith("/"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(60)
            self.sock.connect(where)
        else:
            super().connect()

end = time.monotonic() + seconds
failed, answers = [], []
while not answers or time.monotonic() < end:
    link = Link("localhost" if where.startswith("/") else where, timeout=60)
    try:
        link.request("GET", path, headers=headers)
        got = link.getresponse()
        answers.append([got.status, json.loads(got.read())])
    except OSError as error:
        failed.append(repr(error))
        if len(failed) > 1000:
            break
    link.close()
print(json.dumps({"failed": failed, "answers": answers[-200:]}))
"""


@pytest.fixture
def ask(host):
    def ask(path="/", *, where=SOCKET, headers=None):
        told = client(host, where, path, 0, headers)
        assert told["failed"] == []
        status, answer = told["answers"][0]
        assert status == (404 if path == "/missing" else 200)
        return answer

    return ask


def client(host, where, path, seconds, headers=None):
    done = host.run("python3 -c %s %s", CLIENT, json.dumps([where, path, seconds, headers or {}]))
    assert done.rc == 0, done.stderr
    return json.loads(done.stdout)


def shown(host, unit, *names):
    told = host.check_output("systemctl show %s -p %s", unit, ",".join(names))
    return dict(line.split("=", 1) for line in told.splitlines())


def live(host, name="test-shop", home="/srv/test-shop"):
    """The unit of the slot that serves."""
    return f"{name}@{host.check_output('readlink %s/slots/live', home)}.service"


def test_it_answers_on_its_socket(ask):
    told = ask("/some/path", headers={"Host": "shop.example"})
    assert told["greeting"] == "hello"
    assert told["path"] == "/some/path"
    assert told["host"] == "shop.example"
    assert told["scheme"] == "http"


def test_the_proxy_is_believed(ask):
    assert ask(headers={"X-Forwarded-Proto": "https"})["scheme"] == "https"


def test_only_the_proxys_group_may_connect(host):
    socket = host.file(SOCKET)
    assert (socket.user, socket.group, socket.mode) == ("root", "www-data", 0o660)
    script = f"import socket; socket.socket(socket.AF_UNIX).connect('{SOCKET}')"
    assert host.run("runuser -u www-data -- python3 -c %s", script).rc == 0
    assert "PermissionError" in host.run("runuser -u nobody -- python3 -c %s", script).stderr


def test_the_environment_keeps_every_character(ask):
    told = ask("/environment")["environment"]
    assert told == {"APP_AWKWARD": AWKWARD, "APP_NUMBER": "5", "APP_EMPTY": ""}


def test_the_environment_is_roots_alone(host):
    file = host.file("/etc/test-shop/environment")
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)
    assert host.file("/etc/test-shop/slots/live/environment").mode == 0o600
    assert host.run("systemctl show 'test-shop@*' | grep -F 'va`lue'").rc == 1
    assert host.run("journalctl --no-pager | grep -F 'va`lue'").rc == 1


def test_it_may_write_where_it_should_and_nowhere_else(ask):
    assert ask("/writable")["writable"] == ["shared", "tmp"]


def test_the_unit_is_hardened(host):
    for unit in (live(host), live(host, "second", "/opt/second")):
        told = shown(
            host, unit, "NoNewPrivileges", "ProtectSystem", "PrivateTmp", "PrivateDevices",
            "CapabilityBoundingSet", "RestrictNamespaces", "MainPID", "User", "LockPersonality",
            "ProtectKernelModules", "ProtectProc",
        )  # fmt: skip
        pid, user = told.pop("MainPID"), told.pop("User")
        assert user == ("test-shop" if unit.startswith("test-shop") else "second-user")
        assert told.pop("ProtectSystem") == "strict"
        assert told.pop("ProtectProc") == "invisible"
        assert told.pop("CapabilityBoundingSet") == ""
        assert set(told.values()) == {"yes"}
        status = host.file(f"/proc/{pid}/status").content_string
        lines = dict(line.split(":\t", 1) for line in status.splitlines())
        assert lines["NoNewPrivs"] == "1"
        assert lines["Seccomp"] == "2"
        assert int(lines["CapEff"], 16) == int(lines["CapBnd"], 16) == 0
        assert lines["Uid"].split()[0] != "0"
        rated = host.check_output("systemd-analyze --no-pager security %s | tail -1", unit)
        assert float(re.search(r"(\d+\.\d+) OK", rated)[1]) <= 1.5, rated


def test_releases_are_whole_and_roots(host):
    names = host.check_output("ls /srv/test-shop/releases").split()
    assert len(names) >= 2
    current = host.check_output("readlink /srv/test-shop/current")
    assert current.removeprefix("releases/") in names
    assert not host.file(f"/srv/test-shop/{current}/wsgi.py").contains("nowhere")
    for name in names:
        folder = f"/srv/test-shop/releases/{name}"
        assert json.loads(host.file(f"{folder}/.golive-release").content_string)["id"] == name
        assert host.check_output("find %s ! -user root -o -perm /022 ! -type l", folder) == ""
    # Those that were live have the same requirements, and so the same environment.
    notes = [
        json.loads(host.file(f"/srv/test-shop/releases/{name}/.golive-release").content_string)
        for name in names
    ]
    used = {note["environment"] for note in notes if note["live_at"]}
    assert len(used) == 1
    assert host.file(f"/srv/test-shop/environments/{used.pop()}/.golive-environment").exists
    assert host.check_output("ls -A /srv/test-shop/.incoming") == ""


def only_on(host, name):
    if host.backend.get_hostname() != name:
        pytest.skip(f"it is on {name}")


def history(host, name="test-shop"):
    lines = host.file(f"/srv/{name}/history.jsonl").content_string.splitlines()
    return [json.loads(line) for line in lines]


def test_the_history_tells_all_of_it(host):
    only_on(host, "gunicorn-app-debian12")
    told = [(one["what"], one["outcome"]) for one in history(host)]
    assert told[:12] == [
        ("deploy", "done"), ("migrate", "failed"), ("deploy", "failed"), ("deploy", "failed"),
        ("deploy", "failed"), ("deploy", "failed"), ("deploy", "done"), ("take-back", "done"),
        ("deploy", "done"), ("rollback", "done"), ("canary", "done"), ("canary", "ended"),
    ]  # fmt: skip
    assert "@" in history(host)[0]["by"]
    assert history(host)[7]["reason"] == "too many errors"
    assert history(host)[7]["after"] == history(host)[0]["after"]


def test_nothing_is_left_of_locks_gates_and_the_canary(host):
    assert not host.file("/srv/test-shop/.lock").exists
    assert host.check_output("ls /run/golive-test-shop/gates") == ""
    assert host.run("ls /etc/systemd/system | grep canary").rc == 1
    assert not host.file("/run/test-shop-canary.sock").exists


def flags(host, pid):
    """The flags of the listening socket that a process shares."""
    script = (
        'for fd in /proc/$1/fd/*; do [ "$(readlink $fd)" = "socket:[$2]" ] '
        "&& grep flags /proc/$1/fdinfo/${fd##*/}; done; true"
    )
    lines = host.file("/proc/net/unix").content_string.splitlines()
    rows = [line.split() for line in lines if line.endswith(f" {SOCKET}")]
    inode = next(row[6] for row in rows if int(row[3], 16) & 0x10000)
    return host.check_output("sh -c %s sh %s %s", script, str(pid), inode).split()[1::2]


def test_the_shared_socket_blocks_nobody(host):
    """A start of any unit that has it would make it blocking, and a worker wait in accept()."""
    host.check_output("systemctl restart test-shop.service")
    unit = live(host)
    count = f"until [ $(pgrep -c -P $(systemctl show -p MainPID --value {unit})) = 2 ]; do :; done"
    assert host.run("timeout 20 sh -c %s", count).rc == 0
    found = flags(host, shown(host, unit, "MainPID")["MainPID"])
    assert found and all(int(flag, 8) & 0o4000 for flag in found)


def test_the_live_release_is_what_runs(host, ask):
    folder = host.check_output("readlink -f /srv/test-shop/current")
    assert ask()["folder"] in ("/srv/test-shop/current", folder)
    pid = shown(host, live(host), "MainPID")["MainPID"]
    assert host.check_output("readlink -f /proc/%s/cwd", pid) == folder


def test_workers_and_threads_are_as_asked(host):
    pid = shown(host, live(host), "MainPID")["MainPID"]
    workers = host.check_output("pgrep -P %s", pid).split()
    assert len(workers) == 2
    second = shown(host, live(host, "second", "/opt/second"), "MainPID", "MemoryMax", "ProtectHome")
    assert len(host.check_output("pgrep -P %s", second["MainPID"]).split()) == 1
    assert second["MemoryMax"] == str(300 * 2**20)
    assert second["ProtectHome"] == "tmpfs"


def test_a_killed_master_comes_back(host, ask):
    unit = live(host)
    before = shown(host, unit, "MainPID", "NRestarts")
    host.check_output("kill -9 %s", before["MainPID"])
    # The socket stays open: a request that comes now waits for the new process.
    assert ask()["greeting"] == "hello"
    after = shown(host, unit, "MainPID", "NRestarts", "ActiveState")
    assert after["MainPID"] != before["MainPID"]
    assert int(after["NRestarts"]) == int(before["NRestarts"]) + 1
    assert after["ActiveState"] == "active"


def test_a_killed_worker_comes_back(host, ask):
    pid = ask()["pid"]
    host.check_output("kill -9 %s", str(pid))
    assert ask()["pid"] != pid
    master = shown(host, live(host), "MainPID")["MainPID"]
    count = f"until [ $(pgrep -c -P {master}) = 2 ]; do sleep 0.2; done"
    assert host.run("timeout 20 sh -c %s", count).rc == 0


@pytest.mark.parametrize("action", ["restart", "reload"])
def test_new_requests_wait_and_none_fails(host, action):
    host.check_output(
        "systemd-run --quiet --collect --on-active=1 systemctl %s test-shop.service", action
    )
    told = client(host, SOCKET, "/", 6)
    assert told["failed"] == []
    assert {status for status, _ in told["answers"]} == {200}


def test_an_awkward_wsgi_name_and_another_folder(ask):
    told = ask("/missing", where="127.0.0.1:8100")
    assert told["greeting"] == 'it\'s 100%s $HOME \\ "quoted" ü'
    assert ask(where="127.0.0.1:8100")["folder"].startswith("/opt/second/")


def test_tcp_listens_where_it_was_told_to_only(host):
    assert host.socket("tcp://127.0.0.1:8100").is_listening
    assert not host.socket("tcp://0.0.0.0:8100").is_listening


def test_the_schema_is_migrated_once_with_the_environment(host):
    migrated = host.file("/opt/second/shared/migrated")
    # One host does it for all that a play deploys to.
    if host.backend.get_hostname() == "gunicorn-app-debian12":
        assert migrated.content_string == "True\n"
    else:
        assert not migrated.exists


def test_everything_starts_at_boot(host):
    units = ["test-shop.socket", "test-shop.service", "second.socket", "second.service"]
    for unit in [*units, live(host), live(host, "second", "/opt/second")]:
        assert host.service(unit).is_enabled, unit
        assert host.service(unit).is_running, unit
    other = {"a": "b", "b": "a"}[live(host).removesuffix(".service")[-1]]
    assert not host.service(f"test-shop@{other}.service").is_enabled
    assert not host.service(f"test-shop@{other}.service").is_running
    assert host.check_output("systemctl list-units --failed --plain --no-legend '*shop*'") == ""


def test_stop_and_start_bring_back_the_live_slot_alone(host, ask):
    """As a reboot does: all stopped, what is enabled started, /run empty."""
    unit = live(host)
    host.check_output("systemctl stop test-shop.socket test-shop.service")
    assert not host.service(unit).is_running
    host.check_output("rm -rf /run/golive-test-shop")
    host.check_output("systemctl start test-shop.socket test-shop.service")
    assert ask()["greeting"] == "hello"
    assert host.service(unit).is_running
    other = {"a": "b", "b": "a"}[unit.removesuffix(".service")[-1]]
    assert not host.service(f"test-shop@{other}.service").is_running


def test_what_the_application_says_is_logged(host):
    log = host.file("/var/log/gunicorn/test_shop_error.log")
    assert (log.user, log.group, log.mode) == ("test-shop", "adm", 0o640)
    assert log.contains("Booting worker")


def test_django(host, ask):
    only_on(host, "gunicorn-app-debian12")
    told = ask("/health", where="/run/djshop.sock")
    assert (told["greeting"], told["users"]) == ("django", 0)
    release = host.check_output("basename $(readlink /srv/djshop/current)")
    assert told["release"] == release
    note = json.loads(host.file(f"/srv/djshop/releases/{release}/.golive-release").content_string)
    assert int(note["schema"]) > 5
    data = host.file(f"/srv/djshop/releases/{release}/data")
    assert data.is_symlink and data.linked_to == "/srv/djshop/shared/data"
    assert host.file("/srv/djshop/shared/data/shop.sqlite3").user == "djshop"
    secret = host.file("/etc/djshop/credentials/django.key")
    assert (secret.user, secret.mode) == ("root", 0o600)


def test_uvicorn(host, ask):
    only_on(host, "gunicorn-app-debian13")
    assert ask("/health", where="/run/fast.sock")["greeting"] == "fastapi"
    pid = shown(host, live(host, "fast", "/srv/fast"), "MainPID")["MainPID"]
    command = host.file(f"/proc/{pid}/cmdline").content_string.split("\0")
    assert any(word.endswith("/uvicorn") for word in command)
    assert [one["outcome"] for one in history(host, "fast")] == ["done", "done"]
    assert not host.service("fast-gate.socket").is_running
    assert host.check_output("systemctl list-units --all --plain --no-legend 'fast-gate@*'") == ""


def test_celery_works_and_finishes_its_tasks_when_it_is_stopped(host, ask):
    only_on(host, "gunicorn-app-debian12")
    units = ["jobs-worker@1.service", "jobs-worker@2.service", "jobs-beat.service"]
    for unit in units:
        assert host.service(unit).is_running and host.service(unit).is_enabled
    last = history(host, "jobs")[-1]
    assert (last["what"], last["outcome"]) == ("take-back", "done")
    assert "do not answer" in last["reason"]
    done = "timeout 30 sh -c 'until grep -q %s /srv/jobs/shared/%s; do sleep 0.1; done'"
    assert host.run(done % ("^[0-9a-f]", "ticks")).rc == 0
    assert host.run(done % ("late-39", "done")).rc == 0
    received = 'journalctl -u "jobs-worker@*" | grep -c work.*received'
    before = host.check_output(received)
    ask("/first", where="/run/jobs.sock")
    taken = f'until [ "$({received})" -gt {before} ]; do sleep 0.1; done'
    assert host.run("timeout 20 sh -c %s", taken).rc == 0
    host.check_output("systemctl restart jobs-worker@1.service jobs-worker@2.service")
    assert host.file("/srv/jobs/shared/done").content_string.splitlines()[-1] == "first"
