# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role wiring makes of an inventory: the variables of the roles."""

from __future__ import annotations

import json
from typing import Any

import pytest

# What the preflight play notes for the other hosts, and the secrets that it makes.
NOTED = """
    __webstack_secrets:
      secrets: {database_password: "p@ss/w:rd %é", redis_password: "r #'&", secret_key: k}
    webstack_app_source: /src/Live_Dashboard.git
    webstack_app_wsgi: app:create_app()
"""
ONE = (
    """
all:
  hosts:
    one: {__webstack_workers: 3, __webstack_reached_at: 10.0.0.9}
  children:
    database: {hosts: {one: }}
    cache: {hosts: {one: }}
    app: {hosts: {one: }}
    proxy: {hosts: {one: }}
    monitoring: {hosts: {one: }}
  vars:"""
    + NOTED
)
MANY = (
    """
all:
  children:
    database:
      hosts:
        db: {webstack_address: 10.0.0.10, __webstack_reached_at: 10.0.0.10}
    cache:
      hosts:
        redis: {webstack_address: 10.0.0.11, __webstack_reached_at: 10.0.0.11}
    app:
      hosts:
        app1:
          {webstack_address: 10.0.0.21, __webstack_reached_at: 10.0.0.21, __webstack_workers: 3}
        app2:
          {webstack_address: 10.0.0.22, __webstack_reached_at: 10.0.0.22, __webstack_workers: 40}
    proxy:
      hosts:
        edge1: {webstack_address: 10.0.0.31, __webstack_reached_at: 10.0.0.31}
        edge2: {webstack_address: 10.0.0.32, __webstack_reached_at: 10.0.0.32}
    monitoring:
      hosts:
        watch: {webstack_address: 10.0.0.41, __webstack_reached_at: 10.0.0.41}
  vars:"""
    + NOTED
)


@pytest.fixture
def one(site: Any) -> Any:
    made = site(ONE)
    return lambda name: made.value("one", name)


@pytest.fixture
def many(site: Any) -> Any:
    return site(MANY).value


def test_the_name_comes_from_the_source(one: Any) -> None:
    assert one("gunicorn_app_name") == "live-dashboard"
    assert one("postgres_databases") == [
        {
            "name": "live_dashboard",
            "owner": "live_dashboard",
            "writers": [],
            "readers": ["live_dashboard_readonly"],
            "connect": ["live_dashboard_admin", "prometheus"],
        }
    ]


def test_one_host_talks_to_itself_without_the_network(one: Any) -> None:
    assert one("gunicorn_app_listen") == "/run/live-dashboard.sock"
    assert one("nginx_sites")[0]["upstream"] == ["unix:/run/live-dashboard.sock"]
    assert one("postgres_listen_addresses") == ["localhost"]
    assert one("postgres_hba_entries") == []
    assert one("redis_bind") == ["127.0.0.1", "-::1"]
    assert one("gunicorn_app_forwarded_allow_ips") == "127.0.0.1"


def test_addresses_with_passwords_are_addresses(one: Any) -> None:
    told = one("gunicorn_app_environment")
    assert told["DATABASE_URL"] == (
        "postgresql://live_dashboard:p%40ss%2Fw%3Ard%20%25%C3%A9@127.0.0.1:5432/live_dashboard"
    )
    assert told["REDIS_URL"] == "redis://:r%20%23%27%26@127.0.0.1:6379/0"
    assert told["SECRET_KEY"] == "k"
    assert one("redis_password") == "r #'&"
    assert one("postgres_users")[0]["password"] == "p@ss/w:rd %é"


def test_one_host_is_its_own_site_rotation_and_check(one: Any) -> None:
    sites = one("nginx_sites")
    assert [limit["path"] for limit in sites[0]["rate_limits"]] == ["/api/", "/auth/"]
    assert [entry["name"] for entry in one("logrotate_entries")] == ["live-dashboard", "nginx"]
    assert one("logrotate_entries")[0]["paths"] == ["/var/log/gunicorn/live_dashboard_*.log"]
    assert one("monitoring_health_checks") == [
        {"name": "live-dashboard", "site": "live_dashboard", "url": "http://127.0.0.1/"}
    ]
    assert one("backup_databases") == ["live_dashboard"]


