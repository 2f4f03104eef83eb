# SPDX-License-Identifier: GPL-3.0-or-later
"""A release goes over several hosts, one after the other, drained at the proxy."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from playbook_run import EPHEMERAL, ROOT, play
from visitor import Visitor, Visits

testinfra_hosts = ["docker://mh-proxy"]
pytestmark = pytest.mark.units(
    "live-dashboard.service",
    "live-dashboard@a.service",
    "live-dashboard@b.service",
    "nginx.service",
)

SOURCE = EPHEMERAL / "next"
# The first test watches each host for as long as a user's deployment does.
BRIEFLY = ("-e", "webstack_watch_seconds=5")
APPS = ("mh-app1", "mh-app2")


def live(host) -> dict[str, str]:
    return {
        name: os.path.basename(
            host.get_host(f"docker://{name}").check_output("readlink /srv/live-dashboard/current")
        )
        for name in APPS
    }


def behind(host) -> set[str]:
    """The application hosts that the proxy knows; it lists each in several upstreams."""
    told = host.check_output("nginx -T 2>/dev/null | grep -oE 'server [0-9.]+:8000'")
    return set(told.splitlines())


@pytest.fixture
def visitor(host) -> Visitor:
    return Visitor(host.check_output("hostname -I").split()[0])


@pytest.fixture(scope="module")
def source() -> Path:
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "examples" / "live_dashboard", SOURCE)
    return SOURCE


def test_a_release_goes_over_the_hosts_without_a_lost_request(host, source, visitor):
    before = live(host)
    (source / "RELEASE").write_text("rolling\n")
    with Visits(visitor) as visits:
        code, output = play("deploy", "-e", f"webstack_app_source={source}")
    assert code == 0, output[-4000:]
    after = live(host)
    assert len(set(after.values())) == 1
    assert set(after.values()).isdisjoint(before.values())
    assert len(visits.statuses) > 50
    assert set(visits.statuses) == {200}
    # Drained while they changed, and in again.
    assert "down" not in host.check_output("nginx -T 2>/dev/null | grep -E 'server .*:8000'")


def test_a_host_that_fails_stops_the_rest_and_the_message_says_who_serves_what(
    host, source, visitor
):
    before = live(host)
    (source / "RELEASE").write_text("fails on the second\n")
    with Visits(visitor) as visits:
        code, output = play(
            "deploy",
            *("-e", f"webstack_app_source={source}"),
            *BRIEFLY,
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


def test_a_rollback_brings_all_hosts_to_the_release_that_both_have(host, source, visitor):
    target = live(host)["mh-app2"]
    with Visits(visitor) as visits:
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


def test_a_run_limited_to_one_host_knows_the_others(host, source):
    before = live(host)
    (source / "RELEASE").write_text("on one host first\n")
    code, output = play(
        "deploy",
        *("-e", f"webstack_app_source={source}"),
        *BRIEFLY,
        *("--limit", "mh-app1,mh-proxy"),
    )
    assert code == 0, output[-4000:]
    after = live(host)
    assert after["mh-app2"] == before["mh-app2"]
    assert after["mh-app1"] != before["mh-app1"]
    assert len(behind(host)) == 2


@pytest.fixture
def away(host) -> list[str]:
    """An inventory in which mh-app2 does not answer, though it serves as before."""
    address = host.get_host("docker://mh-app2").check_output("hostname -I").split()[0]
    inventory = EPHEMERAL / "away.yml"
    known = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    hosts = {"mh-app2": {**known, "webstack_address": address}}
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    return ["-i", str(inventory)]


def test_the_others_get_the_release_when_a_host_can_not_be_reached(host, source, away, visitor):
    before = live(host)
    (source / "RELEASE").write_text(f"while one is away, {time.time()}\n")
    with Visits(visitor) as visits:
        code, output = play("deploy", "-e", f"webstack_app_source={source}", *BRIEFLY, *away)
    assert code != 0
    assert "unreachable=1" in output
    after = live(host)
    assert after["mh-app1"] != before["mh-app1"]
    assert after["mh-app2"] == before["mh-app2"]
    # It may serve still, so it stays behind the proxy.
    assert len(behind(host)) == 2
    assert set(visits.statuses) == {200}

    code, output = play("deploy", "-e", f"webstack_app_source={source}", *BRIEFLY)
    assert code == 0, output[-4000:]
    assert set(live(host).values()) == {after["mh-app1"]}
