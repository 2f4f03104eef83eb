# SPDX-License-Identifier: GPL-3.0-or-later
# The faults are shell, a line each.
# ruff: noqa: E501
"""Each automatic entry of the checklist is broken once on the real site, seen to fail, mended, and
seen to be proved again. An entry that nothing here breaks fails the test."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from browser import Browser
from playbook_run import EPHEMERAL, ROOT, play

pytestmark = pytest.mark.units(
    "live-dashboard@a.service", "nginx.service", "postgresql@17-main.service", "prometheus.service"
)

UTILS = ROOT / "plugins" / "module_utils"
CATALOGUE = yaml.safe_load((ROOT / "playbooks/vars/checklist.yml").read_text())[
    "__webstack_checklist"
]
AUTOMATIC = [one["id"] for one in CATALOGUE if one.get("checks")]
PLACE = "/tmp/golive-checklist"
KEPT = f"{PLACE}/kept"
LOADS = "/var/lib/golive/live-dashboard/load_tests"
JOBS = "/var/lib/golive/backup/jobs"
ENVIRONMENT = "/etc/live-dashboard/slots/live/environment"
ERRORS = "/var/log/gunicorn/live_dashboard_error.log"
ACCESS = "/var/log/nginx/live_dashboard_access.log"
PSQL = "runuser -u postgres -- psql -XAtq -d live_validation_dashboard -c "
VISIT = f"python3 {PLACE}/visit.py"
VISITOR = """
import sys, time, urllib.request
end = time.time() + 20
for path in ["/api/apps", "/api/stats", "/api/apps"] * int((sys.argv + ["1"])[1]):
    while True:
        try:
            urllib.request.urlopen("http://127.0.0.1" + path, timeout=5).read()
            break
        except OSError:
            if time.time() > end:
                raise
            time.sleep(0.3)
"""
SYSTEM = "runuser -u postgres -- psql -XAtq -c 'ALTER SYSTEM {}' -c 'SELECT pg_reload_conf()'"


@dataclass
class Fault:
    """Shell that breaks and mends, and the entries that have to see it."""

    entries: str
    breaks: str
    mends: str
    # What those entries need to be told of a host that has what this one has not.
    context: dict[str, Any] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)
    prepares: str = "true"
    ends: str = "true"
    broken: str = "failed"


def changed(path: str, script: str) -> dict[str, str]:
    """A file with another content for a while; its times come back too."""
    kept = f"{KEPT}/{path.replace('/', '_')}"
    return {"breaks": f"cp -p $(realpath {path}) {kept} && {script}",
            "mends": f"cp -p {kept} $(realpath {path})"}  # fmt: skip


def unit(name: str) -> str:
    kind = name.rpartition(".")[2]
    body = "[Timer]\nOnCalendar=yearly\nUnit=golive-stand-in.service\n[Install]\nWantedBy=timers.target"
    if kind == "service":
        body = "[Service]\nExecStart=/bin/sleep 600\n[Install]\nWantedBy=multi-user.target"
    return f"printf '%s\\n' '{body}' >/etc/systemd/system/{name}; systemctl daemon-reload;"


def stand_in(name: str) -> dict[str, str]:
    remove = f"systemctl disable -q --now {name}; rm /etc/systemd/system/{name}"
    return {
        "prepares": f"{unit('golive-stand-in.service')} {unit(name)} systemctl enable -q --now {name}",
        "breaks": f"systemctl stop {name}", "mends": f"systemctl start {name}",
        "ends": f"{remove}; rm -f /etc/systemd/system/golive-stand-in.service; systemctl daemon-reload",
    }  # fmt: skip


REDIS = (
    "redis() { python3 -c \"import json; one = json.load(open('/etc/golive/redis/access.json'))[0];"
    " print('AUTH', one['user'], one['password'])\" >{p}/redis; echo \"$*\" >>{p}/redis;"
    " redis-cli <{p}/redis; rm {p}/redis; }; redis "
).replace("{p}", PLACE)
# Made of the newest run, as a run of another day.
LOAD = f"""python3 -c "
import glob, json, os, sys
newest = max(glob.glob('{LOADS}/light-*.json'), key=os.path.getmtime)
run = json.load(open(newest))
{{}}
json.dump(run, open('{LOADS}/' + sys.argv[1], 'w'))" """
SERVE = (
    f"cd {PLACE}; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout k -out c"
    " -subj /CN=shop.example -addext subjectAltName=DNS:shop.example -days {days} 2>/dev/null;"
    " systemctl stop golive-tls 2>/dev/null; systemd-run -q --unit golive-tls -p WorkingDirectory="
    f"{PLACE} openssl s_server -accept 18443 -cert c -key k -quiet"
)