def test_applications_elsewhere_are_let_in_one_by_one(many: Any) -> None:
    assert many("db", "postgres_listen_addresses") == ["localhost", "10.0.0.10"]
    assert many("db", "postgres_hba_entries") == [
        {"type": "host", "database": "live_dashboard", "user": "live_dashboard", "address": address}
        for address in ("10.0.0.21/32", "10.0.0.22/32")
    ]
    assert many("redis", "redis_bind") == ["127.0.0.1", "-::1", "10.0.0.11"]


def test_applications_listen_for_the_proxies(many: Any) -> None:
    assert many("app1", "gunicorn_app_listen") == "10.0.0.21:8000"
    assert many("app2", "gunicorn_app_listen") == "10.0.0.22:8000"
    assert many("app1", "gunicorn_app_forwarded_allow_ips") == "127.0.0.1,10.0.0.31,10.0.0.32"
    for proxy in ("edge1", "edge2"):
        sites = many(proxy, "nginx_sites")
        assert sites[0]["upstream"] == ["10.0.0.21:8000", "10.0.0.22:8000"]
        assert sites[0]["static"] == []


def test_applications_find_database_and_cache(many: Any) -> None:
    told = many("app2", "gunicorn_app_environment")
    assert "@10.0.0.10:5432/" in told["DATABASE_URL"]
    assert "@10.0.0.11:6379/0" in told["REDIS_URL"]


@pytest.mark.parametrize(
    ("apps", "proxies"),
    [
        ("a", "a"),
        ("a", "b"),
        ("a b", "a"),
        ("a b", "a b"),
        ("a", "a b"),
        ("a b", "c"),
        ("a b", "b c"),
    ],
)
def test_proxies_ask_where_applications_listen(site: Any, apps: str, proxies: str) -> None:
    def group(names: str) -> str:
        return ", ".join(f"{name}: " for name in names.split())

    addresses = "".join(
        f"    {name}:\n"
        f"      {{webstack_address: 10.0.1.{number}, __webstack_reached_at: 10.0.1.{number}}}\n"
        for number, name in enumerate("abc", 1)
    )
    made = site(
        f"all:\n  hosts:\n{addresses}  children:\n    app: {{hosts: {{{group(apps)}}}}}\n"
        f"    proxy: {{hosts: {{{group(proxies)}}}}}\n  vars:{NOTED}"
    )
    listening = [made.value(name, "gunicorn_app_listen") for name in apps.split()]
    for proxy in proxies.split():
        asked = [
            name.removeprefix("unix:") for name in made.value(proxy, "nginx_sites")[0]["upstream"]
        ]
        assert asked == listening


def test_each_host_rotates_and_watches_what_it_has(many: Any) -> None:
    names = {host: [entry["name"] for entry in many(host, "logrotate_entries")]
             for host in ("db", "app1", "edge1")}  # fmt: skip
    assert names == {"db": [], "app1": ["live-dashboard"], "edge1": ["nginx"]}
    assert many("watch", "monitoring_health_checks") == [
        {"name": "live-dashboard", "site": "live_dashboard", "url": "http://10.0.0.31/"}
    ]
    assert many("app1", "monitoring_health_checks") == []


def test_the_pools_of_all_hosts_fit_below_max_connections(one: Any, many: Any) -> None:
    # 3 workers x 5 and 15 in reserve: PostgreSQL's own default is more.
    assert one("__webstack_connections_needed") == 45
    assert one("postgres_max_connections") == 100
    # 43 workers x 5, 15 in reserve, and 3 for the superuser.
    # 43 workers, and in a switch the 40 of the larger host once more.
    assert many("db", "__webstack_connections_needed") == 430
    assert many("db", "postgres_max_connections") == 433


