# SPDX-License-Identifier: GPL-3.0-or-later
"""The checklist: its catalogue, the checks over what real hosts said, and the report."""

from __future__ import annotations

import json
import os
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.golive.webstack.plugins.module_utils.checklist import (
    checks,
    model,
    report,
    runner,
)
from ansible_collections.golive.webstack.plugins.module_utils.checklist.host import (
    Answer,
    Host,
    environment_of,
)

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = yaml.safe_load((ROOT / "playbooks/vars/checklist.yml").read_text())[
    "__webstack_checklist"
]
BOXES = {1: 9, 2: 7, 3: 5, 4: 8, 5: 12, 6: 7, 7: 15, 8: 22}


class Told(Host):
    """A host that answers what is given to it."""

    def __init__(self, context: dict[str, Any] | None = None, **told: Any) -> None:
        super().__init__({"database_name": "shop", **(context or {})})
        self.told = told

    def run(self, argv, stdin="", user="", extra=None):
        for words, answer in self.told.get("run", {}).items():
            if words in " ".join(argv):
                return answer if isinstance(answer, tuple) else (0, answer, "")
        raise model.Failed(f"{argv[0]} is not installed on this host")

    def sql(self, query, database=""):
        return self.told["sql"]

    def http(self, url, headers=None, method="GET"):
        return self.told["http"]

    def redis(self):
        return self.told["redis"]

    def secrets(self):
        return self.told.get("secrets", set())


def problem(found: list[model.Found]) -> str:
    return "; ".join(one.problem for one in found if one.problem)


# The catalogue


def test_every_box_of_the_checklist_has_an_entry() -> None:
    for phase, number in BOXES.items():
        ids = [one["id"] for one in CATALOGUE if one["id"].startswith(f"p{phase}.")]
        assert ids == [f"p{phase}.{n:02d}" for n in range(1, number + 1)]
    assert sum(BOXES.values()) == 85
    assert sum(one["source"].startswith("1, ") for one in CATALOGUE) == 85


def test_the_catalogue_is_well_formed() -> None:
    assert model.problems(CATALOGUE, checks.CHECKS) == []


def test_what_the_catalogue_refers_to_is_wired() -> None:
    text = (ROOT / "roles/wiring/vars/main.yml").read_text()
    block = text.split("__webstack_checklist_context:")[1].split("\n# ")[0]
    wired = set(re.findall(r"^  (\w+):", block, re.MULTILINE))
    used = {key for one in CATALOGUE for key in one.get("applies", {})}
    for entry in CATALOGUE:
        for check in entry.get("checks", []):
            words = json.dumps({key: value for key, value in check.items() if key != "check"})
            used |= set(re.findall(r'"@(\w+)"', words))
            used |= {name for name in re.findall(r"\{([a-z_]+)\}", words) if name in wired}
    assert used <= wired
    assert used


def test_each_entry_says_what_to_do_or_why_people_decide() -> None:
    for entry in CATALOGUE:
        assert entry.get("advice") or not entry.get("checks"), entry["id"]
        assert entry["text"].endswith("."), entry["id"]


def test_faulty_entries_are_told_by_name() -> None:
    told = model.problems(
        [
            {"id": "own.a", "phase": 9, "text": "a", "person": "b"},
            {"id": "own.a", "phase": 1, "text": "a", "checks": [{"check": "magic"}]},
            {"id": "Own", "phase": 1, "text": "", "hosts": "web", "when": 1},
        ],
        checks.CHECKS,
    )
    for words in ("phase is 9", "two entries", "no check 'magic'", "like p1.03", "no text",
                  "hosts is 'web'", "neither checks", "'when' is no part"):  # fmt: skip
        assert any(words in line for line in told), words


def test_names_of_the_context_are_put_in() -> None:
    given = {"paths": ["@log", "/etc/{application}/x"], "like": "[0-9]{2}"}
    assert model.resolved(given, {"log": "/l", "application": "shop"}) == {
        "paths": ["/l", "/etc/shop/x"], "like": "[0-9]{2}",
    }  # fmt: skip
    with pytest.raises(model.Failed, match="no 'log'"):
        model.resolved("@log", {})


