# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that roles write, rendered from their defaults and awkward values."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shlex
from typing import Any

import pytest
import yaml

from .conftest import ROOT

AWKWARD = [
    "plain",
    "with space",
    "it's",
    'a "quoted" one',
    "100% $HOME ${HOME} `id`",
    "{{ name }} {% if x %} {# y #}",
    r"back\slash \n \\",
    "#hash ;semi",
    "ü€😀",
    " leading and trailing ",
]


def section(text: str, name: str) -> list[tuple[str, str]]:
    """The lines of a unit's section, in order; names may come several times."""
    body = text.split(f"[{name}]\n", 1)[1].split("\n[", 1)[0]
    found = []
    for line in body.splitlines():
        if line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            found.append((key, value))
    return found


def as_systemd_splits(line: str) -> list[str]:
    """A command line as systemd reads it: quotes with C escapes, then %% and $$."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
    found = []
    for quoted, plain in words:
        word = plain or re.sub(r"\\(.)", r"\1", quoted)
        assert not re.search(r"(?<!%)%(?!%)", word.replace("%%", "")), word
        assert "$" not in word.replace("$$", ""), word
        found.append(word.replace("%%", "%").replace("$$", "$"))
    return found


def logged_in(line: str) -> list[str]:
    """A line of pg_hba.conf as PostgreSQL splits it."""
    return [
        quoted.replace('""', '"') if quoted else plain
        for quoted, plain in re.findall(r'"((?:[^"]|"")*)"|(\S+)', line)
    ]


def postgres_settings(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            match = re.fullmatch(r"([a-z_.]+) = '((?:[^'\\]|''|\\.)*)'", line)
            assert match, line
            found[match[1]] = re.sub(r"\\(.)", r"\1", match[2].replace("''", "'"))
    return found


@pytest.mark.parametrize("value", AWKWARD)
def test_postgres_settings_keep_their_text(role: Any, value: str) -> None:
    text = role("postgres", postgres_settings={"cluster_name": value}).file(
        "conf.d/50-golive.conf.j2"
    )
    assert postgres_settings(text)["cluster_name"] == value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (1.5, "1.5"),
        (["a", "b"], "a, b"),
        ("7MB", "7MB"),
    ],
)
def test_postgres_settings_of_other_types(role: Any, value: Any, written: str) -> None:
    text = role("postgres", postgres_settings={"some.setting": value}).file(
        "conf.d/50-golive.conf.j2"
    )
    assert postgres_settings(text)["some.setting"] == written


@pytest.mark.parametrize(
    ("memory", "shared", "cache", "maintenance"),
    [(400, "128MB", "300MB", "64MB"), (4096, "1024MB", "3072MB", "256MB"),
     (65536, "8192MB", "49152MB", "1024MB")],
)  # fmt: skip
def test_postgres_is_sized_for_the_hosts_memory(
    role: Any, memory: int, shared: str, cache: str, maintenance: str
) -> None:
    made = role("postgres")
    made.variables["ansible_facts"] = {**made.variables["ansible_facts"], "memtotal_mb": memory}
    told = postgres_settings(made.file("conf.d/50-golive.conf.j2"))
    assert told["shared_buffers"] == shared
    assert told["effective_cache_size"] == cache
    assert told["maintenance_work_mem"] == maintenance


@pytest.mark.parametrize(
    ("distribution", "major", "version", "postgres"),
    [
        ("Debian", "12", "12.9", "15"),
        ("Debian", "13", "13.1", "17"),
        ("Ubuntu", "22", "22.04", "14"),
        ("Ubuntu", "24", "24.04", "16"),
        ("Debian", "99", "99.1", ""),
    ],
)
def test_postgres_version_is_the_distributions(
    role: Any, distribution: str, major: str, version: str, postgres: str
) -> None:
    made = role("postgres")
    made.variables["ansible_facts"] = {
        "distribution": distribution,
        "distribution_major_version": major,
        "distribution_version": version,
    }
    assert made.expression("__postgres_major") == postgres
    made.variables["__postgres_host"] = {"clusters": ["13"]}
    assert made.expression("__postgres_major") == "13"


@pytest.mark.parametrize(
    ("sites", "nameless"),
    [
        ([{"name": "a"}, {"name": "b", "server_names": ["b.example"]}], ["a"]),
        ([{"name": "a"}, {"name": "b", "server_names": []}], ["a", "b"]),
    ],
)
def test_sites_that_answer_to_every_name(role: Any, sites: Any, nameless: list[str]) -> None:
    found = role("nginx", nginx_sites=sites).expression("__nginx_nameless")
    assert [site["name"] for site in found] == nameless
    assert {site["port"] for site in found} == {80}


def test_postgres_settings_of_the_user_win(role: Any) -> None:
    told = postgres_settings(
        role(
            "postgres", postgres_settings={"shared_buffers": "1GB"}, postgres_shared_buffers_mb=512
        ).file("conf.d/50-golive.conf.j2")
    )
    assert told["shared_buffers"] == "1GB"


@pytest.mark.parametrize("name", AWKWARD)
def test_postgres_access_rules_name_exactly_whom_they_mean(role: Any, name: str) -> None:
    entries = [
        {"database": name, "user": name, "address": "10.0.0.5/32"},
        {"type": "local", "database": name, "user": name, "method": "peer"},
    ]
    text = role("postgres", postgres_hba_entries=entries).file("pg_hba.conf.j2")
    lines = [logged_in(line) for line in text.splitlines() if line and line[0] != "#"]
    # The first line that fits counts: the one for everybody on the socket comes later.
    assert lines[2:4] == [["local", name, name, "peer"], ["local", "all", "all", "peer"]]
    assert lines[-1] == ["host", name, name, "10.0.0.5/32", "scram-sha-256"]
    assert lines[0] == ["local", "all", "postgres", "peer"]
    assert not [line for line in lines if line[-1] == "trust"]


def test_postgres_access_rules_know_keywords(role: Any) -> None:
    entries = [
        {"database": "all", "user": "all", "address": "10.0.0.0/24"},
        {"database": '"all"', "user": '"all"', "address": "10.0.0.0/24"},
        {"database": "replication", "user": "+standbys", "address": "samenet", "options": "map=x"},
    ]
    text = role("postgres", postgres_hba_entries=entries).file("pg_hba.conf.j2")
    assert text.splitlines()[-3:] == [
        "host all all 10.0.0.0/24 scram-sha-256",
        'host "all" "all" 10.0.0.0/24 scram-sha-256',
        'host replication +"standbys" samenet scram-sha-256 map=x',
    ]


def test_postgres_with_a_certificate_lets_the_network_in_by_tls_alone(role: Any) -> None:
    entries = [
        {"database": "a", "user": "b", "address": "10.0.0.0/24"},
        {"database": "a", "user": "b", "address": "127.0.0.2/32"},
    ]
    made = role(
        "postgres",
        postgres_hba_entries=entries,
        postgres_tls_certificate="/x.crt",
        postgres_tls_key="/x.key",
    )
    made.variables["ansible_facts"] = {"distribution": "Debian", "distribution_major_version": "13",
                                       "memtotal_mb": 4096}  # fmt: skip
    lines = made.file("pg_hba.conf.j2").splitlines()
    assert lines[-2].startswith("hostssl ") and lines[-1].startswith("host ")
    told = postgres_settings(made.file("conf.d/50-golive.conf.j2"))
    assert told["ssl"] == "on" and told["ssl_min_protocol_version"] == "TLSv1.2"
    assert told["ssl_key_file"] == "/etc/postgresql/17/main/golive-tls/server.key"
    assert told["ssl_ca_file"] == ""


@pytest.mark.parametrize(
    ("facts", "given", "wanted"),
    [
        # 4 GB, 2 cores, a disk that is not known, 100 connections.
        ({}, {}, {"work_mem": "7MB", "random_page_cost": "1.1", "effective_io_concurrency": "200",
                  "max_wal_size": "1024MB", "min_wal_size": "256MB", "max_parallel_workers": "2",
                  "max_parallel_workers_per_gather": "1", "max_worker_processes": "8"}),
        ({"memtotal_mb": 65536, "processor_vcpus": 32}, {},
         {"work_mem": "64MB", "max_wal_size": "8192MB", "max_worker_processes": "36",
          "max_parallel_workers_per_gather": "4", "max_parallel_maintenance_workers": "4"}),
        ({"memtotal_mb": 512, "processor_vcpus": 1}, {"postgres_max_connections": 300},
         {"work_mem": "4MB", "max_parallel_workers_per_gather": "0",
          "max_parallel_maintenance_workers": "1", "max_wal_size": "1024MB"}),
        ({}, {"postgres_disk": "hdd"}, {"random_page_cost": "4", "effective_io_concurrency": "2"}),
        # What was measured on the host counts, and a small disk keeps the log small.
        ({"memtotal_mb": 65536}, {"__postgres_host": {"disk": "hdd", "disk_total_mb": 20000}},
         {"random_page_cost": "4", "max_wal_size": "2000MB"}),
        ({}, {"postgres_disk": "ssd", "__postgres_host": {"disk": "hdd"}},
         {"random_page_cost": "1.1"}),
    ],
)  # fmt: skip
def test_postgres_is_sized_for_cores_and_disk(
    role: Any, facts: dict[str, int], given: dict[str, Any], wanted: dict[str, str]
) -> None:
    made = role("postgres", **given)
    made.variables["ansible_facts"] = {**made.variables["ansible_facts"], **facts}
    told = postgres_settings(made.file("conf.d/50-golive.conf.j2"))
    assert {name: told[name] for name in wanted} == wanted


def test_the_sizes_of_the_checklist_are_an_inventory(role: Any) -> None:
    path = ROOT / "inventories/multi_host/group_vars/database.yml"
    given = yaml.safe_load(path.read_text())
    made = role("postgres", **given)
    assert not made.unknown
    told = postgres_settings(made.file("conf.d/50-golive.conf.j2"))
    assert told["max_connections"] == "300"
    assert told["shared_buffers"] == "1024MB"
    assert told["effective_cache_size"] == "4096MB"
    assert told["maintenance_work_mem"] == "256MB"
    assert told["checkpoint_completion_target"] == "0.9"


@pytest.mark.parametrize(
    ("given", "libraries"),
    [
        ({}, "pg_stat_statements"),
        ({"postgres_statement_statistics": False}, ""),
        ({"postgres_auto_explain_ms": 500}, "pg_stat_statements, auto_explain"),
        ({"postgres_settings": {"shared_preload_libraries": "timescaledb, pg_stat_statements"}},
         "pg_stat_statements, timescaledb"),
    ],
)  # fmt: skip
def test_postgres_libraries_come_together(role: Any, given: Any, libraries: str) -> None:
    told = postgres_settings(role("postgres", **given).file("conf.d/50-golive.conf.j2"))
    assert told["shared_preload_libraries"] == libraries


def test_a_library_that_is_not_there_is_found_out(role: Any) -> None:
    made = role("postgres", postgres_settings={"shared_preload_libraries": ["nonsense", "/my.so"]})
    assert made.expression("__postgres_missing_libraries") == ["nonsense"]
    made.variables["__postgres_host"] = {"libraries": {"17": ["nonsense", "pg_stat_statements"]}}
    assert made.expression("__postgres_missing_libraries") == []


PGBOUNCER = {
    "pgbouncer_databases": [{"name": "shop", "port": 5433, "pool_size": 7}],
    "pgbouncer_users": [{"name": 'a "b"', "password": "x"}],
}


def test_pgbouncer_files(role: Any) -> None:
    made = role("pgbouncer", **PGBOUNCER)
    made.variables["__pgbouncer_verifiers"] = {"stdout": json.dumps({'a "b"': "SCRAM-SHA-256$x"})}
    told = configparser.ConfigParser(interpolation=None)
    told.read_string(made.file("pgbouncer.ini.j2"))
    assert told["databases"]["shop"] == "host='127.0.0.1' port=5433 pool_size=7"
    assert told["pgbouncer"]["pool_mode"] == "transaction"
    assert told["pgbouncer"]["auth_type"] == "scram-sha-256"
    assert "max_prepared_statements" not in told["pgbouncer"]
    assert made.file("userlist.txt.j2") == '"a ""b""" "SCRAM-SHA-256$x"\n'
    made.variables["__pgbouncer_version"] = {"stdout": "PgBouncer 1.24.1\nlibevent 2.1.12"}
    assert "max_prepared_statements = 200" in made.file("pgbouncer.ini.j2")


