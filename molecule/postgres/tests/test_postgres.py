# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients see of the server that converge.yml asked for."""

from __future__ import annotations

import pytest

PORT = 5433
OWNER = "shop owner's $1 {{ x }} # ü"
PASSWORD = 'it\'s "a" pass word: 100% $HOME {{ x }} {% \\ # ü€'
MAJOR = {"12": "15", "13": "17"}

pytestmark = pytest.mark.units("postgresql@15-main.service", "postgresql@17-main.service")


def psql(host, query, *, user="postgres", database="postgres", address="", password=""):
    """As the system user by the socket, or with a password by the network."""
    command = f"psql -XAtqw --port={PORT} --dbname=%s -c %s"
    if not address:
        return host.run("runuser -u postgres -- " + command, database, query)
    command = "PGPASSWORD=%s " + command + " --host=%s --username=%s"
    return host.run(command, password, database, query, address, user)


def answer(host, query, **options):
    done = psql(host, query, **options)
    assert done.rc == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def network_address(host):
    return host.check_output("hostname -I").split()[0]


def test_awkward_user_logs_in_with_the_password_only(host):
    login = {"user": OWNER, "database": "shop", "address": "127.0.0.1"}
    assert answer(host, "SELECT current_user", **login, password=PASSWORD) == OWNER
    for wrong in ("", PASSWORD[:-1]):
        refused = psql(host, "SELECT 1", **login, password=wrong)
        assert refused.rc != 0
        assert "password" in refused.stderr


def test_passwords_are_stored_as_scram(host):
    stored = answer(
        host,
        "SELECT rolname || '=' || coalesce(left(rolpassword, 14), 'none') FROM pg_authid"
        " WHERE rolcanlogin AND NOT rolsuper ORDER BY 1",
    )
    assert stored.splitlines() == [
        "no_login_by_password=none",
        "reader=SCRAM-SHA-256$",
        f"{OWNER}=SCRAM-SHA-256$",
    ]


def test_nobody_but_postgres_is_a_superuser(host):
    rights = "rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls"
    assert answer(host, f"SELECT rolname FROM pg_roles WHERE {rights}") == "postgres"


def test_access_rules_let_in_only_whom_they_name(host, network_address):
    named = {"user": OWNER, "password": PASSWORD, "address": network_address}
    assert answer(host, "SELECT 1", database="shop", **named) == "1"
    for user, password, database in (
        (OWNER, PASSWORD, "postgres"),
        ("reader", "another long password", "shop"),
        ("postgres", "", "postgres"),
    ):
        refused = psql(
            host, "SELECT 1", user=user, password=password, database=database,
            address=network_address
        )  # fmt: skip
        assert refused.rc != 0
        assert "no pg_hba.conf entry" in refused.stderr


def test_another_system_user_is_not_let_in_by_the_socket(host):
    refused = host.run(
        "su -s /bin/sh nobody -c %s", f"psql -w -p {PORT} -U postgres -d postgres -c 'SELECT 1'"
    )
    assert refused.rc != 0
    assert "Peer authentication failed" in refused.stderr


def test_settings_are_in_force(host):
    memory = int(host.check_output("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
    quarter = max(min(memory // 4, 8192), 128)
    wanted = {
        "cluster_name": 'it\'s a \\ "test" #1',
        "data_checksums": "on",
        "log_min_duration_statement": "250ms",
        "max_connections": "60",
        "password_encryption": "scram-sha-256",
        "server_encoding": "UTF8",
        "shared_preload_libraries": "pg_stat_statements",
        "TimeZone": "UTC",
        "track_io_timing": "on",
        "work_mem": "7MB",
    }
    for name, value in wanted.items():
        assert answer(host, f"SHOW {name}") == value, name
    pages = answer(host, "SELECT setting FROM pg_settings WHERE name = 'shared_buffers'")
    # MemTotal as the fact has it may differ by a megabyte's rounding.
    assert abs(int(pages) * 8 // 1024 - quarter) <= 1


def test_nothing_waits_for_a_restart_or_is_broken(host):
    assert answer(host, "SELECT name FROM pg_settings WHERE pending_restart") == ""
    assert answer(host, "SELECT error FROM pg_file_settings WHERE error IS NOT NULL") == ""
    assert answer(host, "SELECT error FROM pg_hba_file_rules WHERE error IS NOT NULL") == ""


def test_databases_are_utf8_and_their_owners(host):
    listed = answer(
        host,
        "SELECT datname || '|' || pg_get_userbyid(datdba) || '|' || pg_encoding_to_char(encoding)"
        " FROM pg_database WHERE datname IN ('shop', 'odd Name''s') ORDER BY 1",
    )
    assert listed.splitlines() == ["odd Name's|reader|UTF8", f"shop|{OWNER}|UTF8"]
    login = {"user": OWNER, "password": PASSWORD, "database": "shop", "address": "127.0.0.1"}
    assert answer(host, "CREATE TEMP TABLE t AS SELECT 'ü€😀' AS v; TABLE t", **login) == "ü€😀"


def test_only_the_distributions_version_is_there_and_starts_at_boot(host):
    major = MAJOR[host.system_info.release.split(".")[0]]
    assert host.check_output("pg_lsclusters -h").split()[:4] == [major, "main", str(PORT), "online"]
    assert host.service(f"postgresql@{major}-main").is_enabled


def test_passwords_are_in_no_log(host):
    found = host.run("journalctl --no-pager | grep -F %s", PASSWORD)
    assert found.stdout == ""
    assert host.run("grep -rF %s /var/log/postgresql", PASSWORD).rc == 1
