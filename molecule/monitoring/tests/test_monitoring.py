# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Prometheus server and an operator see of the host that converge.yml asked for."""

from __future__ import annotations

import json
import re
import time

import pytest

pytestmark = pytest.mark.units(
    "prometheus-node-exporter.service",
    "golive-health.service",
    "golive-health.timer",
    "target.service",
)
GET = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=20).read().decode())"


def metrics(host):
    told = host.check_output("python3 -c %s http://127.0.0.1:9101/metrics", GET)
    found = re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", told, re.MULTILINE)
    return {name: float(value) for name, value in found}


def up(host):
    told = metrics(host)
    found = {}
    for name, value in told.items():
        match = re.fullmatch(r'golive_health_up\{name="(.*)",site="shop"\}', name)
        if match:
            found[match[1]] = value
    return found


@pytest.fixture
def target(host):
    """Makes the watched service ill or slow, and well again afterwards."""

    def become(state):
        host.check_output("touch /run/target/%s", state)

    yield become
    host.check_output("rm -f /run/target/*")
    host.check_output("systemctl start target && systemctl reset-failed golive-health; true")
    # The unit counts as started before its program listens.
    for _ in range(100):
        if host.run("systemctl start golive-health").rc == 0:
            return
        time.sleep(0.2)
    pytest.fail("the watched service is not well again after 20 seconds")


def test_the_hosts_metrics_are_told(host):
    told = metrics(host)
    assert told["node_load1"] >= 0
    total = int(host.check_output("awk '/MemTotal/ {print $2}' /proc/meminfo"))
    assert told["node_memory_MemTotal_bytes"] == total * 1024
    assert any(name.startswith("node_filesystem_avail_bytes") for name in told)


def test_metrics_are_for_this_host_only(host):
    address = host.check_output("hostname -I").split()[0]
    for port in (9100, 9101):
        refused = host.run("python3 -c %s %s", GET, f"http://{address}:{port}/metrics")
        assert "Connection refused" in refused.stderr
    assert not host.socket("tcp://9100").is_listening


def test_each_check_is_a_metric_and_what_is_no_longer_asked_for_is_gone(host):
    host.check_output("systemctl start golive-health")
    assert up(host) == {"shop": 1, "shop-2.main": 1}
    told = metrics(host)
    assert 0 < told['golive_health_seconds{name="shop",site="shop"}'] < 10
    assert abs(told["golive_health_last_run_timestamp_seconds"] - time.time()) < 60
    assert told["node_textfile_scrape_error"] == 0


def test_an_ill_service_fails_the_unit_and_shows_in_the_metrics(host, target):
    target("ill")
    assert host.run("systemctl start golive-health").rc != 0
    assert "golive-health.service" in host.check_output("systemctl --failed --plain --no-legend")
    assert up(host) == {"shop": 0, "shop-2.main": 0}
    journal = host.check_output("journalctl -u golive-health -n 20 -o cat --no-pager")
    assert "shop: unhealthy: HTTP Error 503" in journal


def test_a_slow_answer_counts_by_each_checks_own_time(host, target):
    target("slow")
    assert host.run("systemctl start golive-health").rc != 0
    assert up(host) == {"shop": 0, "shop-2.main": 1}


def test_a_service_that_is_away_is_ill(host, target):
    host.check_output("systemctl stop target")
    assert host.run("systemctl start golive-health").rc != 0
    assert up(host) == {"shop": 0, "shop-2.main": 0}


def test_a_service_that_is_well_again_mends_the_unit(host, target):
    target("ill")
    assert host.run("systemctl start golive-health").rc != 0
    host.check_output("rm /run/target/ill")
    assert host.run("systemctl start golive-health").rc == 0
    assert "golive" not in host.check_output("systemctl --failed --plain --no-legend")
    assert up(host) == {"shop": 1, "shop-2.main": 1}


def test_the_timer_runs_as_often_as_asked(host):
    timer = host.service("golive-health.timer")
    assert timer.is_enabled
    assert timer.is_running
    told = host.check_output("systemctl show golive-health.timer -p TimersCalendar")
    assert "OnCalendar=*-*-* *:00/2:30 UTC" in told
    assert host.service("prometheus-node-exporter").is_enabled


def test_the_check_may_write_its_metrics_only(host):
    told = host.check_output(
        "systemctl show golive-health -p NoNewPrivileges,ProtectSystem,ReadWritePaths,ProtectHome"
    )
    assert set(told.splitlines()) == {
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "ReadWritePaths=/var/lib/prometheus/node-exporter /var/lib/golive/monitoring",
    }


def test_each_profile_of_the_load_is_kept_with_its_figures(host):
    folder = "/var/lib/golive/load_tests"
    names = host.check_output("ls %s", folder).split()
    for profile, wanted in (("light", range(20, 21)), ("paced", range(4, 15))):
        newest = sorted(name for name in names if re.match(rf"{profile}-.*[.]json$", name))[-1]
        run = json.loads(host.file(f"{folder}/{newest}").content_string)
        assert run["missed"] == [] and run["figures"]["failed"] == 0
        # Paced: a request each second of each user, and each one's first step before.
        assert run["figures"]["requests"] in wanted
        assert run["figures"]["endpoints"]["GET /first"]["requests"] == 2
        assert newest.replace(".json", ".html") in names


def test_a_repository_that_is_no_longer_asked_for_is_gone(host):
    """changes.yml had one, and saw that packages come from it."""
    assert host.run("ls /etc/apt/sources.list.d/golive-monitoring-*").rc != 0
    assert host.run("apt-cache show golive-of-the-mirror").rc != 0
