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