def redis_settings(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def redis_file(made: Any, name: str, instance: str = "main") -> str:
    chosen = f"(__redis_list | selectattr('name', 'equalto', '{instance}') | first)"
    given = f"template_vars={{'__redis_instance': {chosen}}}"
    return str(made.expression(f"lookup('ansible.builtin.template', '{name}', {given})"))


def test_redis_settings(role: Any) -> None:
    given = {
        "notify-keyspace-events": "",
        "lazyfree-lazy-eviction": True,
        "hz": 20,
        "rename-command": ["FLUSHALL x", "FLUSHDB y"],
    }
    made = role("redis", redis_settings=given, redis_bind=["127.0.0.1", "10.0.0.5"])
    told = redis_settings(redis_file(made, "redis.conf.j2"))
    assert ("notify-keyspace-events", '""') in told
    assert ("lazyfree-lazy-eviction", "yes") in told
    assert ("hz", "20") in told
    assert [value for name, value in told if name == "rename-command"] == [
        "FLUSHALL x",
        "FLUSHDB y",
    ]
    assert ("bind", "127.0.0.1 10.0.0.5") in told
    assert ("maxmemory", "512mb") in told
    assert ("appendonly", "yes") in told
    # What stands last wins, and only the file with the password comes after it.
    assert told[-1] == ("include", "/etc/redis/golive-auth.conf")
    assert not [name for name, _ in told if name == "requirepass"]


@pytest.mark.parametrize("password", AWKWARD)
def test_redis_password_keeps_its_text(role: Any, password: str) -> None:
    made = role("redis", redis_password=password)
    told = redis_settings(redis_file(made, "golive-auth.conf.j2"))
    assert [name for name, _ in told] == ["requirepass"]
    quoted = told[0][1]
    assert quoted[0] == quoted[-1] == '"'
    assert re.sub(r"\\(.)", r"\1", quoted[1:-1]) == password


def test_redis_without_a_password_has_none(role: Any) -> None:
    assert redis_settings(redis_file(role("redis"), "golive-auth.conf.j2")) == []


ADMIN = {"__redis_secrets": {"secrets": {"admin_password": "adm"}}}


@pytest.mark.parametrize("password", AWKWARD)
def test_redis_users_stand_there_by_their_hash(role: Any, password: str) -> None:
    import hashlib

    users = [
        {"name": "shop", "password": password},
        {"name": "x", "password": "y", "preset": "none", "rules": "~a:* +get"},
    ]
    made = role("redis", redis_users=users, **ADMIN)
    lines = redis_file(made, "users.acl").splitlines()
    hashed = hashlib.sha256(password.encode()).hexdigest()
    assert lines[0] == "user default off sanitize-payload"
    assert lines[1].startswith("user golive-admin on ") and lines[1].endswith(" ~* &* +@all")
    assert f"user shop on sanitize-payload #{hashed} ~* &* +@all -@admin -@dangerous" in lines[2]
    assert lines[3].endswith(f"#{hashlib.sha256(b'y').hexdigest()}  ~a:* +get")
    assert ("aclfile", "/etc/redis/golive-users.acl") in redis_settings(
        redis_file(made, "redis.conf.j2")
    )


@pytest.mark.parametrize(
    ("choice", "before", "password", "on"),
    [
        ("auto", "main default", "p" * 16, False),
        ("keep", "main default", "p" * 16, True),
        ("keep", "", "p" * 16, False),
        ("keep", "main default", "", False),
        ("enabled", "", "p" * 16, True),
        ("disabled", "main default", "p" * 16, False),
    ],
)
def test_redis_default_user(role: Any, choice: str, before: str, password: str, on: bool) -> None:
    made = role(
        "redis",
        redis_users=[{"name": "a", "password": "b"}],
        redis_default_user=choice,
        redis_password=password,
        __redis_before={"stdout_lines": [before]},
        **ADMIN,
    )
    assert made.expression("__redis_list[0].default_on") is on
    assert ("user default on" in redis_file(made, "users.acl")) is on


def test_redis_instances_share_memory_and_differ_where_asked(role: Any) -> None:
    made = role(
        "redis",
        redis_instances=[
            {"name": "main", "maxmemory_policy": "noeviction"},
            {"name": "cache", "port": 6381, "appendonly": False, "snapshots": False},
            {"name": "fixed", "port": 6391, "maxmemory_mb": 100, "settings": {"hz": 5}},
        ],
    )
    # 4096 MB / 8, less 100, by two; the ones on disk count twice.
    assert made.expression("__redis_worst_mb") == 206 * 2 + 206 + 100 * 2
    cache = dict(redis_settings(redis_file(made, "redis.conf.j2", "cache")))
    assert (cache["maxmemory"], cache["appendonly"], cache["save"]) == ("206mb", "no", '""')
    assert cache["dir"] == "/var/lib/redis/cache"
    assert cache["pidfile"] == "/run/redis-cache/redis-server.pid"
    fixed = dict(redis_settings(redis_file(made, "redis.conf.j2", "fixed")))
    assert (fixed["hz"], fixed["maxmemory"]) == ("5", "100mb")
    told = made.expression("__redis_list | map(attribute='unit')")
    assert told == ["redis-server", "redis-server@cache", "redis-server@fixed"]
    # Shown at higher verbosity.
    assert "password" not in str(made.expression("__redis_list"))


@pytest.mark.parametrize(
    ("plain", "before", "port"),
    [
        ("closed", "main plain", 0),
        ("keep", "main plain", 6379),
        ("keep", "", 0),
        ("open", "", 6379),
    ],
)
def test_redis_plain_port_beside_tls(role: Any, plain: str, before: str, port: int) -> None:
    made = role(
        "redis",
        redis_tls_certificate="/c",
        redis_tls_key="/k",
        redis_tls_plain=plain,
        __redis_before={"stdout_lines": [before]},
    )
    told = dict(redis_settings(redis_file(made, "redis.conf.j2")))
    assert (told["port"], told["tls-port"]) == (str(port), "6380")
    assert ("unixsocket" in told) is (port == 0)


@pytest.mark.parametrize(
    ("packages", "choice", "server"),
    [
        ([], "auto", "redis"),
        (["valkey-server"], "auto", "valkey"),
        (["redis-server"], "auto", "redis"),
        ([], "valkey", "valkey"),
    ],
)
def test_which_server(role: Any, packages: list[str], choice: str, server: str) -> None:
    made = role("redis", redis_server=choice)
    made.variables["ansible_facts"] = {
        **made.variables["ansible_facts"],
        "packages": dict.fromkeys(packages, [{"version": "1"}]),
    }
    assert made.expression("__redis_server") == server
    assert made.expression("__redis_list[0].path") == f"/etc/{server}/{server}.conf"


REFUSED = [
    ({"redis_bind": ["0.0.0.0"], "redis_password": "short"}, "open to the network"),
    ({"redis_memory_mb": 9999999}, "memory"),
    ({"redis_password": "a\nb"}, "password"),
    ({"redis_users": [{"name": "a b", "password": "c"}]}, "names of users"),
    ({"redis_users": [{"name": "default", "password": "c"}]}, "reserved names of users"),
    ({"redis_users": [{"name": "a", "password": ""}]}, "empty password"),
    ({"redis_users": [{"name": "a", "password": "b", "rules": "+get >x"}]}, "rules"),
    ({"redis_instances": [{"name": "main"}, {"name": "b", "port": 6379}]}, "ports only once"),
    ({"redis_instances": [{"name": "main"}, {"name": "main"}]}, "names only once"),
    ({"redis_instances": [{"name": "../x"}]}, "names of instances"),
    ({"redis_tls_certificate": "/c"}, "whole TLS"),
    ({"redis_tls_auth_clients": True}, "certificates of clients"),
    ({"redis_server": "valkey"}, "one kind of server"),
]


@pytest.mark.parametrize(("given", "name"), [({}, ""), *REFUSED])
def test_redis_refuses(role: Any, loader: Any, given: dict[str, Any], name: str) -> None:
    from pathlib import Path

    path = Path(__file__).resolve().parents[2] / "roles/redis/tasks/preflight.yml"
    tasks = loader.load_from_file(str(path), unsafe=False, trusted_as_template=True)
    checks = next(
        t["vars"]["__redis_checks"] for t in tasks if t["name"] == "Refuse what can't work"
    )
    made = role("redis", **{**ADMIN, **given})
    made.variables["ansible_facts"] = {
        **made.variables["ansible_facts"],
        "packages": {"redis-server": [{"version": "5:7.0.15-1"}]},
    }
    failed = [one["name"] for one in checks if not made.expression(one["that"].strip("{} \n"))]
    assert failed == ([name] if name else []) or (name and name in failed)


APP = {
    "gunicorn_app_name": "shop-1",
    "gunicorn_app_source": "/src",
    "gunicorn_app_wsgi": "wsgi:application",
}


def app_unit(made: Any, which: str = "slot") -> str:
    """The unit of one of the application's servers."""
    given = f"template_vars={{'__gunicorn_app_instance': __gunicorn_app_instance_of_{which}}}"
    return str(
        made.expression(f"lookup('ansible.builtin.template', 'instance.service.j2', {given})")
    )


@pytest.mark.parametrize(("which", "slot"), [("slot", "%i"), ("gate", "%i"), ("canary", "canary")])
@pytest.mark.parametrize("value", AWKWARD)
def test_the_unit_keeps_the_wsgi_name(role: Any, value: str, which: str, slot: str) -> None:
    wsgi = f"app:create_app({value!r})"
    text = app_unit(role("gunicorn_app", **{**APP, "gunicorn_app_wsgi": wsgi}), which)
    told = dict(section(text, "Service"))
    server, config = f"/srv/shop-1/slots/{slot}/.venv/bin/gunicorn", f"/etc/shop-1/slots/{slot}"
    words = as_systemd_splits(told["ExecStart"].replace("%i", "SLOT"))
    wanted = [server, "--config", f"{config}/gunicorn.conf.py", wsgi.replace("%i", "SLOT")]
    assert words == [word.replace("%i", "SLOT") for word in wanted]
    assert told["NonBlocking"] == "yes"


def test_another_server_is_a_command_of_the_release(role: Any) -> None:
    command = "uvicorn app:app --fd 3 --header 'X:100%'"
    made = role("gunicorn_app", **APP, gunicorn_app_command=command)
    told = dict(section(app_unit(made), "Service"))
    assert told["ExecStart"] == (
        "/srv/shop-1/slots/%i/.venv/bin/uvicorn app:app --fd 3 --header 'X:100%%'"
    )
    assert told["Type"] == "exec"
    assert made.expression("__gunicorn_app_recipe.needs") == "uvicorn"
    assert made.expression("__gunicorn_app_gated") is False


def test_limits_and_credentials_stand_in_the_unit(role: Any) -> None:
    made = role(
        "gunicorn_app",
        **APP,
        gunicorn_app_cpu_quota="150%",
        gunicorn_app_memory_max="1G",
        gunicorn_app_memory_low="200M",
        gunicorn_app_credentials={"b.key": "x", "a": "y"},
        gunicorn_app_unit_settings={"MemoryMax": "2G"},
    )
    told = section(app_unit(made), "Service")
    assert {("CPUQuota", "150%"), ("MemoryMax", "2G"), ("MemoryLow", "200M")} <= set(told)
    assert [value for name, value in told if name == "LoadCredential"] == [
        "a:/etc/shop-1/credentials/a",
        "b.key:/etc/shop-1/credentials/b.key",
    ]


@pytest.mark.parametrize(("version", "steps"), [("252.39-1~deb12u2", False), ("257.9-1", True)])
def test_the_back_off_grows_where_systemd_can(role: Any, version: str, steps: bool) -> None:
    made = role("gunicorn_app", **APP)
    made.variables["ansible_facts"] = {
        **made.variables["ansible_facts"],
        "packages": {"systemd": [{"version": version}]},
    }
    assert ("RestartSteps" in dict(section(app_unit(made), "Service"))) == steps


def celery_unit(made: Any, which: str) -> str:
    given = f"template_vars={{'__gunicorn_app_celery_unit': __gunicorn_app_celery_{which}}}"
    return str(made.expression(f"lookup('ansible.builtin.template', 'celery.service.j2', {given})"))


def test_celery_runs_in_the_same_sandbox(role: Any) -> None:
    given = {"app": "shop.celery", "queues": ["mail", "slow"], "arguments": "-O fair"}
    made = role("gunicorn_app", **APP, gunicorn_app_celery=given)
    told = section(celery_unit(made, "worker"), "Service")
    assert dict(told)["ExecStart"] == (
        "/srv/shop-1/slots/live/.venv/bin/celery --app shop.celery worker --hostname "
        "shop-1-%i@%%h --concurrency 4 --queues mail,slow --loglevel INFO -O fair"
    )
    web = section(app_unit(made), "Service")
    sandbox = {one for one in web if one[0].startswith(("Protect", "Private", "Restrict"))}
    assert sandbox - set(told) <= {("Restart", "on-failure"), ("RestartSec", "1")}
    names = [name for name, _ in told]
    assert len(set(names)) == len(names) - 1  # SystemCallFilter, twice
    assert "beat --schedule" in dict(section(celery_unit(made, "beat"), "Service"))["ExecStart"]


def test_the_units_settings_and_those_of_the_user(role: Any) -> None:
    given = {"MemoryMax": "300M", "ProtectHome": False, "ReadWritePaths": ["/a", "/b"]}
    text = app_unit(role("gunicorn_app", **APP, gunicorn_app_unit_settings=given))
    told = section(text, "Service")
    names = [name for name, _ in told]
    assert [value for name, value in told if name == "ReadWritePaths"] == ["/a", "/b"]
    assert ("MemoryMax", "300M") in told
    assert ("ProtectHome", "no") in told
    for name in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "RestrictNamespaces"):
        assert (name, "yes") in told
    assert ("CapabilityBoundingSet", "") in told
    assert len(set(names)) == len(names) - 2  # SystemCallFilter and ReadWritePaths, twice each
    assert "StartLimitIntervalSec" not in names
    assert ("StartLimitIntervalSec", "0") in section(text, "Unit")


