# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks/vars/webstack.yml makes of an inventory: the variables of the roles."""

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
    assert one("postgres_databases") == [{"name": "live_dashboard", "owner": "live_dashboard"}]


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
        {"name": "live-dashboard", "url": "http://127.0.0.1/"}
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
        {"name": "live-dashboard", "url": "http://10.0.0.31/"}
    ]
    assert many("app1", "monitoring_health_checks") == []


def test_the_pools_of_all_hosts_fit_below_max_connections(one: Any, many: Any) -> None:
    # 3 workers x 5 and 15 in reserve: PostgreSQL's own default is more.
    assert one("__webstack_connections_needed") == 30
    assert one("postgres_max_connections") == 100
    # 43 workers x 5, 15 in reserve, and 3 for the superuser.
    assert many("db", "__webstack_connections_needed") == 230
    assert many("db", "postgres_max_connections") == 233


@pytest.mark.parametrize(
    ("setting", "value", "needed"),
    [("webstack_database_pool_size", 10, 45), ("webstack_database_pool_overflow", 2, 36),
     ("webstack_database_pool_reserve", 0, 15)],
)  # fmt: skip
def test_the_pools_are_settings(site: Any, setting: str, value: int, needed: int) -> None:
    made = site(f"{ONE}    {setting}: {value}\n")
    assert made.value("one", "__webstack_connections_needed") == needed


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
        ("redis_bind", ["0.0.0.0"]),
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
