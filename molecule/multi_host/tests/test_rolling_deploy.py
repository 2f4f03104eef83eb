# SPDX-License-Identifier: GPL-3.0-or-later
"""A release goes over several hosts, one after the other, drained at the proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from visitor import Visitor

testinfra_hosts = ["docker://mh-proxy"]
pytestmark = pytest.mark.units(
    "live-dashboard.service",
    "live-dashboard@a.service",
    "live-dashboard@b.service",
    "nginx.service",
)

ROOT = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
SOURCE = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "next"
APPS = ("mh-app1", "mh-app2")


def play(name: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [
            *("ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"]),
            *(str(ROOT / "playbooks" / f"{name}.yml"), *arguments),
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    return done.returncode, " ".join(done.stdout.split())


def live(host) -> dict[str, str]:
    return {
        name: os.path.basename(
            host.get_host(f"docker://{name}").check_output("readlink /srv/live-dashboard/current")
        )
        for name in APPS
    }


class Visits(threading.Thread):
    """Asks the site again and again; the answers' statuses."""

    def __init__(self, host) -> None:
        super().__init__(daemon=True)
        self.visitor = Visitor(host.check_output("hostname -I").split()[0])
        self.statuses: list[object] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self.statuses.append(self.visitor.get("/health")[0])
            except OSError as error:
                self.statuses.append(repr(error))
            time.sleep(0.05)

    def __enter__(self) -> Visits:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.join()


@pytest.fixture(scope="module")
def source() -> Path:
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "examples" / "live_dashboard", SOURCE)
    return SOURCE


def test_a_release_goes_over_the_hosts_without_a_lost_request(host, source):
    before = live(host)
    (source / "RELEASE").write_text("rolling\n")
    with Visits(host) as visits:
        code, output = play("deploy", "-e", f"webstack_app_source={source}")
    assert code == 0, output[-4000:]
    after = live(host)
    assert len(set(after.values())) == 1
    assert set(after.values()).isdisjoint(before.values())
    assert len(visits.statuses) > 50
    assert set(visits.statuses) == {200}
    # Drained while they changed, and in again.
    assert "down" not in host.check_output("nginx -T 2>/dev/null | grep -E 'server .*:8000'")


def test_a_host_that_fails_stops_the_rest_and_the_message_says_who_serves_what(host, source):
    before = live(host)
    (source / "RELEASE").write_text("fails on the second\n")
    with Visits(host) as visits:
        code, output = play(
            "deploy",
            *("-e", f"webstack_app_source={source}"),
            *("-e", "gunicorn_app_smoke_command='[ $(hostname) != mh-app2 ]'"),
        )
    assert code != 0
    after = live(host)
    assert after["mh-app2"] == before["mh-app2"]
    assert after["mh-app1"] != before["mh-app1"]
    for name in APPS:
        assert f"{name} serves release {after[name]}" in output
        assert not host.get_host(f"docker://{name}").file("/srv/live-dashboard/.lock").exists
    assert set(visits.statuses) == {200}
    assert "down" not in host.check_output("nginx -T 2>/dev/null | grep -E 'server .*:8000'")


def test_a_rollback_brings_all_hosts_to_the_release_that_both_have(host, source):
    target = live(host)["mh-app2"]
    with Visits(host) as visits:
        code, output = play("rollback", "-e", f"webstack_rollback_to={target}")
    assert code == 0, output[-4000:]
    assert set(live(host).values()) == {target}
    assert set(visits.statuses) == {200}


def test_a_release_that_one_host_lacks_is_refused_before_the_first_is_touched(host):
    before = live(host)
    host.get_host("docker://mh-app1").check_output(
        "cp -a /srv/live-dashboard/releases/%s /srv/live-dashboard/releases/lonely",
        before["mh-app1"],
    )
    code, output = play("rollback", "-e", "webstack_rollback_to=lonely")
    assert code != 0
    assert "lonely" in output and "mh-app2" in output
    assert live(host) == before