@pytest.mark.parametrize(
    ("listen", "owned"), [("/run/shop-1.sock", True), ("10.0.0.9:8000", False)]
)
def test_the_socket(role: Any, listen: str, owned: bool) -> None:
    text = role("gunicorn_app", **APP, gunicorn_app_listen=listen).file("app.socket.j2")
    told = dict(section(text, "Socket"))
    assert told["ListenStream"] == listen
    assert ("SocketGroup" in told) == owned
    assert told.get("SocketMode") == ("0660" if owned else None)


@pytest.mark.parametrize("value", AWKWARD)
def test_the_environment_keeps_values(role: Any, value: str) -> None:
    text = role("gunicorn_app", **APP, gunicorn_app_environment={"KEY": value}).file(
        "environment.j2"
    )
    line = next(line for line in text.splitlines() if line.startswith("KEY="))
    assert line[4] == line[-1] == '"'
    assert re.sub(r'\\([\\"$`])', r"\1", line[5:-1]) == value
    assert not re.search(r'(?<!\\)(?:\\\\)*["$`]', line[5:-1])


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize("name", ["shop-1", "a"])
def test_gunicorns_settings_are_python(role: Any, name: str, preload: bool) -> None:
    given = {
        **APP,
        "gunicorn_app_name": name,
        "gunicorn_app_preload": preload,
        "gunicorn_app_max_requests": 1001,
    }
    text = role("gunicorn_app", **given).file("gunicorn.conf.py.j2")
    told: dict[str, Any] = {}
    exec(compile(text, "gunicorn.conf.py", "exec"), told)
    assert told["proc_name"] == name
    assert told["preload_app"] is preload
    assert told["workers"] == 3
    assert told["max_requests_jitter"] == 500
    assert told["accesslog"] is None
    assert told["errorlog"] == f"/var/log/gunicorn/{name.replace('-', '_')}_error.log"
    assert "bind" not in told


