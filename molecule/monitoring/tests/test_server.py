# SPDX-License-Identifier: GPL-3.0-or-later
"""Exporters, Prometheus and Alertmanager as converge.yml asked for them; alerts that arrive."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import sys
import time
import urllib.parse
from pathlib import Path

import pytest

pytestmark = pytest.mark.units(
    "prometheus.service",
    "prometheus-alertmanager.service",
    "prometheus-exporter-exporter.service",
    "prometheus-postgres-exporter.service",
    "prometheus-redis-exporter.service",
    "mtail.service",
    "receiver.service",
)


def load(path: Path):
    """A module of a file: pytest puts no folder of tests on the path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).parent
alert_cases = load(HERE / "alert_cases.py")
summarise = load(HERE.parents[2] / "roles/monitoring/files/summarise.py")
PASSWORD = "a $password 'of' \"mine\""
ASK = """
import base64, sys, urllib.error, urllib.request as r
request = r.Request(sys.argv[1])
if len(sys.argv) > 2:
    request.add_header("Authorization", sys.argv[2])
try:
    print(r.urlopen(request, timeout=20).read().decode())
except urllib.error.HTTPError as error:
    print(error.code)
"""


def ask(host, url, *login):
    words = " ".join("%s" for _ in (ASK, url, *login))
    return host.check_output("python3 -c " + words, ASK, url, *login)


def tell(host, alerts):
    script = (
        "import sys, urllib.request as r\n"
        "request = r.Request(sys.argv[1], sys.argv[2].encode(),"
        " {'Content-Type': 'application/json', 'Authorization': sys.argv[3]})\n"
        "r.urlopen(request, timeout=20).read()"
    )
    url = "http://127.0.0.1:9093/api/v2/alerts"
    host.check_output("python3 -c %s %s %s %s", script, url, json.dumps(alerts), as_operator())


def as_operator():
    return "Basic " + base64.b64encode(f"operator:{PASSWORD}".encode()).decode()


def query(host, text):
    words = urllib.parse.urlencode({"query": text})
    told = ask(host, f"http://127.0.0.1:9090/api/v1/query?{words}", as_operator())
    return json.loads(told)["data"]["result"]