FAULTS: dict[str, Fault] = {
    # Before all others, as those leave errors in the log.
    "visitors get errors": Fault(
        "op4.03",
        f"stat -c %s {ACCESS} >{KEPT}/size; tail -1 {ACCESS} | sed 's/\" 200 /\" 500 /' >{PLACE}/line;"
        f" for n in $(seq 20); do cat {PLACE}/line; done >>{ACCESS}",
        f"truncate -s $(cat {KEPT}/size) {ACCESS}",
        prepares=f"cp -p {ACCESS} {KEPT}/access; : >{ACCESS}; {VISIT} 30",
        ends=f"cat {ACCESS} >>{KEPT}/access; cat {KEPT}/access >{ACCESS}",
    ),
    "PostgreSQL is stopped": Fault(
        "p1.01 op1.01 op1.02 op1.03 op1.04", "systemctl stop postgresql@17-main",
        f"systemctl start postgresql@17-main; {VISIT}",
    ),
    "a setting waits for a restart": Fault(
        "p1.02", SYSTEM.format("SET max_connections = 299"), SYSTEM.format("RESET max_connections")
    ),
    "the role may make databases": Fault(
        "p1.03", PSQL + "'ALTER ROLE dashboard_user CREATEDB'",
        PSQL + "'ALTER ROLE dashboard_user NOCREATEDB'",
    ),
    "the environment is empty": Fault("p1.04 p1.08 p2.03", **changed(ENVIRONMENT, f": >{ENVIRONMENT}")),
    "nothing is known of the move": Fault(
        "p1.05", PSQL + "'ALTER TABLE golive_webstack.migration RENAME TO away'",
        PSQL + "'ALTER TABLE golive_webstack.away RENAME TO migration'",
    ),
    "the move was never compared": Fault(
        "p1.06", PSQL + "'CREATE TABLE public.kept AS SELECT id, verified_at FROM golive_webstack.migration'"
        " -c 'UPDATE golive_webstack.migration SET verified_at = NULL'",
        PSQL + "'UPDATE golive_webstack.migration m SET verified_at = k.verified_at FROM public.kept k"
        " WHERE k.id = m.id' -c 'DROP TABLE public.kept'",
    ),
    "an index is gone": Fault(
        "p1.07 p5.01",
        PSQL + "\"SELECT indexdef FROM pg_indexes WHERE tablename = 'log_entries' AND indexdef ~ '[(]level'"
        f"\" >{PLACE}/index.sql; " + PSQL + '"DO \\$\\$ DECLARE i text; BEGIN FOR i IN SELECT indexname FROM'
        " pg_indexes WHERE tablename = 'log_entries' AND indexdef ~ '[(]level' LOOP EXECUTE format('DROP"
        " INDEX %I', i); END LOOP; END \\$\\$\"",
        f"sed 's/$/;/' {PLACE}/index.sql | runuser -u postgres -- psql -XAtq -d live_validation_dashboard",
    ),
    "statements are not measured": Fault(
        "p5.02", PSQL + "'DROP EXTENSION pg_stat_statements'", PSQL + "'CREATE EXTENSION pg_stat_statements'"
    ),
    "slow statements are not logged": Fault(
        "p5.09", SYSTEM.format("SET log_min_duration_statement = -1"),
        SYSTEM.format("RESET log_min_duration_statement"),
    ),
    "Redis is stopped": Fault(
        "p2.01 p2.02 p7.13 op2.01 op2.02", "systemctl stop redis-server",
        f"systemctl start redis-server; {VISIT}",
    ),
    "Redis takes what it likes": Fault(
        "p2.05", REDIS + "CONFIG SET maxmemory-policy allkeys-lru",
        REDIS + "CONFIG SET maxmemory-policy volatile-lru",
    ),
    "the cache answers nothing": Fault("p2.06", REDIS + "CONFIG RESETSTAT", VISIT),
    "the application is stopped": Fault(
        "p1.09 p2.04 p3.03 p3.04 p4.06 p5.12 p7.14 p8.09 p8.11 p8.15 p8.16",
        "systemctl stop live-dashboard.socket live-dashboard.service 'live-dashboard@*'",
        f"systemctl start live-dashboard.socket live-dashboard.service; {VISIT}",
    ),
    "Gunicorn is not in the release": Fault(
        "p3.01", "cd /srv/live-dashboard/slots/live/.venv/lib/python3*/site-packages; mv gunicorn away",
        "cd /srv/live-dashboard/slots/live/.venv/lib/python3*/site-packages; mv away gunicorn",
    ),
    "Gunicorn's file has no workers": Fault(
        "p3.02", **changed("/etc/live-dashboard/slots/live/gunicorn.conf.py",
                           "sed -i s/^workers/threads/ /etc/live-dashboard/slots/live/gunicorn.conf.py"),
    ),
    "no server got a request": Fault("p3.05", **changed(ACCESS, f": >{ACCESS}")),
    "nginx is stopped": Fault(
        "p4.01 p4.02 p5.11 p7.15 p8.04 op4.01", "systemctl stop nginx", "systemctl start nginx"
    ),
    "the site is switched off": Fault(
        "p4.03 p4.08 p6.05 op4.04", f"mv /etc/nginx/sites-enabled/live-dashboard* {KEPT}",
        f"mv {KEPT}/live-dashboard* /etc/nginx/sites-enabled/",
    ),
    "nginx's files are wrong": Fault(
        "p4.04", "echo 'no_such_thing;' >/etc/nginx/conf.d/broken.conf", "rm /etc/nginx/conf.d/broken.conf"
    ),
    "nginx has older files": Fault(
        "p4.05", "sleep 2; touch /etc/nginx/nginx.conf",
        "systemctl reload nginx; for n in $(seq 40); do pgrep -f 'worker process is shutting' || break;"
        " sleep 0.5; done",
    ),
    "compression is off": Fault(
        "p4.07", **changed("/etc/nginx/nginx.conf", "sed -i 's/gzip on;/gzip off;/' /etc/nginx/nginx.conf")
    ),
    "the exporter is stopped": Fault(
        "p6.01 p8.10 op6.01", "systemctl stop prometheus-node-exporter", "systemctl start prometheus-node-exporter"
    ),
    "nobody asks for the health": Fault(
        "p6.04", "systemctl stop golive-health.timer", "systemctl start golive-health.timer"
    ),
    "the journal is not to be seen": Fault(
        "p6.03", "for d in /run/log/journal /var/log/journal; do [ ! -d $d ] || mount -t tmpfs none $d; done",
        "for d in /run/log/journal /var/log/journal; do ! mountpoint -q $d || umount $d; done",
    ),
    "errors are for everybody": Fault("p6.06", f"chmod o+r {ERRORS}", f"chmod o-r {ERRORS}"),
    "a worker hung": Fault(
        "op3.03", f"stat -c %s {ERRORS} >{KEPT}/size; echo '[1] [CRITICAL] WORKER TIMEOUT (pid:1)' >>{ERRORS}",
        f"truncate -s $(cat {KEPT}/size) {ERRORS}",
    ),
    "logs are kept for longer": Fault(
        "p6.07", **changed("/etc/logrotate.d/nginx", "sed -i 's/rotate 14/rotate 15/' /etc/logrotate.d/nginx")
    ),
    "Prometheus is stopped": Fault(
        "p2.07 p6.02 p8.18 p8.19 p8.20 p8.21 p8.22 op6.04 op6.05", "systemctl stop prometheus",
        "systemctl start prometheus",
    ),
    "locust is gone": Fault(
        "p7.01", "mv /opt/golive/load_test/venv /opt/golive/load_test/away",
        "mv /opt/golive/load_test/away /opt/golive/load_test/venv",
    ),
    "a load test was bad": Fault(
        "p7.02 p7.03 p7.06 p7.07 p7.08 p7.09 p7.10 p7.11 p7.12 p8.03 p8.12 p8.13 p8.14 p8.17",
        "sleep 0.1; " + LOAD.format(
            "run['figures'].update(p50=1e9, p95=1e9, p99=1e9, mean=1e9, success_percent=50.0)\n"
            "for one in run['figures']['endpoints'].values(): one['failed'] = one['requests']\n"
            "run['samples'] = {'a': [{'connections': 100, 'max_connections': 100}]}"
        ) + "light-20991231T000000Z.json",
        f"rm {LOADS}/light-20991231T000000Z.json",
        context={"load_steps": [{"path": "/auth/login"}, {"path": "/auth/register"}, {"path": "/auth/otp"}]},
        prepares=LOAD.format(
            "one = dict(next(iter(run['figures']['endpoints'].values())))\n"
            "run['figures']['endpoints'].update({'/auth/register': one, '/auth/otp': one})"
        ) + "light-20981231T000000Z.json",
        ends=f"rm {LOADS}/light-20981231T000000Z.json",
    ),
    "no larger load was borne": Fault(
        "p7.04 p7.05", f"mv {LOADS}/medium-2097*.json {LOADS}/heavy-2097*.json {KEPT}",
        f"mv {KEPT}/*-2097*.json {LOADS}",
        prepares="".join(LOAD.format("") + f"{name}-20971231T000000Z.json; " for name in ("medium", "heavy")),
        ends=f"rm {LOADS}/*-2097*.json",
    ),
    "a thousand users never came": Fault(
        "op7.01", f"mv {LOADS}/users_1000-*.json {KEPT}", f"mv {KEPT}/users_1000-*.json {LOADS}",
        prepares=LOAD.format("run['profile']['users'] = 1000") + "users_1000-20971231T000000Z.json",
        ends=f"rm {LOADS}/users_1000-*.json", broken="people",
    ),
    "a secret is in the release": Fault(
        "p8.05", "cp /etc/golive/live-dashboard/secrets/secret_key /srv/live-dashboard/slots/live/leak.txt",
        "rm /srv/live-dashboard/slots/live/leak.txt",
    ),
    "jobs failed": Fault(
        "p8.06 op8.01 op8.02", f"mv {JOBS} {KEPT}/jobs; mkdir {JOBS}; mv /var/lib/golive/backup/files.json {KEPT};"
        " echo '{\"local\": {\"success\": 0, \"error\": \"full\", \"last_success\": 5}}' >/var/lib/golive/backup/files.json",
        f"rmdir {JOBS}; mv {KEPT}/jobs {JOBS}; mv {KEPT}/files.json /var/lib/golive/backup/files.json",
    ),
    "a restore did not pass": Fault(
        "p8.07", "cd /var/lib/golive/backup/drills; newest=$(ls -t | head -1); sleep 0.1;"
        " sed 's/\"passed\"/\"a table differs\"/' $newest >golive-test.json",
        "rm /var/lib/golive/backup/drills/golive-test.json",
    ),
    "the certificate ends": Fault(
        "p8.08", SERVE.replace("{days}", "3"), SERVE.replace("{days}", "90"),
        context={"tls": True, "site_url": "https://127.0.0.1:18443", "host_header": "shop.example",
                 "domain": "shop.example"},
        prepares=SERVE.replace("{days}", "90"), ends="systemctl stop golive-tls",
    ),
    "nothing is known of the release": Fault(
        "op3.01 op3.02", f"mv /srv/live-dashboard/history.jsonl {KEPT}",
        f"mv {KEPT}/history.jsonl /srv/live-dashboard/",
        prepares="mkdir /srv/live-dashboard/releases/golive-test; echo '{\"id\": \"golive-test\", \"good\": true}'"
        " >/srv/live-dashboard/releases/golive-test/.golive-release",
        ends="rm -r /srv/live-dashboard/releases/golive-test",
    ),
    "the queue stands still": Fault(
        "op3.04", context={"celery": True, "celery_units": ["live-dashboard-worker.service"]},
        **stand_in("live-dashboard-worker.service"),
    ),
    "nobody renews certificates": Fault("op4.02", context={"acme": True}, **stand_in("certbot.timer")),
    "there is less room than is wanted": Fault("op6.02", "true", "true", entry={"percent": 101}),
    "the package lists are old": Fault(
        "op6.03", "find /var/lib/apt/lists -exec touch -d '90 days ago' {} +",
        "find /var/lib/apt/lists -exec touch {} +",
    ),
    "there is no second place": Fault(
        "op8.03", f"cp -p {KEPT}/pgbackrest.conf /etc/pgbackrest/pgbackrest.conf",
        "printf '[golive-test]\\nrepo2-s3-endpoint=s3.example\\n' >>/etc/pgbackrest/pgbackrest.conf",
        context={"backup_s3": True},
        prepares=f"cp -p /etc/pgbackrest/pgbackrest.conf {KEPT}; printf '[golive-test]\\nrepo2-s3-endpoint=s3.example\\n'"
        " >>/etc/pgbackrest/pgbackrest.conf",
        ends=f"cp -p {KEPT}/pgbackrest.conf /etc/pgbackrest/pgbackrest.conf",
    ),
}  # fmt: skip
Look = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def look(host) -> Iterator[Look]:
    """Runs entries on the host by the plain Python that the module runs, without a playbook."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in [*sorted((UTILS / "checklist").glob("*.py")),
                     *(UTILS / name for name in ("redis_server.py", "config_files.py", "request_stats.py"))]:  # fmt: skip
            inside = path.relative_to(ROOT / "plugins")
            archive.add(path, f"ansible_collections/golive/webstack/plugins/{inside}")
    content = base64.b64encode(packed.getvalue()).decode()
    host.check_output(
        f"rm -rf {PLACE} && mkdir -p {KEPT} && echo {content} | base64 -d | tar xz -C {PLACE}"
    )
    host.check_output(f"cat >{PLACE}/visit.py <<'END'\n{VISITOR}\nEND")
    document = json.loads((EPHEMERAL / "report_checklist.json").read_text())
    (context,) = document["contexts"].values()

    def looks(ids: list[str], more: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
        entries = [dict(one) for one in CATALOGUE if one["id"] in ids]
        for one in entries:
            one["checks"] = [{**check, **wanted} for check in one["checks"]]
        given = json.dumps({"entries": entries, "context": {**context, **more}})
        coded = base64.b64encode(given.encode()).decode()
        told = host.check_output(
            f"cd {PLACE} && echo {coded} | base64 -d >given.json && PYTHONDONTWRITEBYTECODE=1 python3 -m"
            " ansible_collections.golive.webstack.plugins.module_utils.checklist.runner given.json"
        )
        return {one["id"]: one for one in json.loads(told)}

    yield looks
    host.check_output(f"rm -rf {PLACE}")


@pytest.fixture(scope="module")
def seen(host, look: Look) -> Callable[[str], dict[str, dict[str, Any]]]:
    """For each entry of a fault what was told before, while it was broken, and after."""
    known: dict[str, dict[str, dict[str, Any]]] = {}

    def proved(ids: list[str], fault: Fault, tries: int) -> dict[str, Any]:
        for _ in range(tries):
            told = look(ids, fault.context, {})
            if all(one["state"] == "proved" for one in told.values()):
                break
            time.sleep(1)
        return told

    def sees(name: str) -> dict[str, dict[str, Any]]:
        if name not in known:
            fault = FAULTS[name]
            ids = fault.entries.split()
            known[name] = {}
            host.check_output(fault.prepares)
            try:
                before = proved(ids, fault, 25)
                try:
                    host.check_output(fault.breaks)
                    broken = look(ids, fault.context, fault.entry)
                finally:
                    host.check_output(fault.mends)
                after = proved(ids, fault, 30)
            finally:
                host.check_output(fault.ends)
            known[name] = {"before": before, "broken": broken, "after": after}
        return known[name]

    return sees


def by_fault() -> list[str]:
    """The entries in the order of the faults, and those that nothing breaks."""
    broken = [one for fault in FAULTS.values() for one in fault.entries.split()]
    return broken + [one for one in AUTOMATIC if one not in broken]


@pytest.mark.parametrize("entry", by_fault())
def test_each_entry_sees_what_is_broken(entry: str, seen) -> None:
    faults = [name for name, fault in FAULTS.items() if entry in fault.entries.split()]
    assert faults, f"nothing here breaks {entry}"
    assert entry in AUTOMATIC
    for name in faults:
        told = {when: results[entry] for when, results in seen(name).items()}
        assert told, f"'{name}' could not be tried: the first entry of it says why"
        assert told["before"]["state"] == "proved", told["before"]
        assert told["before"]["evidence"] and told["before"]["when"].endswith("Z")
        assert told["broken"]["state"] == FAULTS[name].broken, (name, told["broken"])
        assert told["broken"]["reason"]
        assert told["after"]["state"] == "proved", told["after"]


def test_no_secret_is_in_the_evidence(host) -> None:
    texts = [
        (EPHEMERAL / f"report_checklist.{ending}").read_text() for ending in ("json", "md", "html")
    ]
    secrets = host.check_output(
        "cat /etc/golive/live-dashboard/secrets/* /etc/golive/backup/secrets/* 2>/dev/null"
    ).split()
    assert len(secrets) >= 3
    assert not [secret for secret in secrets if any(secret in text for text in texts)]


def test_verify_tells_and_fails_and_changes_nothing(host) -> None:
    folder = host.file("/srv/live-dashboard/checklists")
    assert (folder.mode, folder.user) == (0o700, "root")
    before = len(host.check_output(f"ls {folder.path}").split())
    given = {
        "webstack_verify_phases": [1, 8],
        "webstack_sign_offs": {"p8.02": {"name": "Ada L.", "date": "2026-11-22"}},
        "webstack_checks_not_applicable": {"p8.13": "nobody gets a code here"},
        "webstack_checks_extra": [
            {"id": "own.wrong", "phase": 8, "text": "A thing of our own.", "hosts": "app",
             "checks": [{"check": "command", "argv": ["id", "-un"], "output": "^root$"}]},
            {"id": "p8.01", "checks": [{"check": "command", "argv": ["true"]}]},
        ],
    }  # fmt: skip
    code, output = play(
        "verify", "-e", json.dumps(given), "-e", f"webstack_report_file={EPHEMERAL}/verified.json"
    )
    assert code != 0
    assert "own.wrong A thing of our own: its output has nothing like ^root$: nobody" in output
    assert "changed=0" in output and "changed=1" not in output
    told = json.loads((EPHEMERAL / "verified_checklist.json").read_text())
    state = {one["id"]: one["state"] for one in told["entries"]}
    assert {one.split(".")[0] for one in state} == {"p1", "p8", "op1", "op8", "own"}
    assert (state["p8.01"], state["p8.02"], state["p8.13"]) == (
        "proved",
        "people",
        "not_applicable",
    )
    assert [one["id"] for one in told["entries"] if one["signed"]] == ["p8.02"]
    assert len(host.check_output(f"ls {folder.path}").split()) == before + 3


def test_the_page_in_a_browser() -> None:
    document = json.loads((EPHEMERAL / "report_checklist.json").read_text())
    with Browser() as browser:
        browser.open(f"file://{EPHEMERAL}/report_checklist.html")
        count = "[...document.querySelectorAll('article')].filter(a => a.offsetParent).length"
        assert browser.run(count) == len(CATALOGUE)
        assert browser.run("document.getElementById('counts').innerText").startswith(
            f"{document['counts']['proved']} proved"
        )
        for state in ("proved", "people"):
            browser.run(f"document.getElementById('show-{state}').click()")
            assert browser.run(count) == document["counts"][state]
        # On a telephone nothing runs over the edge.
        browser._ask("Emulation.setDeviceMetricsOverride", width=390, height=800,
                     deviceScaleFactor=1, mobile=True)  # fmt: skip
        assert browser.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.complaints == []