@pytest.mark.parametrize(
    ("setting", "value", "needed"),
    [("webstack_database_pool_size", 10, 75), ("webstack_database_pool_overflow", 2, 57),
     ("webstack_database_pool_reserve", 0, 30)],
)  # fmt: skip
def test_the_pools_are_settings(site: Any, setting: str, value: int, needed: int) -> None:
    made = site(f"{ONE}    {setting}: {value}\n")
    assert made.value("one", "__webstack_connections_needed") == needed


def test_the_queues_processes_are_in_the_budget(site: Any) -> None:
    celery = "    __webstack_queue_processes: 16\n"
    made = site(ONE + celery)
    # 3 workers x 5, 16 processes of the queue, beat, 15 in reserve.
    assert made.value("one", "__webstack_connections_needed") == 62
    told = site(ONE + "    gunicorn_app_celery: {app: shop.celery, concurrency: 2}\n")
    assert told.value("one", "__webstack_queue_here") == 8
    assert site(ONE).value("one", "__webstack_queue_here") == 0


def test_pgbouncer_stands_before_postgres(site: Any) -> None:
    made = site(MANY + "    webstack_pgbouncer: true\n")
    # Its pool of 20, 5 in reserve of its own, and 15.
    assert made.value("db", "__webstack_connections_needed") == 40
    assert made.value("db", "postgres_max_connections") == 100
    assert made.value("db", "pgbouncer_max_client_connections") == 1000
    assert made.value("db", "pgbouncer_listen_addresses") == ["127.0.0.1", "10.0.0.10"]
    assert made.value("db", "pgbouncer_users")[0]["name"] == "live_dashboard"
    told = made.value("app1", "gunicorn_app_environment")
    assert "@10.0.0.10:6432/" in told["DATABASE_URL"]
    migrating = made.value("app1", "gunicorn_app_migrate_environment")
    assert "@10.0.0.10:5432/" in migrating["DATABASE_URL"]


def test_an_owner_of_its_own_migrates_and_the_application_writes_rows(site: Any) -> None:
    secrets = NOTED.replace("secret_key: k", "secret_key: k, database_owner_password: own")
    made = site(MANY.replace(NOTED, secrets) + "    webstack_database_separate_owner: true\n")
    users = {user["name"]: user for user in made.value("db", "postgres_users")}
    assert users["live_dashboard_owner"]["password"] == "own"
    database = made.value("db", "postgres_databases")[0]
    assert database["owner"] == "live_dashboard_owner"
    assert database["writers"] == ["live_dashboard"]
    assert {entry["user"] for entry in made.value("db", "postgres_hba_entries")} == {
        "live_dashboard",
        "live_dashboard_owner",
    }
    told = made.value("app1", "gunicorn_app_environment")
    assert "//live_dashboard:" in told["DATABASE_URL"]
    assert made.value("app1", "gunicorn_app_migrate_environment") == {
        "DATABASE_URL": "postgresql://live_dashboard_owner:own@10.0.0.10:5432/live_dashboard"
        "?sslmode=verify-full&sslrootcert=/etc/golive/tls/ca.crt"
    }


def test_nobody_but_whom_it_names_logs_in(site: Any) -> None:
    users = {user["name"]: user for user in site(ONE).value("one", "postgres_users")}
    assert not users["live_dashboard_readonly"]["login"]
    assert not users["live_dashboard_admin"]["login"]
    assert "password" not in users["prometheus"]
    given = site(ONE + "    webstack_database_readonly_password: r\n")
    users = {user["name"]: user for user in given.value("one", "postgres_users")}
    assert users["live_dashboard_readonly"] == {
        "name": "live_dashboard_readonly", "login": True, "password": "r"
    }  # fmt: skip