def blocks(text: str) -> str:
    """nginx's text without comments; its braces must match."""
    lines = [line for line in text.splitlines() if not line.strip().startswith("#")]
    depth = 0
    for number, line in enumerate(lines, 1):
        depth += line.count("{") - line.count("}")
        assert depth >= 0, f"line {number}: {line}"
        stripped = line.strip()
        assert not stripped or stripped[-1] in ";{}" or stripped.startswith(("log_format", "'")), (
            line
        )
    assert depth == 0
    return "\n".join(lines)


def nginx(role: Any, site: dict[str, Any], version: str = "1.22.1", **more: Any) -> tuple[str, str]:
    made = role("nginx", nginx_sites=[site], **more)
    made.variables["__nginx_asked"] = {"stdout": f"nginx version: nginx/{version}"}
    files = {file["path"]: file["content"] for file in made.expression("__nginx_files")}
    return (
        blocks(files["/etc/nginx/nginx.conf"]),
        blocks(files[f"/etc/nginx/sites-enabled/{site['name']}.conf"]),
    )


PLAIN = {"name": "shop-1.main", "upstream": ["unix:/run/shop.sock"]}


def test_a_plain_site(role: Any) -> None:
    _, text = nginx(role, PLAIN)
    assert "upstream shop_1_main {" in text
    assert "server unix:/run/shop.sock max_fails=3" in text
    assert "listen 80 default_server;" in text
    assert "server_name _;" in text
    assert "[::]" not in text
    assert "ssl" not in text
    assert "location = /health {" in text
    assert "location /socket.io/ {" in text