@pytest.mark.parametrize(
    ("figure", "bound", "kept"),
    [(99.9, "< 100", True), (100, "< 100", False), (0, ">= 0", True), (float("nan"), "> 0", False)],
)
def test_bounds(figure: float, bound: str, kept: bool) -> None:
    assert model.compare(figure, bound) is kept


# The checks


UNIT = """LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NRestarts=0
ActiveEnterTimestamp=Sun 2026-11-22 18:47:20 UTC
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("", "", ""),
        ("ActiveState=active", "ActiveState=failed", "is failed"),
        ("UnitFileState=enabled", "UnitFileState=disabled", "disabled, so a reboot"),
        ("LoadState=loaded", "LoadState=not-found", "is not there"),
    ],
)
def test_services(old: str, new: str, words: str) -> None:
    told = Told(run={"systemctl": UNIT.replace(old, new) if old else UNIT})
    found = checks.services(told, {"units": ["a.service"], "enabled": True})
    assert (words in problem(found)) if words else not problem(found)


def test_a_program_that_is_missing_is_a_failure_and_no_proof() -> None:
    (told,) = runner_on(Told(), [entry(check="command", argv=["no-such"])])
    assert told["state"] == "failed" and "not installed" in told["reason"]


def entry(**check: Any) -> dict[str, Any]:
    return {"id": "own.a", "phase": 1, "text": "A.", "checks": [check]}


def runner_on(host: Host, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    results = []
    for one in entries:
        state, reason, found = runner._state(one, host)
        results.append({"state": state, "reason": reason, "found": found})
    return results


def test_rows_that_are_not_true_fail() -> None:
    assert not problem(checks.sql(Told(sql=[["t", "17.2"]]), {"query": "q"}))
    assert "13.1" in problem(checks.sql(Told(sql=[["t", "17"], ["f", "13.1"]]), {"query": "q"}))
    with pytest.raises(model.Failed, match="no row"):
        checks.sql(Told(sql=[]), {"query": "q"})


def test_indexes() -> None:
    rows = [["logs", "app_id,created_at", "logs_app", "t"], ["users", "id", "users_pkey", "t"]]
    wanted = [{"table": "logs", "columns": ["app_id"]}]
    assert not problem(checks.indexes(Told(sql=rows), {"wanted": wanted}))
    wanted.append({"table": "logs", "columns": ["created_at"]})
    assert "logs (created_at)" in problem(checks.indexes(Told(sql=rows), {"wanted": wanted}))
    rows[0][3] = "f"
    assert "invalid: logs_app" in problem(checks.indexes(Told(sql=rows), {"wanted": []}))


class FakeRedis:
    address = "127.0.0.1:6379"

    def __init__(self, **info: str) -> None:
        self.told = {"redis_version": "8.0.2", "uptime_in_days": "3", **info}

    def info(self, *_sections: str) -> dict[str, str]:
        return self.told

    def settings(self) -> dict[str, str]:
        return {"appendonly": "yes"}

    def call(self, *words: str) -> Any:
        return "PONG" if words == ("PING",) else ""

    def close(self) -> None:
        pass


def test_redis() -> None:
    told = Told(redis={"main": FakeRedis(keyspace_hits="0", keyspace_misses="9")})
    assert not problem(checks.redis(told, {"ping": True, "settings": {"appendonly": "yes"}}))
    assert "keyspace_hits is 0" in problem(checks.redis(told, {"info": {"keyspace_hits": "> 0"}}))
    assert "unknown" in problem(checks.redis(told, {"info": {"no_such": "> 0"}}))
    assert "appendonly is 'yes'" in problem(checks.redis(told, {"settings": {"appendonly": "no"}}))
    with pytest.raises(model.Failed, match="no server 'cache'"):
        checks.redis(told, {"server": "cache"})
    assert "prove nothing" in problem(checks.hit_ratio(told, {"reads": 10, "percent": "> 70"}))
    assert "0.0 %" in checks.hit_ratio(told, {"reads": 9, "percent": "> 70"})[0].said


SITE = {"host_header": "shop.example", "site_url": "http://127.0.0.1", "scheme": "http",
        "app_listen": "/run/shop.sock"}  # fmt: skip


def test_answers_over_http() -> None:
    answer = Answer(200, {"X-Frame-Options": "DENY", "Content-Type": "application/json"},
                    json.dumps({"items": [1, 2, 3]}).encode())  # fmt: skip
    told = Told(SITE, http=answer)
    assert not problem(checks.http(told, {"path": "/", "headers": {"x-frame-options": "DENY"}}))
    assert "status 200" in problem(checks.http(told, {"path": "/", "status": [301]}))
    assert "is missing" in problem(checks.http(told, {"headers": {"Referrer-Policy": "."}}))
    assert "nothing like" in problem(checks.http(told, {"body": "healthy"}))
    assert "3 rows" in problem(checks.http(told, {"items_at_most": 2}))
    assert "no JSON" in problem(checks.http(told, {"items_at_most": 2, "items": "rows"}))


def test_compression() -> None:
    long = {"Content-Type": "text/html"}
    plain = Told(SITE, http=Answer(200, long, b"x" * 2000))
    assert "not compressed" in problem(checks.compressed(plain, {"path": "/"}))
    packed = Told(SITE, http=Answer(200, {**long, "Content-Encoding": "gzip"}, b"x"))
    assert not problem(checks.compressed(packed, {"path": "/"}))
    with pytest.raises(model.Undecided, match="1024"):
        checks.compressed(Told(SITE, http=Answer(200, long, b"x")), {"path": "/"})


def test_an_entry_is_left_to_people_only_where_it_says_why() -> None:
    ask = {"check": "smoke", "checks": [], "path": "."}
    told = runner_on(Told(SITE), [entry(**ask), {**entry(**ask), "person": "It is so."}])
    assert [one["state"] for one in told] == ["failed", "people"]
    assert told[1]["reason"].endswith("It is so.")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("daily\nrotate 14\n")
    path.chmod(0o640)
    owner = path.owner()
    good = {"paths": [str(path)], "mode": "0640", "owner": owner, "contains": ["^rotate 14"]}
    assert not problem(checks.files(Told(), good))
    assert "wider than 0600" in problem(checks.files(Told(), {**good, "mode": "0600"}))
    assert "belongs to" in problem(checks.files(Told(), {**good, "owner": "nobody-else"}))
    assert "nothing like ^weekly" in problem(checks.files(Told(), {**good, "contains": "^weekly"}))
    assert "is not there" in problem(checks.files(Told(), {"paths": [f"{path}.*"]}))


def test_the_environment_is_told_without_its_values(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    path.write_text('DATABASE_URL="postgresql://shop:s3cret-password@db.example:5432/shop"\n')
    path.chmod(0o600)
    told = Told({"environment_file": str(path)})
    found = checks.environment(told, {"names": {"DATABASE_URL": "^postgresql://"}})
    assert not problem(found) and "db.example:5432" in found[0].said
    assert "s3cret" not in found[0].said
    assert "REDIS_URL is not set" in problem(checks.environment(told, {"names": {"REDIS_URL": ""}}))
    path.chmod(0o644)
    assert "readable by others" in problem(checks.environment(told, {"names": {}}))


def test_environment_files_are_read_as_systemd_does() -> None:
    assert environment_of('# no\nA="b c"\nB=d\n\nC="x\\"y"\n') == {"A": "b c", "B": "d", "C": 'x"y'}


def test_evidence_has_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    path.write_text("SECRET_KEY=a-very-secret-key\nURL=redis://:hunter22@h/0\nDB_POOL_SIZE=5\n")
    host = Host({"environment_file": str(path)})
    text = host.clean("a-very-secret-key redis://x:y@h hunter22 size 5")
    assert text == "*** redis://x:***@h *** size 5"


LOAD = {
    "profile": {"users": 5},
    "figures": {"requests": 50, "failed": 0, "success_percent": 100.0, "p50": 9.0, "p95": 80.0,
                "endpoints": {"/auth/login": {"requests": 5, "failed": 1}}},
    "samples": {"a": [{"cpu_percent": 40.0, "connections": 95, "max_connections": 100}]},
}  # fmt: skip


def test_load_tests(tmp_path: Path) -> None:
    told = Told({"load_folder": str(tmp_path), "load_targets": {"p95_ms": 300, "p50_ms": 5,
                 "success_percent": 99}, "load_steps": [{"path": "/auth/login"}]})  # fmt: skip
    with pytest.raises(model.Failed, match="no such load test"):
        checks.load_test(told, {})
    with pytest.raises(model.Undecided):
        checks.load_test(told, {"optional": True})
    path = tmp_path / "light-20261122T184700Z.json"
    path.write_text(json.dumps(LOAD))
    assert not problem(checks.load_test(told, {"targets": ["p95_ms", "success_percent"]}))
    assert "p50_ms was 9, wanted < 5" in problem(checks.load_test(told, {"targets": ["p50_ms"]}))
    assert "hits was not measured" in problem(checks.load_test(told, {"samples": ["hits"]}))
    assert "95 %" in problem(checks.load_test(told, {"connections_percent": 90}))
    assert "1000 users" in problem(checks.load_test(told, {"users": 1000}))
    assert "failed: /auth/login" in problem(checks.load_step(told, {"match": "login"}))
    with pytest.raises(model.Undecided):
        checks.load_step(told, {"match": "register"})
    os.utime(path, (0, time.time() - 40 * 86400))
    with pytest.raises(model.Failed, match="40 days"):
        checks.load_test(told, {"days": 30})


RULES = {"data": {"groups": [{"rules": [
    {"name": "HostCpuHigh", "query": "cpu > 80", "health": "ok", "state": "inactive"},
    {"name": "HostMemoryHigh", "query": "memory > 80", "health": "err", "lastError": "many to one"},
]}]}}  # fmt: skip


def test_alerts() -> None:
    told = Told({"prometheus_url": "http://127.0.0.1:9090"},
                http=Answer(200, {}, json.dumps(RULES).encode()))  # fmt: skip
    assert not problem(checks.alerts(told, {"match": "Cpu", "bound": "> 80"}))
    assert "threshold" in problem(checks.alerts(told, {"match": "Cpu", "bound": "> 70"}))
    assert "many to one" in problem(checks.alerts(told, {"match": "Memory"}))
    with pytest.raises(model.Failed, match="no alert like Disk"):
        checks.alerts(told, {"match": "Disk"})


def test_metrics() -> None:
    told = Told(http=Answer(200, {}, b'# TYPE a gauge\nnode_load1 0.5\nb{c="d"} 1\n'))
    params = {"url": "http://127.0.0.1:9100/metrics", "names": ["node_load1", "b"]}
    assert not problem(checks.metrics(told, params))
    assert "no figure a" in problem(checks.metrics(told, {**params, "names": ["a"]}))


def test_ports() -> None:
    text = "LISTEN 0 4096 127.0.0.1:5432 0.0.0.0:*\nLISTEN 0 511 *:80 *:*\n"
    told = Told(run={"ss": text})
    assert not problem(checks.listening(told, {"ports": [5432], "closed": True}))
    assert "every address" in problem(checks.listening(told, {"ports": [80], "closed": True}))
    assert "nothing listens on 443" in problem(checks.listening(told, {"ports": [80, 443]}))


def test_a_command_is_run_as_nobody_unless_it_says_otherwise() -> None:
    users = []

    class Noting(Told):
        def run(self, argv, stdin="", user="", extra=None):
            users.append(user)
            return 0, "yes", ""

    for given in ({}, {"user": "root"}, {"user": "www-data"}):
        assert not problem(checks.command(Noting(), {"argv": ["x"], "output": "yes", **given}))
    assert users == ["nobody", "", "www-data"]


# The report


def result(state: str, reason: str = "", said: str = "17.2") -> dict[str, Any]:
    return {"id": "p1.01", "state": state, "reason": reason, "when": "2026-11-22T18:00:00Z",
            "seconds": 0.1, "evidence": [{"asked": "SELECT <1>", "said": said}]}  # fmt: skip


ABOUT = {"application": "shop", "release": "r1", "when": "now", "url": "http://x",
         "contexts": {"a": {"application": "shop"}}}  # fmt: skip
ONE = [{"id": "p1.01", "phase": 1, "text": "A <b>.", "hosts": "app", "source": "1, X",
        "advice": "Mend {application}.", "checks": [{"check": "given"}]}]  # fmt: skip


def merged(hosts: list[str], told: dict[str, Any], **more: Any) -> dict[str, Any]:
    return report.merge(
        ONE, {"app": hosts}, {name: [one] for name, one in told.items()},
        more.get("sign_offs", {}), more.get("not_applicable", {}), ABOUT,
    )  # fmt: skip


def test_an_entry_is_proved_only_on_every_host() -> None:
    both = merged(["a", "b"], {"a": result("proved"), "b": result("proved")})
    assert both["entries"][0]["state"] == "proved"
    one = merged(["a", "b"], {"a": result("proved"), "b": result("failed", "away")})
    assert (one["entries"][0]["state"], one["entries"][0]["reason"]) == ("failed", "b: away")
    silent = merged(["a", "b"], {"a": result("proved")})
    assert "no answer" in silent["entries"][0]["reason"]
    people = report.merge(
        [{**ONE[0], "checks": [], "person": "So."}], {"app": ["a"]}, {}, {}, {}, ABOUT
    )
    assert (people["entries"][0]["state"], people["entries"][0]["reason"]) == ("people", "So.")
    nobody = merged([], {})
    assert nobody["entries"][0]["state"] == "not_applicable"
    partly = merged(["a", "b"], {"a": result("proved"), "b": result("not_applicable", "no TLS")})
    assert partly["entries"][0]["state"] == "proved"


def test_what_the_inventory_says_of_an_entry() -> None:
    told = merged(["a"], {"a": result("failed", "x")}, not_applicable={"p1.01": "elsewhere"})
    assert "elsewhere (said by the inventory)" in told["entries"][0]["reason"]
    signed = merged(["a"], {"a": result("people", "x")}, sign_offs={"p1.01": "Ada"})
    assert signed["counts"]["signed"] == 1 and "Ada" in report.page(signed)
    # A signature doesn't make a failed check a proved one.
    failed = merged(["a"], {"a": result("failed", "x")}, sign_offs={"p1.01": "Ada"})
    assert failed["counts"]["signed"] == 0 and failed["counts"]["failed"] == 1


class Whole(HTMLParser):
    """Every element is closed, and nothing is fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)
        self.outside += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone() -> None:
    told = merged(["a"], {"a": result("failed", "<script>", said="&<>")})
    page = report.page(told)
    parser = Whole()
    parser.feed(page)
    parser.close()
    assert not parser.open and not parser.outside
    assert "<script" not in page and "url(" not in page and "@import" not in page
    assert "&lt;script&gt;" in page and "Mend shop." in page


def test_the_lines_of_a_terminal() -> None:
    told = merged(["a"], {"a": result("failed", "it is away")})
    assert report.failed_lines(told) == ["p1.01 A <b>: it is away. Mend shop."]
    assert report.count_line(told).startswith("0 proved, 1 failed, 0 for people (0 signed)")
    assert "- [ ] `p1.01` A &lt;b>. **failed**: it is away" in report.markdown(told)
