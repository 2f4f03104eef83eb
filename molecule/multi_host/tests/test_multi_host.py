# SPDX-License-Identifier: GPL-3.0-or-later
"""Six hosts: they work together, and each lets in only those that it must."""

from __future__ import annotations

import pytest
from visitor import Visitor

testinfra_hosts = ["docker://mh-proxy"]
pytestmark = pytest.mark.units(
    "live-dashboard.service",
    "live-dashboard@a.service",
    "live-dashboard@b.service",
    "nginx.service",
)


def other(host, name):
    return host.get_host(f"docker://{name}")


def address(host, name):
    return other(host, name).check_output("hostname -I").split()[0]


@pytest.fixture
def visitor(host):
    return Visitor(address(host, "mh-proxy"))


def test_the_site_serves_the_migrated_rows_through_the_proxy(visitor):
    assert visitor.json("/health")["status"] == "healthy"
    assert visitor.json("/api/stats")["counts"]["log_entries"] == 3000


def test_a_login_holds_across_both_application_hosts(visitor):
    visitor.log_in()
    for _ in range(10):
        assert visitor.json("/api/logs?limit=1")["items"]


def test_both_hosts_run_the_same_release(host):
    links = {
        other(host, name).check_output("readlink /srv/live-dashboard/current")
        for name in ("mh-app1", "mh-app2")
    }
    assert len(links) == 1


def test_one_application_host_may_go_away(host, visitor):
    app = other(host, "mh-app1")
    app.check_output("systemctl stop live-dashboard.socket live-dashboard.service")
    try:
        answers = [visitor.get("/health")[0] for _ in range(20)]
    finally:
        app.check_output("systemctl start live-dashboard.socket live-dashboard.service")
    assert answers == [200] * 20


def connect(host, name, target, port):
    """What a TCP client on one host sees of another: the first bytes, or the error."""
    script = (
        "import socket,sys\n"
        "s=socket.create_connection((sys.argv[1],int(sys.argv[2])),5)\n"
        "s.sendall(b'PING\\r\\n'); print(s.recv(200))"
    )
    return other(host, name).run("python3 -c %s %s %s", script, address(host, target), str(port))


def test_redis_answers_only_with_the_password(host):
    assert "NOAUTH" in connect(host, "mh-mon", "mh-cache", 6379).stdout


def test_postgres_lets_in_the_application_hosts_only(host):
    script = (
        "import psycopg2,sys\n"
        "try: psycopg2.connect(host=sys.argv[1],dbname='live_validation_dashboard',"
        "user='dashboard_user',password='wrong')\n"
        "except psycopg2.OperationalError as error: print(error)"
    )
    target = address(host, "mh-db")
    app = other(host, "mh-app1").check_output(
        "/srv/live-dashboard/current/.venv/bin/python -c %s %s", script, target
    )
    assert "password authentication failed" in app
    copied = other(host, "mh-mon").run("test -e /usr/lib/python3/dist-packages/psycopg2")
    assert copied.rc == 1
    rules = other(host, "mh-db").check_output(
        'runuser -u postgres -- psql -XAtq -c "SELECT address FROM pg_hba_file_rules'
        " WHERE type = 'host' AND 'live_validation_dashboard' = ANY (database) ORDER BY 1\""
    )
    assert set(rules.split()) == {address(host, "mh-app1"), address(host, "mh-app2")}


def test_the_application_is_reached_by_its_own_address_only(host):
    listening = other(host, "mh-app1").check_output("ss -Hltn 'sport = :8000'")
    assert address(host, "mh-app1") in listening
    assert "0.0.0.0:8000" not in listening


def test_secrets_are_kept_on_the_database_host_alone(host):
    path = "/etc/golive/live-dashboard/secrets"
    assert other(host, "mh-db").file(path).is_directory
    for name in ("mh-app1", "mh-app2", "mh-cache", "mh-proxy", "mh-mon"):
        assert not other(host, name).file(path).exists, name


def test_the_health_check_runs_on_the_monitoring_host(host):
    monitoring = other(host, "mh-mon")
    assert monitoring.service("golive-health.timer").is_enabled
    assert "live-dashboard: healthy" in monitoring.check_output("golive-health")