def test_a_site_with_ipv6(role: Any) -> None:
    made = role("nginx", nginx_sites=[PLAIN])
    facts = {**made.variables["ansible_facts"], "default_ipv6": {"address": "2001:db8::1"}}
    made.variables["ansible_facts"] = facts
    files = {file["path"]: file["content"] for file in made.expression("__nginx_files")}
    site = files["/etc/nginx/sites-enabled/shop-1.main.conf"]
    assert "listen [::]:80 default_server;" in site


def test_a_site_with_tls_and_names(role: Any) -> None:
    site = {
        **PLAIN,
        "server_names": ["shop.example", "*.shop.example"],
        "tls_certificate": "/etc/ssl/shop.pem",
        "tls_certificate_key": "/etc/ssl/shop.key",
        "tls_port": 8443,
    }
    main, text = nginx(role, site)
    assert "listen 80;" in text
    assert "listen 8443 ssl http2;" in text
    assert "http2 on;" not in text
    newer = nginx(role, site, "1.26.3")[1]
    assert "listen 8443 ssl;" in newer
    assert newer.count("http2 on;") == 1
    # Host names that no site has are refused on both ports, by TLS where nginx can.
    assert re.search(r"listen 80 default_server;\s+server_name _;.*?return 444;", main, re.S)
    refusing = r"listen 8443 ssl http2 default_server;.*?ssl_reject_handshake on;"
    assert re.search(refusing, main, re.S)
    assert "ssl_reject_handshake" not in nginx(role, site, "1.18.0")[0]
    assert "return 444" not in nginx(role, site, nginx_unknown_hosts="first")[0]
    assert "return 444" not in nginx(role, site, nginx_remove_default_site=False)[0]
    assert text.count("server_name shop.example *.shop.example;") == 2
    assert "return 308 https://$host:8443$request_uri;" in text
    assert "ssl_certificate /etc/ssl/shop.pem;" in text
    assert "Strict-Transport-Security" not in text
    assert "default_server" not in text
    told = nginx(role, {**site, "hsts_max_age": 300, "hsts_subdomains": True})[1]
    assert 'Strict-Transport-Security "max-age=300; includeSubDomains" always;' in told