def test_indexes_get_the_database(site: Any) -> None:
    made = site(ONE + "    webstack_indexes: [{table: users, columns: [email]}]\n")
    assert made.value("one", "postgres_indexes") == [
        {"table": "users", "columns": ["email"], "database": "live_dashboard"}
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gunicorn_app_listen", "127.0.0.1:9000"),
        ("nginx_sites", [{"name": "mine", "upstream": ["127.0.0.1:9000"]}]),
        ("postgres_users", [{"name": "mine"}]),
        ("postgres_databases", []),
        ("postgres_hba_entries", [{"database": "a", "user": "b", "address": "10.0.0.0/8"}]),
        ("postgres_listen_addresses", ["*"]),
        ("postgres_max_connections", 42),
        ("postgres_archive_mode", False),
        ("postgres_tls_certificate", "/mine.crt"),
        ("postgres_indexes", []),
        ("pgbouncer_databases", [{"name": "mine"}]),
        ("pgbouncer_max_client_connections", 7),
        ("redis_bind", ["0.0.0.0"]),
        ("redis_users", [{"name": "mine", "password": "p"}]),
        ("redis_instances", [{"name": "main"}]),
        ("redis_memory_mb", 99),
        ("redis_tls_certificate", "/mine.crt"),
        ("redis_default_user", "enabled"),
        ("certificates_authority_host", "elsewhere"),
        ("backup_files_paths", ["/mine"]),
        ("redis_password", "a long one of my own"),
        ("logrotate_entries", []),
        ("monitoring_health_checks", []),
        ("backup_databases", ["mine"]),
        ("gunicorn_app_forwarded_allow_ips", "*"),
        ("gunicorn_app_extra_ca_certificates", ["/ca.crt"]),
    ],
)
def test_an_inventorys_own_variable_of_a_role_wins(site: Any, name: str, value: Any) -> None:
    made = site(f"{ONE}    {name}: {json.dumps(value)}\n")
    assert made.value("one", name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gunicorn_app_workers", 7),
        ("gunicorn_app_environment", {"A": "b"}),
        ("gunicorn_app_health_path", "/mine"),
        ("gunicorn_app_wsgi", "mine:app"),
        ("gunicorn_app_migrate_command", "mine"),
        ("backup_postgres_port", 6000),
        ("gunicorn_app_name", "mine"),
    ],
)
def test_these_are_wired_from_webstack_settings_alone(site: Any, name: str, value: Any) -> None:
    """They stand in several places at once, so the inventory sets their webstack_ twin instead."""
    made = site(f"{ONE}    {name}: {json.dumps(value)}\n")
    assert made.value("one", name) != value


def test_another_port_reaches_everybody(site: Any) -> None:
    made = site(f"{ONE}    postgres_port: 5440\n    redis_port: 6390\n")
    told = made.value("one", "gunicorn_app_environment")
    assert "127.0.0.1:5440/" in told["DATABASE_URL"]
    assert "127.0.0.1:6390/0" in told["REDIS_URL"]
    assert made.value("one", "backup_postgres_port") == 5440


def test_the_applications_own_environment_wins(site: Any) -> None:
    made = site(f"{ONE}    webstack_app_environment: {{SECRET_KEY: mine, OTHER: x}}\n")
    told = made.value("one", "gunicorn_app_environment")
    assert (told["SECRET_KEY"], told["OTHER"]) == ("mine", "x")
    assert "DATABASE_URL" in told


def test_a_domain_with_tls(site: Any) -> None:
    made = site(
        f"{ONE}    webstack_domain: shop.example www.shop.example\n"
        "    webstack_tls_certificate: /a.pem\n    webstack_tls_certificate_key: /a.key\n"
    )
    told = made.value("one", "nginx_sites")[0]
    assert told["server_names"] == ["shop.example", "www.shop.example"]
    assert (told["tls_certificate"], told["tls_certificate_key"]) == ("/a.pem", "/a.key")


def test_without_database_and_cache_groups_the_application_has_no_addresses(site: Any) -> None:
    made = site(
        "all:\n  children:\n    app: {hosts: {one: {__webstack_workers: 3}}}\n  vars:" + NOTED
    )
    told = made.value("one", "gunicorn_app_environment")
    assert "DATABASE_URL" not in told
    assert "REDIS_URL" not in told


