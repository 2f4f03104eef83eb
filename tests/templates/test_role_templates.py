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
    made.variables["__postgres_clusters"] = {"stdout_lines": ["13"]}
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
    assert lines[-2:] == [
        ["host", name, name, "10.0.0.5/32", "scram-sha-256"],
        ["local", name, name, "peer"],
    ]
    assert lines[0] == ["local", "all", "postgres", "peer"]
    assert not [line for line in lines if line[-1] == "trust"]


def redis_settings(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def test_redis_settings(role: Any) -> None:
    given = {
        "notify-keyspace-events": "",
        "lazyfree-lazy-eviction": True,
        "hz": 20,
        "rename-command": ["FLUSHALL x", "FLUSHDB y"],
    }
    told = redis_settings(
        role("redis", redis_settings=given, redis_bind=["127.0.0.1", "10.0.0.5"]).file(
            "redis.conf.j2"
        )
    )
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
    told = redis_settings(role("redis", redis_password=password).file("golive-auth.conf.j2"))
    assert [name for name, _ in told] == ["requirepass"]
    quoted = told[0][1]
    assert quoted[0] == quoted[-1] == '"'
    assert re.sub(r"\\(.)", r"\1", quoted[1:-1]) == password


def test_redis_without_a_password_has_none(role: Any) -> None:
    assert redis_settings(role("redis").file("golive-auth.conf.j2")) == []


APP = {
    "gunicorn_app_name": "shop-1",
    "gunicorn_app_source": "/src",
    "gunicorn_app_wsgi": "wsgi:application",
}


@pytest.mark.parametrize("value", AWKWARD)
def test_the_unit_keeps_the_wsgi_name(role: Any, value: str) -> None:
    wsgi = f"app:create_app({value!r})"
    text = role("gunicorn_app", **{**APP, "gunicorn_app_wsgi": wsgi}).file("app.service.j2")
    command = dict(section(text, "Service"))["ExecStart"]
    assert as_systemd_splits(command) == [
        "/srv/shop-1/current/.venv/bin/gunicorn", "--config", "/etc/shop-1/gunicorn.conf.py", wsgi,
    ]  # fmt: skip


def test_the_units_settings_and_those_of_the_user(role: Any) -> None:
    given = {"MemoryMax": "300M", "ProtectHome": False, "ReadWritePaths": ["/a", "/b"]}
    text = role("gunicorn_app", **APP, gunicorn_app_unit_settings=given).file("app.service.j2")
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


def nginx(role: Any, site: dict[str, Any], **more: Any) -> tuple[str, str]:
    files = role("nginx", nginx_sites=[site], **more).expression("__nginx_files")
    assert [file["path"] for file in files] == [
        "/etc/nginx/nginx.conf",
        f"/etc/nginx/sites-enabled/{site['name']}.conf",
    ]
    assert all("%s" in file["validate"] for file in files)
    for file in files:
        shlex.split(file["validate"])
    return blocks(files[0]["content"]), blocks(files[1]["content"])


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
    assert "listen [::]:80 default_server;" in made.expression("__nginx_files")[1]["content"]


def test_a_site_with_tls_and_names(role: Any) -> None:
    site = {
        **PLAIN,
        "server_names": ["shop.example", "*.shop.example"],
        "tls_certificate": "/etc/ssl/shop.pem",
        "tls_certificate_key": "/etc/ssl/shop.key",
        "tls_port": 8443,
    }
    _, text = nginx(role, site)
    assert "listen 80;" in text
    assert re.search(r"listen 8443 ssl( http2)?;", text)
    assert text.count("server_name shop.example *.shop.example;") == 2
    assert "return 308 https://$host:8443$request_uri;" in text
    assert "ssl_certificate /etc/ssl/shop.pem;" in text
    assert "Strict-Transport-Security" in text
    assert "default_server" not in text


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
    assert text.index("allow 127.0.0.1;") < text.index("deny all;")
    assert "alias /srv/static/;" in text
    assert "expires 1d;" in text
    assert """''      "default-src 'self'; img-src 'self' data:";""" in text
    assert "192.0.2.1 0;" in main
    assert "set_real_ip_from 10.1.0.0/16;" in main


def test_the_main_file(role: Any) -> None:
    main = role("nginx", nginx_status_listen="", nginx_worker_connections=100).file("nginx.conf.j2")
    blocks(main)
    assert "stub_status" not in main
    assert "worker_rlimit_nofile 200;" in main
    assert "real_ip_header" not in main


@pytest.mark.parametrize("name", ["shop", "odd name's", 'a "b"', "ü", "{{ x }}"])
def test_the_backup_program_is_python_and_has_its_settings(role: Any, name: str) -> None:
    text = role("backup", backup_databases=[name], backup_folder="/srv/a b's").file(
        "golive-backup.py.j2"
    )
    tree = ast.parse(text)
    settings = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SETTINGS"
    )
    assert isinstance(settings, ast.Call)
    told = json.loads(ast.literal_eval(settings.args[0]))
    assert told["databases"] == [name]
    assert told["folder"] == "/srv/a b's"
    assert told["retention_days"] == 30


def test_the_backup_units(role: Any) -> None:
    made = role("backup")
    assert dict(section(made.file("golive-backup.timer.j2"), "Timer"))["OnCalendar"] == (
        "*-*-* 02:00:00 UTC"
    )
    service = dict(section(made.file("golive-backup.service.j2"), "Service"))
    assert service["User"] == "postgres"
    assert service["ReadWritePaths"] == '"/var/backups/golive"'
    odd = role("backup", backup_folder="/srv/50% of 'it' ü").file("golive-backup.service.j2")
    assert dict(section(odd, "Service"))["ReadWritePaths"] == """"/srv/50%% of 'it' ü\""""


@pytest.mark.parametrize("url", ["http://a/?x='1'&y=\"2\"", "https://a/%20$HOME{{ x }}\\"])
def test_the_health_program_is_python_and_asks_what_it_should(role: Any, url: str) -> None:
    checks = [{"name": "shop", "url": url, "host": "shop.example", "timeout": 3}]
    text = role("monitoring", monitoring_health_checks=checks).file("golive-health.py.j2")
    told: dict[str, Any] = {"__name__": "golive_health"}
    exec(compile(text, "golive-health", "exec"), told)
    assert told["CHECKS"] == checks
    assert '{{name="{check["name"]}"}}' in text


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
    "role_name", ["postgres", "redis", "gunicorn_app", "nginx", "logrotate", "monitoring", "backup"]
)
def test_every_file_says_who_writes_it(role: Any, role_name: str) -> None:
    from pathlib import Path

    folder = Path(__file__).resolve().parents[2] / "roles" / role_name / "templates"
    for path in folder.rglob("*.j2"):
        head = path.read_text().splitlines()[:2]
        assert "{{ ansible_managed | comment }}" in head, path