def test_a_site_with_many_upstreams_and_everything_else(role: Any) -> None:
    upstream = [f"10.0.0.{number}:8000" for number in range(1, 31)]
    site = {
        **PLAIN,
        "upstream": upstream,
        "rate_limits": [
            {"path": "/api/", "rate": "100r/m"},
            {"path": "/auth/", "rate": "10r/m", "burst": 3},
            {"path": "/one/", "rate": "1r/s", "burst": 0},
        ],
        "websocket_paths": [],
        "quiet_paths": [],
        "restricted_paths": [{"path": "/metrics", "allow": ["10.0.0.0/8", "127.0.0.1"]}],
        "static": [{"url": "/static/", "path": "/srv/static"}],
        "content_security_policy": "default-src 'self'; img-src 'self' data:",
    }
    main, text = nginx(
        role, site, nginx_rate_limit_allow=["192.0.2.1"], nginx_real_ip_from=["10.1.0.0/16"]
    )
    for server in upstream:
        assert text.count(f"server {server} ") == 2
    assert "zone=shop_1_main_1:10m rate=100r/m;" in text
    assert "zone=shop_1_main_1 burst=20 nodelay;" in text
    assert "zone=shop_1_main_2 burst=3 nodelay;" in text
    assert "limit_req zone=shop_1_main_3;" in text
    assert "socket.io" not in text
    assert "location = " not in text
    assert "listen 80 default_server" not in main
    assert text.index("allow 127.0.0.1;") < text.index("deny all;")
    assert "alias /srv/static/;" in text
    assert "expires 1d;" in text
    assert """''      "default-src 'self'; img-src 'self' data:";""" in text
    assert "192.0.2.1 0;" in main
    assert "set_real_ip_from 10.1.0.0/16;" in main


def nginx_checks(role: Any, **arguments: Any) -> str:
    made = role("nginx", **arguments)
    found = made.expression("__nginx_checks | rejectattr('that') | map(attribute='message') | list")
    return "\n".join(found)


def test_nginx_sites_that_go_together(role: Any) -> None:
    sites = [
        {**PLAIN, "server_names": ["a.example", "*.a.example"]},
        {**PLAIN, "name": "two", "server_names": ["b.example"], "tls": "self_signed"},
        {**PLAIN, "name": "three", "server_names": ["a.example"], "port": 81, "tls": "none"},
        {"name": "four", "upstream": ["a:1", "b:1"], "drained": ["b:1"], "port": 82},
    ]
    assert nginx_checks(role, nginx_sites=sites) == ""
    assert nginx_checks(role) == ""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([{**PLAIN, "name": "Shop"}], "one of Shop does not"),
        (
            [{"name": "a-b"}, {"name": "a.b", "port": 81}],
            "a-b and a.b both have the short name a_b",
        ),
        (
            [
                {"name": "a", "server_names": ["x.example"]},
                {"name": "b", "server_names": ["y.example", "X.example"]},
            ],
            "a and b both have the host name x.example on port 80",
        ),
        (
            [
                {"name": "a", "server_names": ["x.example"], "tls": "self_signed"},
                {"name": "b", "server_names": ["x.example"], "tls": "self_signed", "port": 81},
            ],
            "the host name x.example on port 443",
        ),
        (
            [{"name": "a"}, {"name": "b"}],
            "only one site of a port may be without server_names; a, b",
        ),
        ([{"name": "a", "upstream": ["/run/x"]}], "unix:/path or address:port"),
        ([{"name": "a", "drained": ["127.0.0.1:9"]}], "a has no upstream 127.0.0.1:9"),
        ([{"name": "a", "drained": ["unix:/run/shop.sock"]}], "a would have no upstream left"),
        ([{"name": "a", "tls_certificate": "/x"}], "go together"),
        ([{"name": "a", "tls": "given"}], "tls: given needs tls_certificate"),
        ([{"name": "a", "tls": "content"}], "an entry of nginx_certificates"),
        ([{"name": "a", "tls": "acme"}], "tls: acme needs server_names"),
        ([{"name": "a", "tls": "acme", "server_names": ["*.x.example"]}], "none of them with a *"),
        ([{"name": "a", "canary": {"percent": 101}}], "percent is 0 to 100"),
        ([{"name": "a", "canary": {"percent": -1}}], "percent is 0 to 100"),
        ([{"name": "a", "canary": {"sticky": "cookie:a b"}}], "cookie:NAME, header:NAME"),
        ([{"name": "a", "canary": {"upstream": ["x"]}}], "unix:/path or address:port"),
        ([{"name": "a", "release": "a;b"}], "release takes letters"),
        ([{"name": "a", "release": "r1", "canary": {"release": "r1"}}], "is another than"),
        ([{"name": "a", "snippets": [{"name": "../x", "content": ""}]}], "snippets: a name takes"),
    ],
)
def test_nginx_sites_that_cannot_work_are_told(
    role: Any, wrong: list[dict[str, Any]], said: str
) -> None:
    assert said in nginx_checks(role, nginx_sites=[{**PLAIN, **site} for site in wrong])


