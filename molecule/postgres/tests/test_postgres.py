# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients see of the server that converge.yml asked for."""

from __future__ import annotations

import re
import time

import pytest

PORT = 5433
OWNER = "shop owner's $1 {{ x }} # ü"
APP_PASSWORD = "'; DROP TABLE x; -- %s %% {{ 1 }} ' \" \\"
PASSWORD = 'it\'s "a" pass word: 100% $HOME {{ x }} {% \\ # ü€'
MAJOR = {"12": "15", "13": "17"}

pytestmark = pytest.mark.units(
    "postgresql@15-main.service", "postgresql@17-main.service", "pgbouncer.service"
)


def psql(
    host, query, *, user="postgres", database="postgres", address="", password="", port=PORT,
    options=""
):  # fmt: skip
    """As the system user by the socket, or with a password by the network."""
    command = f"{options} psql -XAtqw --port={port} --dbname=%s -c %s".strip()
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
    assert sorted(stored.splitlines()) == [
        "no_login_by_password=none",
        "reader=SCRAM-SHA-256$",
        f"{OWNER}=SCRAM-SHA-256$",
        "shop_admin=SCRAM-SHA-256$",
        "shop_app=SCRAM-SHA-256$",
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
        "shared_preload_libraries": "pg_stat_statements, auto_explain, pg_prewarm",
        "auto_explain.log_min_duration": "400ms",
        "random_page_cost": "4",
        "archive_mode": "on",
        "archive_command": "/bin/true",
        "archive_timeout": "1min",
        "ssl_min_protocol_version": "TLSv1.2",
        "log_lock_waits": "on",
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
    for secret in (PASSWORD, APP_PASSWORD):
        assert host.run("grep -rF -- %s /var/log/postgresql", secret).rc == 1


def shop(user, password, **more):
    return {"user": user, "password": password, "database": "shop", "address": "127.0.0.1", **more}


APP = shop("shop_app", APP_PASSWORD)
READER = shop("reader", "another long password")
ADMIN = shop("shop_admin", "a third long password")


def refused(host, query, **login):
    done = psql(host, query, **login)
    assert done.rc != 0, done.stdout
    return done.stderr


def test_the_application_writes_rows_and_makes_no_tables(host):
    written = "BEGIN; INSERT INTO customers VALUES (-1, 'x') RETURNING id; ROLLBACK"
    assert answer(host, written, **APP) == "-1"
    assert "permission denied for schema public" in refused(host, "CREATE TABLE t (i int)", **APP)
    assert "must be owner of table" in refused(host, "DROP TABLE customers", **APP)


def test_the_reader_sees_tables_that_came_later_and_changes_nothing(host):
    # They were made by their owner after the role had run.
    assert answer(host, "SELECT count(*) FROM orders", **READER) == "100"
    assert "permission denied" in refused(host, "DELETE FROM orders", **READER)
    assert answer(host, "SELECT count(*) FROM pg_stat_statements", **READER)


def test_the_admin_watches_and_ends_sessions_and_is_no_superuser(host):
    assert answer(host, "SELECT count(*) FROM orders", **ADMIN) == "100"
    seen = "SELECT pg_has_role('pg_monitor', 'usage'), pg_has_role('pg_signal_backend', 'usage')"
    assert answer(host, seen, **ADMIN) == "t|t"
    assert "permission denied" in refused(host, "INSERT INTO customers VALUES (7)", **ADMIN)
    assert "permission denied" in refused(host, "SELECT * FROM pg_authid", **ADMIN)


def test_a_database_is_for_whom_it_names(host):
    strange = {**APP, "database": "odd Name's"}
    assert "permission denied for database" in refused(host, "SELECT 1", **strange)
    grants = "SELECT has_database_privilege('shop_app', 'all', 'connect')"
    assert answer(host, grants) == "t"


def test_the_network_comes_in_by_tls_alone(host, network_address):
    login = {"user": OWNER, "password": PASSWORD, "database": "shop", "address": network_address}
    plain = refused(host, "SELECT 1", **login, options="PGSSLMODE=disable")
    assert "no pg_hba.conf entry" in plain and "no encryption" in plain
    major = MAJOR[host.system_info.release.split(".")[0]]
    folder = f"/etc/postgresql/{major}/main/golive-tls"
    asked = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    proved = f"PGSSLMODE=verify-ca PGSSLROOTCERT={folder}/server.crt"
    assert answer(host, asked, **login, options=proved).startswith("TLSv1.")
    key = host.file(f"{folder}/server.key")
    assert (key.user, key.mode) == ("postgres", 0o600)


def test_a_certificate_that_was_renewed_is_shown(host):
    shown = host.check_output(
        "openssl s_client -starttls postgres -connect 127.0.0.1:%s </dev/null 2>&1", str(PORT)
    )
    assert re.search("CN ?= ?renewed", shown)


def test_a_name_that_is_also_a_keyword_is_a_name(host, network_address):
    login = {"user": "shop_app", "password": APP_PASSWORD, "address": network_address}
    assert answer(host, "SELECT 1", **login, database="all") == "1"
    assert "no pg_hba.conf entry" in refused(host, "SELECT 1", **login, database="shop")


def test_indexes_are_made_and_valid(host):
    listed = answer(
        host,
        "SELECT c.relname, i.indisvalid, i.indisunique, pg_get_indexdef(i.indexrelid) LIKE"
        " '%%(lower(note)) WHERE (note IS NOT NULL)' FROM pg_index i JOIN pg_class c"
        " ON c.oid = i.indexrelid WHERE i.indrelid = 'orders'::regclass ORDER BY 1",
        database="shop",
    )
    # orders_by_customer was there unfinished, and unique.
    assert listed.splitlines() == [
        "orders_by_customer|t|f|f",
        "orders_note|t|f|t",
        "orders_pkey|t|t|f",
    ]


def test_tables_have_their_parameters(host):
    options = "SELECT relname, reloptions FROM pg_class WHERE relname IN ('large', 'orders')"
    assert answer(host, options + " ORDER BY 1", database="shop").splitlines() == [
        "large|{autovacuum_analyze_scale_factor=0.02,autovacuum_vacuum_insert_scale_factor=0.05,"
        "autovacuum_vacuum_scale_factor=0.05}",
        "orders|{fillfactor=85}",
    ]


def test_slow_plans_are_logged(host):
    answer(host, "SELECT pg_sleep(0.5), 'plan of this' AS mark", database="shop")
    found = host.run("grep -A3 'duration: .* plan:' /var/log/postgresql/*.log")
    assert "plan of this" in found.stdout


POOL = {**APP, "port": 6432}


def test_pgbouncer_lets_in_whom_postgres_would(host):
    assert answer(host, "SELECT current_user", **POOL) == "shop_app"
    owner = shop(OWNER, PASSWORD, port=6432)
    assert answer(host, "SELECT current_user", **owner) == OWNER
    assert "authentication failed" in refused(host, "SELECT 1", **{**POOL, "password": "wrong"})
    assert refused(host, "SELECT 1", **{**READER, "port": 6432})
    assert "no such database" in refused(host, "SELECT 1", **{**POOL, "database": "postgres"})
    stored = host.file("/etc/pgbouncer/userlist.txt")
    assert stored.contains("SCRAM-SHA-256") and stored.mode == 0o640
    assert host.run("grep -F -- %s /etc/pgbouncer/userlist.txt", APP_PASSWORD).rc == 1


def test_many_clients_share_few_connections(host):
    script = (
        "for n in $(seq 12); do PGPASSWORD=%s psql -XAtqw -h 127.0.0.1 -p 6432 -U shop_app shop"
        " -c 'SELECT pg_backend_pid() FROM pg_sleep(0.2)' & done; wait"
    )
    servers = host.check_output(script, APP_PASSWORD).split()
    assert len(servers) == 12
    assert len(set(servers)) <= 3


def test_pgbouncer_tells_its_pools_to_whom_may_ask(host):
    assert "shop" in answer(host, "SHOW POOLS", **{**POOL, "database": "pgbouncer"})
    assert "admin access needed" in refused(host, "PAUSE", **{**POOL, "database": "pgbouncer"})


def test_pgbouncer_is_confined_and_leaves_postgres_its_memory(host):
    told = host.check_output("systemctl show pgbouncer -p NoNewPrivileges -p RemoveIPC -p User")
    assert set(told.split()) == {"NoNewPrivileges=yes", "RemoveIPC=no", "User=postgres"}


def test_a_killed_server_comes_back_by_itself(host):
    (major,) = host.file("/etc/postgresql").listdir()
    host.check_output(f"kill -9 $(head -1 /var/lib/postgresql/{major}/main/postmaster.pid)")
    service = host.service(f"postgresql@{major}-main")
    # The server answers some time before systemd's start command has ended and the unit is active.
    for _ in range(150):
        if service.is_running and psql(host, "SELECT 1").rc == 0:
            break
        time.sleep(0.2)
    assert answer(host, "SELECT 1") == "1"
    assert service.is_running