def wait(ready, seconds=90):
    """What `ready` gives, as soon as it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        told = ready()
        if told:
            return told
        time.sleep(1)
    raise TimeoutError(f"nothing after {seconds} s")


def received(host, name):
    text = host.run("cat /run/receiver/%s.jsonl", name).stdout
    return [json.loads(line) for line in text.splitlines()]


def test_every_service_is_up_in_the_figures(host):
    def all_up(name):
        # Right after the start a probe of a busy machine may still tell of the moment before.
        return {one["value"][1] for one in query(host, name)} == {"1"}

    for name in ("pg_up", "redis_up", "nginx_up", "probe_success", "golive_health_up"):
        wait(lambda n=name: all_up(n))
    wanted = {"golive_sessions_open", "golive_transactions_oldest_seconds", "golive_maintenance",
              "golive_apt_security_updates", "golive_reboot_required"}  # fmt: skip
    for name in wanted:
        assert query(host, name), name


def test_nothing_is_reached_from_elsewhere(host):
    ports = ("3903", "9090", "9093", "9094", "9101", "9113", "9115", "9121", "9187", "9999")
    lines = host.check_output("ss -Htln").splitlines()
    listening = {line.split()[3].rpartition(":")[::2] for line in lines}
    open_ones = {(address, port) for address, port in listening if port in ports}
    assert {address for address, _ in open_ones} <= {"127.0.0.1", "[::ffff:127.0.0.1]"}
    assert len(open_ones) == len(ports) - 1


def test_the_door_and_the_pages_want_to_know_who_asks(host):
    assert ask(host, "http://127.0.0.1:9999/proxy?module=node") == "401"
    assert "node_load1" in ask(
        host, "http://127.0.0.1:9999/proxy?module=node", "Bearer a-token-for-the-door"
    )
    for port in (9090, 9093):
        assert ask(host, f"http://127.0.0.1:{port}/api/v2/status") == "401"
    processes = host.check_output("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    journal = host.check_output("journalctl --no-pager")
    for secret in ("a-token-for-the-door", "a-token-for-alerts", "a-key-of-pagerduty"):
        assert secret not in processes
        assert secret not in journal
        found = host.run("grep -rlF %s /etc /usr/local /var/lib/prometheus", secret).stdout.split()
        assert found
        for path in found:
            assert host.file(path).mode & 0o007 == 0, path


def test_requests_are_counted_by_site_and_class(host):
    def counts():
        told = query(host, "golive_http_requests_total")
        return {one["metric"]["class"]: int(one["value"][1]) for one in told}

    def send(path, times):
        for _ in range(times):
            ask(host, f"http://127.0.0.1:8080{path}")

    before = counts()
    for path, times in (("/", 2), ("/bad", 3), ("/limited", 1)):
        send(path, times)
    wait(lambda: counts().get("5xx", 0) >= before.get("5xx", 0) + 3)
    # As logrotate does it: the new file is there at once, or mtail would take it for another log.
    host.check_output(
        "cd /var/log/nginx && mv shop_access.log shop_access.log.1"
        " && install -o www-data -g adm -m 0640 /dev/null shop_access.log && nginx -s reopen"
    )
    held = "for p in $(pgrep -x nginx); do ls -l /proc/$p/fd; done | grep -c 'access.log.1$'"
    wait(lambda: host.run(held).stdout.strip() == "0")
    send("/bad", 4)
    wait(lambda: counts()["5xx"] >= before.get("5xx", 0) + 7)
    after = counts()
    rises = {name: value - before.get(name, 0) for name, value in after.items()}
    assert rises == {"1xx": 0, "2xx": 2, "3xx": 0, "4xx": 1, "5xx": 7}
    assert query(host, 'golive_http_request_seconds_bucket{le="0.3",site="shop"}')


def test_failures_of_workers_are_counted(host):
    host.check_output("mkdir -p /var/log/gunicorn && chmod 0755 /var/log/gunicorn")

    def found():
        host.check_output("echo a line >> /var/log/gunicorn/shop_error.log")
        return "golive_gunicorn_worker_failures_total" in ask(host, "http://127.0.0.1:3903/metrics")

    wait(found)
    for line in ("[CRITICAL] WORKER TIMEOUT (pid:7)", "[ERROR] Worker (pid:7) was sent SIGKILL!",
                 "TimeoutError: QueuePool limit of size 5 overflow 0 reached"):  # fmt: skip
        host.check_output("echo %s >> /var/log/gunicorn/shop_error.log", line)
    wait(lambda: query(host, "golive_database_pool_errors_total == 1"))
    told = query(host, "golive_gunicorn_worker_failures_total")
    found = {one["metric"]["reason"]: one["value"][1] for one in told}
    assert found == {"timeout": "1", "killed": "1", "boot": "0"}


def test_an_alert_arrives_once_and_its_end_too(host):
    """By webhook, Slack, mail and PagerDuty's protocol; and from golive-health alone."""
    host.check_output("rm -f /run/receiver/*.jsonl; rm -f /run/target/*")
    host.check_output("systemctl start golive-health")
    host.check_output("rm -f /run/receiver/*.jsonl")
    try:
        host.check_output("touch /run/target/ill")
        for _ in range(2):
            assert host.run("systemctl start golive-health").rc != 0

        def posts(path, source, status):
            return [
                one
                for one in received(host, "posts")
                if one["path"] == path
                and ("alerts" in one["body"]) == (source == "alertmanager")
                and (one["body"].get("status") or one["body"].get("event_action")) == status
                and "HealthCheckFailed"
                in json.dumps(one["body"]) + "HealthCheckFailed" * (source != "alertmanager")
            ]

        fired = wait(lambda: posts("/alerts", "alertmanager", "firing"))
        names = {one["labels"]["name"] for one in fired[-1]["body"]["alerts"]}
        wait(lambda: any(
            {one["labels"]["name"] for one in told["body"]["alerts"]} == {"shop", "shop-2.main"}
            for told in posts("/alerts", "alertmanager", "firing")
        ))  # fmt: skip
        assert names <= {"shop", "shop-2.main"}
        assert all(one["token"] == "Bearer a-token-for-alerts" for one in fired)
        told = fired[-1]["body"]["alerts"][0]["annotations"]
        assert told["runbook_url"].endswith("#healthcheckfailed") and told["description"]
        mail = wait(lambda: [
            one for one in received(host, "mail") if "HealthCheckFailed" in one["text"]
        ])  # fmt: skip
        assert mail[0]["to"] == ["ops@example.com"]
        assert re.search(r"Subject: .*FIRING.*critical", mail[0]["text"])
        wait(lambda: [one for one in received(host, "posts") if one["path"] == "/pagerduty"])
        slack = wait(lambda: [
            one["body"] for one in received(host, "posts")
            if one["path"] == "/slack" and "HealthCheckFailed" in json.dumps(one["body"])
        ])  # fmt: skip
        assert slack[0]["channel"] == "#alerts"
        (shown,) = slack[0]["attachments"]
        assert shown["color"] == "danger" and "FIRING" in shown["title"]
        assert "#healthcheckfailed" in shown["text"]
    finally:
        host.check_output("rm -f /run/target/ill")
    assert host.run("systemctl start golive-health").rc == 0
    wait(lambda: posts("/alerts", "alertmanager", "resolved"))
    slack = [
        one["body"]["text"]
        for one in received(host, "posts")
        if one["path"] == "/slack" and "attachments" not in one["body"]
    ]
    assert len(slack) == 2 and all("shop-2.main" in text for text in slack)
    own = [one["body"] for one in received(host, "posts") if one["body"].get("source")]
    assert [(one["status"], one["unhealthy"], one["well"]) for one in own] == [
        ("firing", ["shop", "shop-2.main"], []),
        ("resolved", [], ["shop", "shop-2.main"]),
    ]
    # One message for both, and no second one while nothing changes.
    before = len(posts("/alerts", "alertmanager", "firing"))
    time.sleep(6)
    assert len(posts("/alerts", "alertmanager", "firing")) == before <= 2