def test_certificates_are_made_again_before_they_are_warned_of(role: Any) -> None:
    sites = [{**PLAIN, "tls": "self_signed"}]
    assert nginx_checks(role, nginx_sites=sites, nginx_self_signed_days=66) == ""
    for more in ({"nginx_self_signed_days": 60}, {"nginx_certificate_warn_days": 30}):
        assert "is too short" in nginx_checks(role, nginx_sites=sites, **more)
    assert nginx_checks(role, nginx_sites=[PLAIN], nginx_self_signed_days=5) == ""


def test_a_site_of_which_a_share_of_the_visitors_gets_a_canary(role: Any) -> None:
    canary = {"upstream": ["unix:/run/new.sock"], "percent": 12.5, "release": "r2"}
    site = {**PLAIN, "canary": canary, "cache": [{"path": "/x", "bypass_cookies": []}]}
    _, text = nginx(role, site)
    assert re.search(r"split_clients \$shop_1_main_visitor .*?12.5% r2;\s+\* stable;", text, re.S)
    assert "server unix:/run/shop.sock max_fails=3 fail_timeout=5s backup;" in text
    assert "proxy_pass http://shop_1_main;" not in text
    assert text.count("proxy_pass http://$shop_1_main_target;") == 3
    assert "proxy_pass http://$shop_1_main_sticky_target;" in text
    assert 'proxy_cache_key "$scheme$host$request_uri $golive_release";' in text
    for off in ({**canary, "percent": 0}, {**canary, "upstream": []}):
        _, text = nginx(role, {**PLAIN, "canary": off})
        assert "canary" not in text and "visitor" not in text and "/run/new.sock" not in text
    _, text = nginx(role, {**PLAIN, "canary": {**canary, "percent": 100}})
    assert "split_clients" not in text
    _, text = nginx(role, {**PLAIN, "canary": {**canary, "sticky": "header:X-User-Id"}})
    assert "map $http_x_user_id $shop_1_main_visitor" in text
    _, text = nginx(role, {**PLAIN, "canary": {**canary, "sticky": "cookie:a-b"}})
    assert "Set-Cookie" not in text and r"a\-b=(?<shop_1_main_cookie>" in text


def test_a_drained_upstream_is_down_everywhere(role: Any) -> None:
    site = {"name": "a", "upstream": ["x:1", "y:1"], "drained": ["y:1", "z:1"]}
    site["canary"] = {"upstream": ["z:1"], "percent": 5}
    _, text = nginx(role, site)
    told = re.findall(r"server (\S+) max_fails=3 fail_timeout=5s( backup)?( down)?;", text)
    assert told == [
        ("x:1", "", ""),
        ("y:1", "", " down"),
        ("x:1", "", ""),
        ("y:1", "", " down"),
        ("z:1", "", " down"),
        ("x:1", " backup", ""),
        ("y:1", " backup", " down"),
        ("z:1", "", " down"),
    ]


def test_a_cached_path_keeps_its_limit(role: Any) -> None:
    limits = [{"path": "/api/", "rate": "1r/s"}, {"path": "/api/slow/", "rate": "2r/s"}]
    for path, zone in (("/api/stats", 1), ("/api/", 1), ("/api/slow/x", 2), ("/front", 0)):
        site = {**PLAIN, "rate_limits": limits, "cache": [{"path": path}]}
        main, text = nginx(role, site)
        assert "keys_zone=golive_cache:10m" in main
        assert text.count(f"location {path} {{") == 1
        block = text[text.index(f"location {path} {{") :].split("}")[0]
        assert re.findall(r"limit_req zone=shop_1_main_(\d)", block) == [str(zone)] * bool(zone)
    assert "proxy_cache_path" not in nginx(role, PLAIN)[0]


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        ([], ["localhost"]),
        (["a.example", "b.example"], ["a.example"]),
        (["*.a.example"], ["www.a.example"]),
        ([".a.example"], ["www.a.example"]),
        (["~^x", "mail.*"], ["mail.example"]),
        (["~^x"], []),
    ],
)
def test_a_site_is_asked_by_a_name_that_it_has(
    role: Any, names: list[str], asked: list[str]
) -> None:
    made = role("nginx", nginx_sites=[{**PLAIN, "server_names": names, "tls": "self_signed"}])
    for name, key in (("__nginx_probed", "host"), ("__nginx_inspected", "server_name")):
        assert [one[key] for one in made.expression(name)] == asked


@pytest.mark.parametrize(
    ("upstream", "private"),
    [("unix:/run/a.sock", "yes"), ("unix:/tmp/a.sock", "no"), ("unix:/var/tmp/a.sock", "no")],
)
def test_a_confined_nginx_sees_its_upstreams(role: Any, upstream: str, private: str) -> None:
    text = role("nginx", nginx_sites=[{"name": "a", "upstream": [upstream]}]).file(
        "hardening.conf.j2"
    )
    assert f"PrivateTmp={private}\n" in text
    assert "ReadWritePaths=/run /var/log/nginx /var/lib/nginx -/var/cache/nginx\n" in text


def test_the_main_file(role: Any) -> None:
    main = role("nginx", nginx_status_listen="", nginx_worker_connections=100).file("nginx.conf.j2")
    blocks(main)
    assert "stub_status" not in main
    assert "worker_rlimit_nofile 200;" in main
    assert "real_ip_header" not in main


@pytest.mark.parametrize("name", ["shop", "odd name's", 'a "b"', "ü", "{{ x }}"])
def test_the_backup_program_gets_all_settings_it_knows(role: Any, name: str) -> None:
    from dataclasses import fields

    from ansible_collections.golive.webstack.plugins.module_utils.backup.common import Settings

    made = role("backup", backup_databases=[name], backup_folder="/srv/a b's")
    told = json.loads(made.expression("__backup_settings | to_nice_json(ensure_ascii=false)"))
    assert set(told) == {field.name for field in fields(Settings)}
    assert told["databases"] == [name]
    assert told["folder"] == "/srv/a b's"
    assert told["repositories"] == [1]
    assert (told["port"], told["retention_days"]) == (5432, 30)
    assert "pass" not in json.dumps(list(told))


def test_the_backup_program_is_brought_whole(role: Any) -> None:
    from pathlib import Path

    source = Path(__file__).resolve().parents[2] / "plugins/module_utils/backup"
    brought = {
        file["path"]: file["content"]
        for file in role("backup").expression("__backup_program_files")
    }
    assert brought == {
        f"/usr/local/lib/golive/golive_backup/{path.name}": path.read_text()
        for path in source.glob("*.py")
    }
    ast.parse(role("backup").file("golive-backup.j2"))