LIVE = """    webstack_sqlite_live: true
    webstack_sqlite_file: /srv/shop/shared/shop.db
"""


def test_an_application_live_on_sqlite_keeps_its_file_until_it_is_moved(site: Any) -> None:
    before = site(f"{ONE}{LIVE}").value("one", "gunicorn_app_environment")
    assert before["DATABASE_URL"] == "sqlite:////srv/shop/shared/shop.db"
    moved = site(f"{ONE}{LIVE}    __webstack_off_sqlite: true\n")
    after = moved.value("one", "gunicorn_app_environment")
    assert after["DATABASE_URL"].startswith("postgresql://live_dashboard:")
    assert {**after, "DATABASE_URL": ""} == {**before, "DATABASE_URL": ""}


def state(*instances: dict[str, Any]) -> str:
    """What the cache's host says of itself, as preflight or phase 2 notes it."""
    return f"    __webstack_cache_seen: {json.dumps({'server': 'redis', 'instances': instances})}\n"


PLAIN = {"name": "main", "port": 6379, "tls_port": 0, "users": ["live_dashboard"]}
SECURE = {"name": "main", "port": 0, "tls_port": 6380, "users": ["live_dashboard"]}
QUERY = "?ssl_cert_reqs=required&ssl_ca_certs=/etc/golive/tls/ca.crt"


def test_traffic_between_hosts_is_encrypted_by_default(one: Any, many: Any, site: Any) -> None:
    assert one("__webstack_tls_between_hosts") is False
    assert many("db", "__webstack_tls_between_hosts") is True
    assert many("db", "postgres_tls_certificate") == "/etc/golive/tls/host.crt"
    assert many("redis", "redis_tls_certificate") == "/etc/golive/tls/host.crt"
    assert one("redis_tls_certificate") == ""
    off = site(MANY + "    webstack_tls_between_hosts: false\n")
    assert off.value("redis", "redis_tls_certificate") == ""
    assert "sslmode" not in off.value("app1", "gunicorn_app_environment")["DATABASE_URL"]


def test_certificates_have_the_addresses_by_which_hosts_are_reached(site: Any) -> None:
    made = site(MANY + "    webstack_cache_host: redis.internal\n")
    assert made.value("db", "certificates_authority_host") == "db"
    assert made.value("app1", "certificates_authority_host") == "db"
    assert made.value("redis", "certificates_addresses") == ["10.0.0.11"]
    assert made.value("redis", "certificates_names") == ["redis.internal"]
    assert made.value("db", "certificates_names") == []


def test_the_cache_is_reached_as_its_host_says(site: Any) -> None:
    """A server that an earlier version set up has no users yet; then the password alone."""
    before = site(MANY).value("app1", "gunicorn_app_environment")
    assert before["REDIS_URL"] == "redis://:r%20%23%27%26@10.0.0.11:6379/0"
    assert "CACHE_REDIS_URL" not in before
    plain = site(MANY + state(PLAIN)).value("app1", "gunicorn_app_environment")
    login = "live_dashboard:r%20%23%27%26"
    assert plain["REDIS_URL"] == f"redis://{login}@10.0.0.11:6379/0"
    assert plain["CACHE_REDIS_URL"] == plain["CACHE_URL"]
    assert plain["CACHE_URL"] == f"redis://{login}@10.0.0.11:6379/3"
    secure = site(MANY + state(SECURE)).value("app1", "gunicorn_app_environment")
    assert secure["REDIS_URL"] == f"rediss://{login}@10.0.0.11:6380/0{QUERY}"
    assert secure["CACHE_URL"] == f"rediss://{login}@10.0.0.11:6380/3{QUERY}"


