# SPDX-License-Identifier: GPL-3.0-or-later
"""Six hosts: they work together, and each lets in only those that it must."""

from __future__ import annotations

import time

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


def by_tls(host, name, target, port, trusted):
    """What a TLS client on one host sees of another: the first bytes, or the error."""
    script = (
        "import socket,ssl,sys\n"
        "address,port,ca=sys.argv[1:]\n"
        "context=ssl.create_default_context(cafile=ca or None)\n"
        "s=context.wrap_socket(socket.create_connection((address,int(port)),5),"
        "server_hostname=address)\n"
        "s.sendall(b'PING\\r\\n'); print(s.recv(200))"
    )
    return other(host, name).run(
        "python3 -c %s %s %s %s", script, address(host, target), str(port), trusted
    )


CA = "/etc/golive/tls/ca.crt"


def test_redis_answers_by_tls_alone_and_asks_who_it_is(host):
    assert "NOAUTH" in by_tls(host, "mh-app1", "mh-cache", 6380, CA).stdout
    assert "CERTIFICATE_VERIFY_FAILED" in by_tls(host, "mh-app1", "mh-cache", 6380, "").stderr
    assert "ConnectionRefusedError" in connect(host, "mh-mon", "mh-cache", 6379).stderr


def test_the_application_speaks_tls_with_redis_and_postgres(host, visitor):
    visitor.log_in()
    sockets = ""
    # The proxy leaves a host alone for some seconds after it was away.
    for _ in range(30):
        assert visitor.get("/health")[0] == 200
        sockets = other(host, "mh-app1").check_output(
            "ss -Htn state established dst %s", address(host, "mh-cache")
        )
        if sockets:
            break
        time.sleep(1)
    assert ":6380" in sockets and ":6379" not in sockets
    script = (
        "import os,psycopg2\n"
        "for line in open('/etc/live-dashboard/slots/live/environment'):\n"
        "  if line.startswith('DATABASE_URL='): url=line.split('=',1)[1].strip().strip('\"')\n"
        "for mode in ('verify-full','disable'):\n"
        "  try:\n"
        "    c=psycopg2.connect(url.replace('verify-full',mode)).cursor()\n"
        "    c.execute('SELECT ssl FROM pg_stat_ssl WHERE pid=pg_backend_pid()')\n"
        "    print(mode,c.fetchone()[0])\n"
        "  except psycopg2.OperationalError as error: print(mode,error)\n"
    )
    told = other(host, "mh-app1").check_output(
        "/srv/live-dashboard/current/.venv/bin/python -c %s", script
    )
    assert "verify-full True" in told
    assert "no encryption" in told.split("disable", 1)[1]


def test_each_host_has_a_key_of_its_own_and_one_authority(host):
    names = ("mh-app1", "mh-app2", "mh-db", "mh-cache")
    keys = {other(host, name).check_output("sha256sum </etc/golive/tls/host.key") for name in names}
    trusted = {other(host, name).file(CA).content_string for name in names}
    assert (len(keys), len(trusted)) == (4, 1)
    assert other(host, "mh-db").file("/etc/golive/tls/authority/1.key").exists
    assert not other(host, "mh-cache").file("/etc/golive/tls/authority").exists


def test_files_of_each_host_are_backed_up(host):
    for name in ("mh-app1", "mh-app2", "mh-db", "mh-cache", "mh-proxy"):
        told = other(host, name).check_output("golive-backup-files status")
        assert '"success": 1' in told


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
        " WHERE type = 'hostssl' AND 'live_validation_dashboard' = ANY (database) ORDER BY 1\""
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