def test_the_backup_units(role: Any) -> None:
    jobs = {job["unit"]: job for job in role("backup").expression("__backup_jobs")}
    made = role("backup", __backup_job=jobs["golive-backup"])
    timer = dict(section(made.file("job.timer.j2"), "Timer"))
    assert timer["OnCalendar"] == "*-*-* 02:00:00 UTC"
    assert timer["Persistent"] == "true"
    service = section(made.file("job.service.j2"), "Service")
    assert dict(service)["ExecStart"] == "/usr/local/sbin/golive-backup run"
    assert dict(service)["RestrictAddressFamilies"] == "AF_UNIX"
    assert ("ReadWritePaths", '"-/var/backups/golive"') in service
    odd = role(
        "backup", backup_folder="/srv/50% of 'it' ü", backup_s3_endpoint="s3.example",
        __backup_job=jobs["golive-backup-full"],
    )  # fmt: skip
    service = section(odd.file("job.service.j2"), "Service")
    assert ("ReadWritePaths", """"-/srv/50%% of 'it' ü\"""") in service
    assert dict(service)["RestrictAddressFamilies"] == "AF_UNIX AF_INET AF_INET6"
    assert role("backup", backup_drill_schedule="").expression("__backup_timers") == [
        f"golive-backup{name}.timer" for name in ("", "-full", "-diff", "-check")
    ]


def test_the_settings_of_pgbackrest(role: Any) -> None:
    given = {
        "backup_databases": ["shop"],
        "__backup_secrets": {"secrets": {"backup_cipher_pass": "p=#;'\"%"}},
        "__backup_clusters": {"stdout_lines": ["15 main 5432 online postgres /srv/pg /x.log"]},
        "__backup_disk": {"stdout_lines": ["  1MB-blocks", "  40000"]},
    }
    local = dict(
        line.split("=", 1)
        for line in role("backup", **given).file("pgbackrest.conf.j2").splitlines()
        if "=" in line and not line.startswith("#")
    )
    assert local["repo1-cipher-pass"] == "p=#;'\"%"
    assert local["pg1-path"] == "/srv/pg"
    assert local["archive-push-queue-max"] == "10000MiB"
    assert local["repo1-retention-full-type"] == "time"
    assert not [key for key in local if key.startswith("repo2")]
    remote = role(
        "backup", **given, backup_s3_endpoint="s3:9", backup_s3_bucket="b", backup_s3_key="k",
        backup_s3_secret="s/+=", backup_s3_path="/shop/", backup_s3_verify_tls=False,
    ).file("pgbackrest.conf.j2")  # fmt: skip
    for line in (
        "repo2-path=/shop/pgbackrest", "repo2-s3-key-secret=s/+=", "repo2-s3-uri-style=path",
        "repo2-storage-verify-tls=n", "repo2-cipher-type=aes-256-cbc",
    ):  # fmt: skip
        assert line in remote.splitlines()
    assert "ca-file" not in remote


@pytest.mark.parametrize("url", ["http://a/?x='1'&y=\"2\"", "https://a/%20$HOME{{ x }}\\"])
def test_the_health_program_is_python_and_asks_what_it_should(role: Any, url: str) -> None:
    checks = [{"name": "shop", "url": url, "host": "shop.example", "timeout": 3}]
    text = role("monitoring", monitoring_health_checks=checks).file("golive-health.py.j2")
    told: dict[str, Any] = {"__name__": "golive_health"}
    exec(compile(text, "golive-health", "exec"), told)
    assert told["CHECKS"] == checks
    assert '{{name="{check["name"]}",site="{check.get("site") or check["name"]}"}}' in text


def test_the_monitoring_units(role: Any) -> None:
    made = role("monitoring", monitoring_health_interval="*:0/7")
    assert dict(section(made.file("golive-health.timer.j2"), "Timer"))["OnCalendar"] == "*:0/7"
    arguments = made.file("node-exporter.j2")
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string("[x]\n" + arguments)
    assert "--web.listen-address=127.0.0.1:9100 " in parser["x"]["args"]


def test_a_rotation_entry_with_its_defaults(role: Any) -> None:
    entries = [{"name": "shop", "paths": ["/var/log/shop/*.log", "/var/log/a b/*.log"]}]
    files = role("logrotate", logrotate_entries=entries).expression("__logrotate_files")
    assert [file["path"] for file in files] == ["/etc/logrotate.d/shop"]
    lines = [line.strip() for line in files[0]["content"].splitlines()]
    assert '"/var/log/a b/*.log"' in lines
    for line in ("daily", "rotate 14", "create 0640 www-data adm", "compress", "sharedscripts"):
        assert line in lines
    assert "postrotate" not in lines
    assert not [line for line in lines if line.startswith(("su", "maxsize"))]
    shlex.split(files[0]["validate"])


def test_a_rotation_entry_with_everything(role: Any) -> None:
    entry = {
        "name": "shop", "paths": ["/a.log"], "frequency": "hourly", "rotate": 3, "maxsize": "1M",
        "create": "0600 a b", "su": "a b", "postrotate": "kill -USR1 $(cat /run/a.pid) || true",
    }  # fmt: skip
    files = role("logrotate", logrotate_entries=[entry]).expression("__logrotate_files")
    lines = [line.strip() for line in files[0]["content"].splitlines()]
    for line in ("hourly", "rotate 3", "maxsize 1M", "create 0600 a b", "su a b"):
        assert line in lines
    start = lines.index("postrotate")
    assert lines[start : start + 3] == ["postrotate", entry["postrotate"], "endscript"]


@pytest.mark.parametrize(
    "role_name",
    [
        "postgres",
        "redis",
        "gunicorn_app",
        "nginx",
        "logrotate",
        "monitoring",
        "backup",
        "certificates",
    ],
)
def test_every_file_says_who_writes_it(role: Any, role_name: str) -> None:
    from pathlib import Path

    folder = Path(__file__).resolve().parents[2] / "roles" / role_name / "templates"
    for path in folder.rglob("*.j2"):
        head = path.read_text().splitlines()[:2]
        assert "{{ ansible_managed | comment }}" in head, path
