# SPDX-License-Identifier: GPL-3.0-or-later
"""Alerts, their documentation and their tests say the same; files have what was asked for."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = (
    "lookup('ansible.builtin.template', 'golive.rules', variable_start_string='[[',"
    " variable_end_string=']]')"
)
HOSTS = [
    {"name": "one", "address": "10.0.0.1:9999", "tls": True, "modules": ["node", "redis-main"]},
    {"name": "two", "address": "127.0.0.1:9999", "modules": ["node", "app-shop"]},
]


def make(role: Any, **arguments: Any) -> Any:
    made = role("monitoring", **arguments)
    made.variables["inventory_hostname"] = "two"
    return made


def alerts(role: Any, **arguments: Any) -> list[dict[str, Any]]:
    told = yaml.safe_load(str(make(role, **arguments).expression(RULES)))
    return [rule for group in told["groups"] for rule in group["rules"] if "alert" in rule]


@pytest.fixture
def cases() -> list[Any]:
    path = ROOT / "molecule/monitoring/tests/alert_cases.py"
    spec = importlib.util.spec_from_file_location("alert_cases", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return list(module.CASES)


def test_each_alert_has_its_section_and_each_section_its_alert(role: Any) -> None:
    text = (ROOT / "docs/alerts.md").read_text()
    sections = re.findall(r"^### (\w+)$", text, re.M)
    assert len(sections) == len(set(sections))
    assert set(sections) == {rule["alert"] for rule in alerts(role, monitoring_database_pool=15)}


def test_each_alert_says_what_an_operator_needs(role: Any) -> None:
    for rule in alerts(role, monitoring_database_pool=15, monitoring_runbook_url="https://w/a"):
        assert rule["labels"]["severity"] in ("critical", "warning", "info", "none")
        told = rule["annotations"]
        assert told["summary"] and told["description"], rule["alert"]
        assert told["runbook_url"] == f"https://w/a#{rule['alert'].lower()}"


def test_each_alert_is_tested(role: Any, cases: list[Any]) -> None:
    def key(name: str, labels: dict[str, str]) -> tuple[str, str, str]:
        return name, labels["severity"], labels.get("window", "")

    rules = [
        key(rule["alert"], rule["labels"]) for rule in alerts(role, monitoring_database_pool=15)
    ]
    tested = [key(one.labels["alertname"], one.labels) for one in cases]
    assert sorted(tested) == sorted(set(rules) - {("AlertsWork", "none", "")})


def test_thresholds_are_settings(role: Any) -> None:
    def high(**arguments: Any) -> list[str]:
        return [rule["expr"] for rule in alerts(role, **arguments) if rule["alert"] == "CpuHigh"]

    assert [text.rsplit(" ", 1)[1] for text in high()] == ["80", "95"]
    given = high(monitoring_thresholds={"cpu_percent": 55})
    assert [text.rsplit(" ", 1)[1] for text in given] == ["55", "95"]
    budget = [rule["expr"] for rule in alerts(role, monitoring_objective_percent=99.0)
              if rule["alert"] == "ErrorBudgetBurns"]  # fmt: skip
    assert "> 0.144" in budget[0] and "> 0.01" in budget[3]


def test_every_threshold_is_documented(role: Any) -> None:
    text = (ROOT / "docs/alerts.md").read_text()
    for name, value in role("monitoring").variables["__monitoring_thresholds_default"].items():
        assert f"`{name}` ({value}" in text, name


def test_targets_are_read_through_their_doors(role: Any) -> None:
    made = make(role, monitoring_hosts=HOSTS, monitoring_gate_token="t", monitoring_ca="/ca.crt")
    told = {
        job["job_name"]: job
        for job in yaml.safe_load(made.file("prometheus.yml.j2"))["scrape_configs"]
    }
    assert told["node"]["params"] == {"module": ["node"]}
    assert told["node"]["tls_config"] == {"ca_file": "/ca.crt"}
    labels = [one["labels"] for one in told["node"]["static_configs"]]
    assert [(one["instance"], one["__scheme__"]) for one in labels] == [
        ("one", "https"),
        ("two", "http"),
    ]
    assert told["redis-main"]["static_configs"][0]["labels"]["job"] == "redis"
    assert told["app-shop"]["static_configs"][0]["labels"]["application"] == "shop"


def test_alerts_go_where_their_severity_says(role: Any) -> None:
    made = make(
        role, monitoring_alert_slack_url="https://s", monitoring_alert_pagerduty_key="k",
        monitoring_alert_mail_to=["a@b.example"], monitoring_alert_smtp_host="m:25",
        monitoring_alert_smtp_user="u", monitoring_alert_smtp_password="secret-one",
        monitoring_alert_webhook_url="https://w", monitoring_alert_webhook_token="secret-two",
    )  # fmt: skip
    text = made.file("alertmanager.yml.j2")
    assert "secret" not in text and "https://s" not in text
    receivers = {one["name"]: set(one) - {"name"} for one in yaml.safe_load(text)["receivers"]}
    ways = {"webhook_configs", "slack_configs", "email_configs"}
    assert receivers == {"nobody": set(), "warning": ways, "critical": ways | {"pagerduty_configs"}}


def test_without_a_way_alerts_are_valid_and_go_nowhere(role: Any) -> None:
    told = yaml.safe_load(make(role).file("alertmanager.yml.j2"))
    assert [set(one) for one in told["receivers"]] == [{"name"}] * 3


MIRROR = {"name": "mirror", "uris": ["file:/srv"], "suites": ["./"], "signed_by": "/srv/key.asc"}


@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ({"monitoring_gate_listen": "0.0.0.0:9999"}, "door"),
        ({"monitoring_repositories": [{**MIRROR, "name": "a b"}]}, "repositories"),
        ({"monitoring_repositories": [{**MIRROR, "uris": ["/srv/mirror"]}]}, "repositories"),
        ({"monitoring_repositories": [{**MIRROR, "suites": ["stable"]}]}, "repositories"),
        ({"monitoring_alert_mail_to": ["a@b.c"]}, "mail"),
        ({"monitoring_alert_webhook_url": "ftp://x"}, "addresses of alerts"),
        ({"monitoring_exporters": ["redis"]}, "redis servers"),
        ({"monitoring_server_listen": "10.0.0.1:9090"}, "listen"),
        ({"monitoring_thresholds": {"cpu": 1}}, "thresholds"),
        ({"monitoring_thresholds": {"cpu_percent": "80"}}, "thresholds"),
        ({"monitoring_objective_percent": 100}, "objective"),
        ({"monitoring_retention_size": "much"}, "retention"),
    ],
)
def test_bad_input_is_refused_by_name(role: Any, arguments: dict[str, Any], refused: str) -> None:
    made = make(role, **arguments)
    failed = []
    for name in ("preflight", "server_preflight"):
        tasks = yaml.safe_load((ROOT / f"roles/monitoring/tasks/{name}.yml").read_text())
        for item in next(t["vars"]["__monitoring_checks"] for t in tasks if "vars" in t):
            if not made.expression(item["that"].strip()[2:-2]):
                failed.append(item["name"])
    assert failed == [refused]


def test_the_hosts_figures_of_a_release(role: Any, tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    history.write_text(
        '{"what": "deploy", "outcome": "done", "when": "2026-01-02T03:04:05Z", "seconds": 4.5}\n'
        "half a line\n"
        '{"what": "rollback", "outcome": "done", "when": "2026-01-02T04:04:05Z", "seconds": 1}\n'
        '{"what": "deploy", "outcome": "failed", "when": "2026-01-02T05:04:05Z", "seconds": 60}\n'
        '{"what": "canary", "outcome": "done", "when": "2026-01-02T06:04:05Z"}\n'
    )
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "abc")
    application = {"name": "shop", "history": str(history), "current": str(tmp_path / "current")}
    text = make(role, monitoring_applications=[application]).file("golive-host-metrics.py.j2")
    told: dict[str, Any] = {"__name__": "golive_host_metrics"}
    exec(compile(text, "golive-host-metrics", "exec"), told)
    figures = {name: (labels, value) for name, labels, value in told["releases"](application)}
    assert figures["golive_release_info"] == ({"application": "shop", "release": "abc"}, 1)
    assert figures["golive_release_last_success"] == ({"application": "shop", "what": "deploy"}, 0)
    assert figures["golive_release_switched_timestamp_seconds"][1] == 1767326645
    assert figures["golive_release_last_rollback_timestamp_seconds"][1] == 1767326645


def test_a_change_of_health_is_told_once(role: Any, tmp_path: Path) -> None:
    text = make(role).file("golive-health.py.j2")
    told: dict[str, Any] = {"__name__": "golive_health"}
    exec(compile(text, "golive-health", "exec"), told)
    settings, state = tmp_path / "notify.json", tmp_path / "health.json"
    settings.write_text('{"webhook_url": "http://x", "webhook_token": "t"}')
    told.update(SETTINGS=str(settings), STATE=str(state))
    sent: list[tuple[str, list[str]]] = []
    away = [True]

    def post(url: str, body: dict[str, Any], token: str = "") -> None:
        if away[0]:
            raise OSError("away")
        sent.append((body["status"], body["unhealthy"]))

    told["post"] = post
    told["notify"]({"shop": "503"})
    assert sent == []
    away[0] = False
    for problems in ({"shop": "503"}, {"shop": "503"}, {}, {}):
        told["notify"](problems)
    assert sent == [("firing", ["shop"]), ("resolved", [])]


def test_the_dashboards_are_in_step_with_their_source() -> None:
    from tools import dashboards

    for path, text in dashboards.files().items():
        assert path.read_text() == text, f"run python -m tools.dashboards: {path}"
    assert set(dashboards.FOLDER.glob("*.json")) == set(dashboards.files())


NOTED = (
    " {webstack_app_source: /src/shop, webstack_app_wsgi: 'a:b',"
    " webstack_app_metrics_path: /metrics, __webstack_workers: 3,"
    " __webstack_secrets: {secrets: {database_password: d, redis_password: r,"
    " secret_key: k, redis_monitoring_password: m, monitoring_token: t}},"
    " __webstack_cache_seen: {server: redis, instances: [{name: main, port: 6379, tls_port: 0,"
    " users: [shop, golive-monitoring], default_user: false}]},"
    " ansible_play_hosts_all: [app1, mon]}\n"
)
MANY = f"""all:
  hosts:
    db: {{__webstack_reached_at: 10.0.0.1, webstack_address: 10.0.0.1}}
    app1: {{__webstack_reached_at: 10.0.0.2, webstack_address: 10.0.0.2}}
    mon: {{__webstack_reached_at: 10.0.0.3, webstack_address: 10.0.0.3}}
  children:
    database: {{hosts: {{db: }}}}
    cache: {{hosts: {{db: }}}}
    app: {{hosts: {{app1: }}}}
    proxy: {{hosts: {{app1: }}}}
    monitoring: {{hosts: {{mon: }}}}
  vars:{NOTED}"""


def test_a_monitoring_host_of_its_own_reads_the_others_by_tls(site: Any) -> None:
    made = site(MANY)
    assert made.value("app1", "monitoring_gate_listen") == "10.0.0.2:9999"
    assert made.value("app1", "monitoring_gate_tls_key") == "/etc/golive/tls/host.key"
    assert made.value("mon", "monitoring_gate_listen") == "127.0.0.1:9999"
    assert made.value("mon", "monitoring_gate_tls_key") == ""
    assert made.value("app1", "monitoring_exporters") == ["nginx", "logs"]
    assert made.value("db", "monitoring_exporters") == ["postgres", "redis"]
    assert made.value("db", "monitoring_redis_user") == "golive-monitoring"
    assert made.value("db", "monitoring_redis_password") == "m"
    told = {one["name"]: one for one in made.value("mon", "monitoring_hosts")}
    assert told["db"]["modules"] == ["node", "postgres", "redis-main"]
    assert told["app1"]["modules"] == ["node", "nginx", "logs", "app-shop"]
    assert (told["app1"]["tls"], told["mon"]["tls"]) == (True, False)
    assert [told[name]["expected"] for name in ("db", "app1", "mon")] == [False, True, True]
    assert made.value("mon", "monitoring_server_listen") == "127.0.0.1:9090"
    opened = site(MANY.rstrip()[:-1] + ", webstack_monitoring_password: p}\n")
    assert opened.value("mon", "monitoring_server_listen") == "10.0.0.3:9090"
    assert opened.value("mon", "monitoring_server_tls_key") == "/etc/golive/tls/host.key"
