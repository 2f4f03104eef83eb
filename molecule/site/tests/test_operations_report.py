# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of the last days has figures of everything that runs here."""

from __future__ import annotations

import json
import time

from playbook_run import ROOT, play


def test_it_tells_of_the_last_days(host):
    source = f"webstack_app_source={ROOT}/examples/live_dashboard"
    code, output = play("operations_report", "-e", source)
    assert code == 0, output[-4000:]
    assert "live_dashboard: " in output and "-- slow statements" in output
    kept = "/var/lib/golive/reports/live-dashboard-7d-*.json"
    told = json.loads(host.check_output(f"cat $(ls -t {kept} | head -1)"))
    # So young that its figures are no week's.
    assert 0 < time.time() - told["since"] < 7200
    assert "Prometheus has figures only of the last" in output and " minutes." in output
    (site,) = [one for one in told["sites"] if one["site"] == "live_dashboard"]
    assert site["requests"] > 0 and site["p50"] <= site["p95"] <= site["p99"]
    (machine,) = told["hosts"]
    assert 0 < machine["memory_most"] < 100
    assert {one["kind"] for one in told["backups"]} >= {"full", "dump"}
    (database,) = told["databases"]
    assert 0 < database["connections_most"] < database["connections_limit"]
    assert told["caches"] and all(one["memory"] > 0 for one in told["caches"])
    assert any("log_entries" in one["statement"] for one in told["statements"])
    assert all("request_id=" not in one["statement"] for one in told["statements"])
    assert host.file(host.check_output(f"ls -t {kept} | head -1")).mode == 0o640