def test_the_queue_has_databases_of_its_own(site: Any) -> None:
    celery = "    gunicorn_app_celery: {app: shop.celery}\n"
    told = site(MANY + celery + state(SECURE)).value("app1", "gunicorn_app_environment")
    login = "live_dashboard:r%20%23%27%26"
    assert told["CELERY_BROKER_URL"] == f"rediss://{login}@10.0.0.11:6380/1{QUERY}"
    assert told["CELERY_RESULT_BACKEND"] == f"rediss://{login}@10.0.0.11:6380/2{QUERY}"


def test_what_may_go_has_a_server_of_its_own_in_a_split(site: Any) -> None:
    split = "    webstack_redis_arrangement: split\n"
    made = site(ONE + split)
    main, cache = made.value("one", "redis_instances")
    assert main == {"name": "main", "maxmemory_policy": "noeviction"}
    assert (cache["port"], cache["maxmemory_policy"]) == (6381, "allkeys-lfu")
    assert not cache["appendonly"] and not cache["snapshots"]
    assert cache["users"][0]["preset"] == "cache"
    # The server that was alone keeps its eighth.
    assert made.value("one", "redis_memory_mb") == 1024
    second = {"name": "cache", "port": 6381, "tls_port": 0, "users": ["live_dashboard"]}
    told = site(ONE + split + state(PLAIN, second)).value("one", "gunicorn_app_environment")
    assert "127.0.0.1:6379/0" in told["REDIS_URL"]
    assert "127.0.0.1:6381/0" in told["CACHE_REDIS_URL"]


def test_a_host_for_the_cache_alone_gives_it_more(one: Any, many: Any) -> None:
    assert one("redis_memory_mb") == 0
    assert one("redis_instances") == []
    assert many("redis", "redis_memory_mb") == 1638


def test_each_host_backs_up_the_files_that_it_has(many: Any, site: Any) -> None:
    assert many("app1", "backup_files_paths") == [
        "/etc/golive", "/srv/live-dashboard/shared", "/etc/live-dashboard"
    ]  # fmt: skip
    assert many("redis", "backup_files_redis_access") == "/etc/golive/redis/access.json"
    assert many("app1", "backup_files_redis_access") == ""
    more = site(ONE + "    webstack_backup_paths: [/srv/media]\n")
    assert more.value("one", "backup_files_paths")[-1] == "/srv/media"


@pytest.mark.parametrize("split", [False, True])
def test_a_cache_that_cannot_be_asked_is_taken_for_what_phase_2_makes(
    site: Any, role: Any, split: bool
) -> None:
    setting = f"    webstack_redis_arrangement: {'split' if split else 'single'}\n"
    made = site(MANY + setting)
    assumed = made.value("app1", "__webstack_cache_assumed")
    names = ("redis_instances", "redis_users", "redis_tls_certificate", "redis_tls_key")
    wired = {name: made.value("redis", name) for name in names}
    admin = {"__redis_secrets": {"secrets": {"admin_password": "adm"}}}
    known = role("redis", **wired, **admin).expression("__redis_state")
    for one, other in zip(assumed["instances"], known["instances"]):
        assert one == {key: other[key] for key in one}
    assert len(assumed["instances"]) == len(known["instances"]) == 1 + split


@pytest.mark.parametrize(("hosts", "first"), [(ONE, "one"), (MANY, "app1")])
def test_one_application_host_cleans_up_after_the_load(site: Any, hosts: str, first: str) -> None:
    assert site(hosts).value(first, "__webstack_load_cleaner") == ""
    given = site(hosts + "    webstack_load_cleanup: [flask, purge]\n").value
    assert given(first, "__webstack_load_cleaner") == first
    assert given(first, "__webstack_load_cleanup") == ["flask", "purge"]


def test_the_checklist_looks_for_requests_and_not_for_commands(site: Any) -> None:
    steps = [{"path": "/register"}, {"name": "otp", "command": ["cat", "mail"]}]
    given = site(ONE + f"    webstack_load_flow: {json.dumps(steps)}\n").value
    assert given("one", "load_test_flow") == steps
    found = given("one", "__webstack_checklist_context")["load_steps"]
    assert [step["path"] for step in found] == ["/register", "/"]