def test_maintenance_holds_alerts_on_availability_back(host):
    host.check_output("touch /run/target/maintenance")
    try:
        host.check_output("systemctl start golive-host-metrics")
        wait(lambda: query(host, 'ALERTS{alertname="MaintenanceMode",alertstate="firing"}'))
        host.check_output("touch /run/target/ill")
        host.run("systemctl start golive-health")

        def held():
            told = ask(host, "http://127.0.0.1:9093/api/v2/alerts", as_operator())
            return [
                one
                for one in json.loads(told)
                if one["labels"]["alertname"] == "HealthCheckFailed"
                and one["status"]["inhibitedBy"]
            ]

        wait(held)
        # That of another site goes out.
        other = {"alertname": "HealthCheckFailed", "site": "other", "scope": "availability"}
        end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
        tell(host, [{"labels": {**other, "severity": "critical"}, "endsAt": end}])
        told = ask(host, "http://127.0.0.1:9093/api/v2/alerts", as_operator())
        by_site = {
            one["labels"]["site"]: one["status"]["inhibitedBy"]
            for one in json.loads(told)
            if one["labels"]["alertname"] == "HealthCheckFailed"
        }
        assert by_site["shop"] and by_site["other"] == []
        tell(host, [{"labels": {**other, "severity": "critical"}, "endsAt": "2020-01-02T00:00:00Z",
                     "startsAt": "2020-01-01T00:00:00Z"}])  # fmt: skip
    finally:
        host.check_output("rm -f /run/target/ill /run/target/maintenance")
        host.check_output("systemctl start golive-health golive-host-metrics")


def test_each_alert_fires_when_it_should_and_not_else(host):
    if "13" not in host.check_output("cat /etc/debian_version"):
        pytest.skip("the same rules are tested once, on Debian 13")
    for slow in (False, True):
        told = json.dumps(alert_cases.promtool_tests("/etc/prometheus/golive-rules.yml", slow))
        host.check_output("printf %%s %s > /tmp/alerts.json", told)
        tested = host.run("promtool test rules /tmp/alerts.json")
        assert tested.rc == 0, tested.stdout + tested.stderr


def test_a_prometheus_of_seconds_has_figures_of_the_databases(host):
    """Its only samples lie between two whole minutes, where a subquery alone finds nothing."""
    figures = summarise.FIGURES["databases"][1]
    series = {
        'pg_stat_activity_count{instance="a",state="active"}': "_x13 5",
        'pg_stat_activity_count{instance="a",state="idle"}': "_x13 2",
        'pg_settings_max_connections{instance="a"}': "_x13 100",
    }
    expected = [
        {
            "expr": figures[name].replace("RANGE", "7d"),
            "eval_time": "3m30s",
            "exp_samples": [{"labels": '{instance="a"}', "value": value}],
        }
        for name, value in (("connections_most", 7), ("connections_limit", 100))
    ]
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": expected,
    }
    told = json.dumps({"evaluation_interval": "15s", "tests": [test]})
    host.check_output("printf %%s %s > /tmp/figures.json", told)
    tested = host.run("promtool test rules /tmp/figures.json")
    assert tested.rc == 0, tested.stdout + tested.stderr


def test_the_status_page_shows_the_state(host):
    page = ask(host, "http://127.0.0.1:9090/consoles/golive.html", as_operator())
    assert "error" not in page.lower().split("<h2>")[0]
    for text in (
        "shop-host",
        "redis_up",
        "pg_up",
        "nginx_up",
        "probe_success",
        "No backup has run",
    ):
        assert text in page, text


def test_no_panel_of_a_dashboard_is_empty(host):
    """Last, as some figures come from what the tests before did."""
    panels = 0
    for path in host.check_output("ls /usr/share/golive/dashboards/*.json").split():
        for panel in json.loads(host.file(path).content_string)["panels"]:
            for target in panel["targets"]:
                text = target["expr"]
                assert wait(lambda q=text: query(host, q), 30), f"{path}: {panel['title']}: {text}"
                panels += 1
    assert panels >= 40
