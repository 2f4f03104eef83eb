# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks. Each takes the host and its parameters, and tells what it asked and what was said."""

from __future__ import annotations

# A command's exit code and errors are often of no interest.
# pylint: disable=disallowed-name
import base64
import contextlib
import datetime
import glob
import json
import os
import pwd
import re
import shutil
import ssl
import stat
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible_collections.golive.webstack.plugins.module_utils import request_stats

from .host import Answer, Host, need, shortened
from .model import Failed, Found, NotApplicable, Undecided, compare

Params = Mapping[str, Any]
Check = Callable[[Host, Params], list[Found]]
CHECKS: dict[str, Check] = {}
PROMETHEUS_PASSWORD = "/etc/prometheus/golive-password"


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _age(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(0, seconds):.0f} seconds"


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


@check
def packages(host: Host, params: Params) -> list[Found]:
    """`any`: one of these is installed, at least in version `minimum`."""
    names = _list(params["any"])
    _, out, _ = host.run(["dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Status}\\n",
                          *names])  # fmt: skip
    there = [words for words in map(str.split, out.splitlines()) if words[-1:] == ["installed"]]
    asked = f"dpkg-query -W {' '.join(names)}"
    if not there:
        raise Failed(f"none of {', '.join(names)} is installed", asked)
    for name, version, _ in there:
        if "minimum" in params:
            code, _, _ = host.run(["dpkg", "--compare-versions", version, "ge",
                                   str(params["minimum"])])  # fmt: skip
            if code != 0:
                return [Found(asked, f"{name} {version}", f"older than {params['minimum']}")]
    return [Found(asked, ", ".join(f"{name} {version}" for name, version, _ in there))]


@check
def services(host: Host, params: Params) -> list[Found]:
    """`units` are active, and with `enabled` come back after a reboot."""
    found = []
    units = _list(params["units"])
    if not units:
        raise Failed("no unit is named")
    for unit in units:
        wanted = "LoadState,ActiveState,SubState,UnitFileState,ActiveEnterTimestamp"
        _, out, _ = host.run(["systemctl", "show", "-p", wanted, "--", unit])
        told = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        problem = ""
        if told.get("LoadState") != "loaded":
            problem = f"{unit} is not there ({told.get('LoadState', 'no answer of systemd')})"
        elif told["ActiveState"] != "active":
            problem = f"{unit} is {told['ActiveState']} ({told['SubState']})"
        elif params.get("enabled") and told["UnitFileState"] not in (
            "enabled", "enabled-runtime", "static", "generated", "indirect", "alias",
        ):  # fmt: skip
            problem = f"{unit} is {told['UnitFileState']}, so a reboot would not bring it back"
        said = f"{told.get('ActiveState')}, {told.get('UnitFileState')}, since "
        said += f"{told.get('ActiveEnterTimestamp') or 'never'}"
        found.append(Found(f"systemctl show {unit}", said, problem))
    return found


@check
def sql(host: Host, params: Params) -> list[Found]:
    """`query` has rows of true or false and a text; each has to be true."""
    rows = host.sql(params["query"], str(params.get("database", "")))
    asked = shortened(params["query"])
    if not rows:
        raise Failed("no row", asked)
    said = "; ".join(row[1] if len(row) > 1 else row[0] for row in rows)
    if all(row[0] == "t" for row in rows):
        return [Found(asked, shortened(said))]
    wrong = [row[1] if len(row) > 1 else row[0] for row in rows if row[0] != "t"]
    return [Found(asked, shortened(said), f"not as wanted: {'; '.join(wrong[:10])}")]


_INDEXES = """
SELECT t.relname, coalesce((SELECT string_agg(a.attname, ',' ORDER BY k.ord) FROM
 unnest(i.indkey::int[]) WITH ORDINALITY AS k(num, ord)
 JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.num), ''),
 c.relname, i.indisvalid AND i.indisready
FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'golive_webstack')
"""


@check
def indexes(host: Host, params: Params) -> list[Found]:
    """Each of `wanted` is covered by a valid index; no index is invalid."""
    wanted = _list(params["wanted"])
    there = [(table, columns.split(","), name, valid == "t")
             for table, columns, name, valid in host.sql(_INDEXES)]  # fmt: skip
    asked = f"pg_index of {host.context['database_name']}"
    invalid = [name for _, _, name, valid in there if not valid]
    lacking = []
    for one in wanted:
        columns = [str(column) for column in one.get("columns", [])]
        if columns and not any(
            table == one["table"] and valid and has[: len(columns)] == columns
            for table, has, _, valid in there
        ):
            lacking.append(f"{one['table']} ({', '.join(columns)})")
    said = f"{len(there)} indexes, {len(invalid)} invalid; {len(wanted) - len(lacking)} of"
    said += f" {len(wanted)} that were asked for are there"
    problem = ""
    if invalid:
        problem = f"invalid: {', '.join(invalid)}"
    if lacking:
        problem = "; ".join(filter(None, [problem, f"no index on {', '.join(lacking)}"]))
    if not there:
        problem = "there is no index at all"
    return [Found(asked, said, problem)]


@check
def redis(host: Host, params: Params) -> list[Found]:
    """`info` figures keep to bounds, `settings` have values; `server` says which, else all."""
    clients = host.redis()
    wanted = params.get("server")
    found = []
    for name, client in clients.items():
        if wanted and name != wanted:
            continue
        info = client.info()
        if "ping" in params and client.call("PING") != "PONG":
            found.append(Found(f"PING {name}", "", "no PONG"))
        said = [f"{info.get('server_name', 'redis')} {info.get('redis_version')}",
                f"up {info.get('uptime_in_days')} days"]  # fmt: skip
        problem = []
        for figure, bound in dict(params.get("info", {})).items():
            value = info.get(figure, "")
            said.append(f"{figure} {value}")
            number = float(re.sub(r"[^0-9.].*", "", value) or "nan")
            if not compare(number, bound):
                problem.append(f"{figure} is {value or 'unknown'}, wanted {bound}")
        settings = client.settings() if params.get("settings") else {}
        for setting, pattern in dict(params.get("settings", {})).items():
            value = settings.get(setting, "")
            said.append(f"{setting} {value}")
            if not re.fullmatch(str(pattern), value):
                problem.append(f"{setting} is '{value}', wanted {pattern}")
        if "user" in params:
            users = client.call("ACL", "LIST")
            lines = [str(one) for one in users] if isinstance(users, list) else []
            mine = [one for one in lines if one.split()[1:2] == [str(params["user"])]]
            said.append(
                f"user {params['user']} {'on' if mine and ' on ' in mine[0] else 'missing'}"
            )
            if not mine or " on " not in mine[0]:
                problem.append(f"there is no user {params['user']}")
        if "clients_of" in params:
            told = str(client.call("CLIENT", "LIST"))
            count = len(re.findall(rf"\buser={re.escape(str(params['clients_of']))}\b", told))
            said.append(f"{count} connections of {params['clients_of']}")
            if not count:
                problem.append(f"no connection of {params['clients_of']}")
        if "latency_ms" in params:
            times = []
            for _ in range(100):
                began = time.perf_counter()
                client.call("PING")
                times.append(1000 * (time.perf_counter() - began))
            middle = statistics.median(times)
            said.append(f"100 PINGs: median {middle:.2f} ms, longest {max(times):.2f} ms")
            if not compare(middle, params["latency_ms"]):
                problem.append(f"the median is {middle:.2f} ms, wanted {params['latency_ms']}")
        client.close()
        found.append(Found(f"INFO of {name} at {client.address}", ", ".join(said),
                           "; ".join(problem)))  # fmt: skip
    if not found:
        raise Failed(f"there is no server '{wanted}'; there are {', '.join(clients)}")
    return found


@check
def hit_ratio(host: Host, params: Params) -> list[Found]:
    """Hits of all reads in percent, once there were enough reads."""
    hits = misses = 0
    for client in host.redis().values():
        info = client.info("stats")
        hits += int(info["keyspace_hits"])
        misses += int(info["keyspace_misses"])
        client.close()
    asked = "INFO stats: keyspace_hits, keyspace_misses"
    if hits + misses < int(params["reads"]):
        return [Found(asked, f"{hits} hits, {misses} misses",
                      f"fewer than {params['reads']} reads, which prove nothing yet")]  # fmt: skip
    ratio = 100 * hits / (hits + misses)
    said = f"{hits} hits, {misses} misses: {ratio:.1f} %"
    problem = "" if compare(ratio, params["percent"]) else f"wanted {params['percent']} %"
    return [Found(asked, said, problem)]


def _site(host: Host, params: Params) -> tuple[str, dict[str, str]]:
    """Address and headers: through the proxy on this host, or at the application's own door."""
    headers = {"Host": str(host.context["host_header"]), "Accept": "*/*",
               **dict(params.get("request", {}))}  # fmt: skip
    path = str(params.get("path", "/"))
    if params.get("via", "proxy") == "app":
        listen = str(host.context["app_listen"])
        headers["X-Forwarded-Proto"] = str(host.context["scheme"])
        return (f"unix:{listen}|{path}" if listen.startswith("/") else f"http://{listen}{path}",
                headers)  # fmt: skip
    return f"{params.get('base') or host.context['site_url']}{path}", headers


def _judge(answer: Answer, params: Params) -> list[str]:
    problem = []
    statuses = [int(one) for one in _list(params.get("status", 200))]
    if answer.status not in statuses:
        problem.append(f"status {answer.status}, wanted {', '.join(map(str, statuses))}")
    for name, pattern in dict(params.get("headers", {})).items():
        value = answer.headers.get(name.lower())
        if value is None or not re.search(str(pattern), value):
            problem.append(f"{name} is {'missing' if value is None else repr(value)}")
    if "body" in params and not re.search(str(params["body"]), answer.text()):
        problem.append(f"the answer has nothing like {params['body']}")
    if "items_at_most" in params:
        try:
            told = json.loads(answer.text())
            rows = told if isinstance(told, list) else told[params.get("items", "items")]
            if len(rows) > int(params["items_at_most"]):
                problem.append(f"{len(rows)} rows, wanted {params['items_at_most']} at most")
        except (ValueError, KeyError, TypeError):
            problem.append("the answer is no JSON with a list of rows")
    return problem


@check
def http(host: Host, params: Params) -> list[Found]:
    """An answer has a `status`, `headers` and a `body`, through the proxy or of the app itself."""
    url, headers = _site(host, params)
    began = time.perf_counter()
    answer = host.http(url, headers)
    told = [f"{answer.status}", f"{len(answer.body)} bytes",
            f"{1000 * (time.perf_counter() - began):.0f} ms"]  # fmt: skip
    told += [
        f"{name}: {answer.headers.get(name.lower(), '')}" for name in params.get("headers", {})
    ]
    return [Found(f"GET {url}", shortened(", ".join(told)), "; ".join(_judge(answer, params)))]


@check
def smoke(host: Host, params: Params) -> list[Found]:
    """The user's own checks through the proxy, those whose path matches."""
    wanted = [one for one in _list(params["checks"]) if re.search(params["path"], one["path"])]
    if not wanted:
        raise Undecided(f"webstack_smoke_checks has none with a path like {params['path']}")
    found = []
    for one in wanted:
        asked = {"path": one["path"], "status": one.get("status", [200])}
        if one.get("contains"):
            asked["body"] = re.escape(str(one["contains"]))
        found += http(host, asked)
    return found


@check
def compressed(host: Host, params: Params) -> list[Found]:
    """A long page comes compressed: `path`, where that leads to, or one of `checks`."""
    paths = [str(params["path"]), *(str(one["path"]) for one in _list(params.get("checks", [])))]
    for path in paths:
        url, headers = _site(host, {**params, "path": path})
        answer = host.http(url, {**headers, "Accept-Encoding": "gzip"})
        leads = answer.headers.get("location", "")
        if leads and len(paths) < 10:
            paths.append("/" + leads.split("://", 1)[-1].partition("/")[2])
        coding = answer.headers.get("content-encoding", "none")
        said = f"{answer.status}, Content-Encoding {coding}, {len(answer.body)} bytes"
        text = re.search("text|json|javascript|xml", answer.headers.get("content-type", ""))
        if coding == "gzip" or (len(answer.body) >= 1024 and text):
            return [Found(f"GET {url}, Accept-Encoding: gzip", said,
                          "" if coding == "gzip" else "it is not compressed")]  # fmt: skip
    raise Undecided(f"{', '.join(paths)}: none is a text of 1024 bytes")


@check
def spread(host: Host, params: Params) -> list[Found]:
    """Each of several workers or hosts has answered, by nginx's log or the servers' own ids."""
    log = str(host.context["access_log"])
    asked = f"upstreams in the last {params['lines']} lines of {log}"
    try:
        with open(log, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - 256 * int(params["lines"])))
            lines = stream.read().splitlines()[-int(params["lines"]) :]
    except OSError as error:
        raise Failed(f"{log}: {error.strerror}", asked) from None
    seen: dict[str, int] = {}
    for line in lines:
        request = request_stats.parse(line)
        if request and request.upstream:
            seen[request.upstream] = seen.get(request.upstream, 0) + 1
    wanted = set(_list(params["upstreams"]))
    said = ", ".join(f"{name}: {count}" for name, count in sorted(seen.items())) or "none"
    lacking = sorted(wanted - set(seen))
    return [Found(asked, said, f"no answer of {', '.join(lacking)}" if lacking else "")]


@check
def files(host: Host, params: Params) -> list[Found]:
    """`paths` (patterns) are there, no wider than `mode`, of `owner`, and hold `contains`."""
    found = []
    for pattern in _list(params["paths"]):
        there = sorted(glob.glob(str(pattern)))
        if not there:
            found.append(Found(f"stat {pattern}", "nothing", f"{pattern} is not there"))
        for path in there:
            about = os.stat(path)
            mode = stat.S_IMODE(about.st_mode)
            try:
                owner = pwd.getpwuid(about.st_uid).pw_name
            except KeyError:
                owner = str(about.st_uid)
            problem = []
            if "mode" in params and mode & ~int(str(params["mode"]), 8):
                problem.append(f"{path} has mode {mode:04o}, wider than {params['mode']}")
            if "owner" in params and owner not in _list(params["owner"]):
                problem.append(f"{path} belongs to {owner}, not to {params['owner']}")
            said = f"{path}: mode {mode:04o}, {owner}"
            for pattern_in in _list(params.get("contains", [])):
                match = re.search(str(pattern_in), host.read(path), re.MULTILINE)
                if match:
                    said += f", '{shortened(match[0], 120)}'"
                else:
                    problem.append(f"{path} has nothing like {pattern_in}")
            found.append(Found(f"stat {path}", said, "; ".join(problem)))
    return found


@check
def command(host: Host, params: Params) -> list[Found]:
    """A program of `user` (else of nobody) ends with `rc`, and its output is like `output`."""
    argv = [str(word) for word in params["argv"]]
    user = str(params.get("user", "nobody"))
    code, out, err = host.run(argv, user="" if user == "root" else user)
    told = out + err
    problem = ""
    said = ""
    if code != int(params.get("rc", 0)):
        problem = f"ended with {code}: {shortened(told, 300)}"
    if "output" in params:
        match = re.search(str(params["output"]), told, re.MULTILINE)
        said = shortened(match[0], 300) if match else ""
        if not match and not problem:
            problem = f"its output has nothing like {params['output']}: {shortened(told, 300)}"
    if "absent" in params and re.search(str(params["absent"]), told, re.MULTILINE):
        match = re.search(str(params["absent"]), told, re.MULTILINE)
        problem = f"its output has '{shortened(match[0], 200) if match else ''}'"
    return [Found(" ".join(argv), said or f"ended with {code}", problem)]


@check
def nginx(host: Host, params: Params) -> list[Found]:
    """What nginx has read has each of `match`."""

    def ask() -> str:
        code, out, err = host.run(["nginx", "-T"])
        if code != 0:
            raise Failed(shortened(err, 300), "nginx -T")
        return out

    text = str(host.once("nginx -T", ask))
    said, problem = [], []
    for pattern in _list(params["match"]):
        match = re.search(str(pattern), text, re.MULTILINE)
        if match:
            said.append(shortened(match[0], 160))
        else:
            problem.append(f"nothing like {pattern}")
    return [Found("nginx -T", "; ".join(said), "; ".join(problem))]


@check
def nginx_fresh(host: Host, params: Params) -> list[Found]:
    """nginx runs with what its files say: its workers are younger than they."""
    newest = max(
        (os.path.getmtime(path), path)
        for folder in ("/etc/nginx/nginx.conf", "/etc/nginx/sites-enabled/*", "/etc/nginx/conf.d/*")
        for path in glob.glob(folder) or ["/etc/nginx/nginx.conf"]
    )
    started = []
    for stat_file in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError):
            with open(stat_file, encoding="utf-8", errors="replace") as stream:
                text = stream.read()
            with open(stat_file[:-4] + "cmdline", encoding="utf-8", errors="replace") as stream:
                title = stream.read()
            if title.startswith("nginx: worker process") and "shutting down" not in title:
                started.append(_started(text))
    if not started:
        raise Failed("no worker of nginx runs")
    said = f"{len(started)} workers, the oldest of {_utc(min(started))}; {newest[1]} is of"
    said += f" {_utc(newest[0])}"
    # The start of a process is told in hundredths of a second.
    stale = min(started) + 1 < newest[0]
    problem = "nginx was not reloaded since" if stale else ""
    return [Found("/proc, times of /etc/nginx", said, problem)]


def _started(text: str) -> float:
    with open("/proc/uptime", encoding="utf-8") as stream:
        up = float(stream.read().split()[0])
    ticks = int(text.rpartition(")")[2].split()[19])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


@check
def environment(host: Host, params: Params) -> list[Found]:
    """The application's environment has `names`, whose values are like `values`."""
    path = str(host.context["environment_file"])
    told = host.environment()
    mode = stat.S_IMODE(os.stat(path).st_mode)
    said, problem = [f"mode {mode:04o}"], []
    if mode & 0o077:
        problem.append(f"{path} is readable by others (mode {mode:04o})")
    for name, pattern in dict(params["names"]).items():
        value = told.get(name)
        if value is None:
            problem.append(f"{name} is not set")
        elif not re.search(str(pattern), value):
            problem.append(f"{name} is not like {pattern}")
        else:
            match = re.match(r"[a-z0-9+]+://(?:[^@/]*@)?([^/?]*)", value)
            said.append(f"{name} to {match[1]}" if match else f"{name} set")
    return [Found(f"names in {path}", ", ".join(said), "; ".join(problem))]


def _processes(unit: str, host: Host) -> list[int]:
    _, out, _ = host.run(["systemctl", "show", "-p", "MainPID", "--value", "--", unit])
    main = int(out.strip() or 0)
    if not main:
        raise Failed(f"{unit} does not run", f"systemctl show {unit}")
    try:
        with open(f"/proc/{main}/task/{main}/children", encoding="utf-8") as stream:
            return [int(one) for one in stream.read().split()]
    except OSError:
        raise Failed(f"{unit} has just ended", f"/proc/{main}") from None


@check
def workers(host: Host, params: Params) -> list[Found]:
    """The live instance has as many workers as it was given."""
    name = host.context["application"]
    slot = os.path.basename(os.readlink(f"{host.context['home']}/slots/live"))
    unit = f"{name}@{slot}.service"
    there = _processes(unit, host)
    wanted = int(params["count"])
    said = f"{unit}: {len(there)} workers (given {wanted})"
    return [Found(f"children of {unit}'s main process", said,
                  "" if len(there) >= wanted else "workers are missing")]  # fmt: skip


@check
def release(host: Host, params: Params) -> list[Found]:
    """A release is live and good; with `previous` there is one to go back to."""
    home = str(host.context["home"])
    try:
        live = os.path.basename(os.path.realpath(f"{home}/slots/live"))
        events = [json.loads(line) for line in host.read(f"{home}/history.jsonl").splitlines()]
    except ValueError as error:
        raise Failed(f"{home}/history.jsonl: {error}") from None
    asked = f"{home}/slots/live, {home}/history.jsonl"
    if not os.path.isfile(f"{home}/releases/{live}/.golive-release"):
        raise Failed("no release is live", asked)
    last: dict[str, Any] = next((one for one in reversed(events) if one.get("after") == live), {})
    said = f"release {live}, {last.get('what', 'deployed')} {last.get('when', '')} with outcome"
    said += f" {last.get('outcome', 'unknown')}"
    problem = "" if last else f"{home}/history.jsonl does not know {live}"
    if last and last.get("outcome") not in ("live", "ok", "done", "succeeded", "good", "success"):
        problem = f"its outcome was {last.get('outcome')}"
    if params.get("previous"):
        notes = []
        for path in glob.glob(f"{home}/releases/*/.golive-release"):
            with contextlib.suppress(ValueError, OSError):
                with open(path, encoding="utf-8") as stream:
                    notes.append(json.load(stream))
        older = [one["id"] for one in notes if one.get("good") and one.get("id") != live]
        if not older:
            raise NotApplicable("this is the first release, so there is none to go back to")
        said += f"; to go back to: {', '.join(sorted(older))}"
    return [Found(asked, said, problem)]


@check
def secrets_apart(host: Host, params: Params) -> list[Found]:
    """No secret stands in the live release's files."""
    folder = os.path.realpath(f"{host.context['home']}/slots/live")
    secrets = [one.encode() for one in host.secrets() if len(one) >= 12]
    if not secrets:
        raise Failed("this host knows no secret to look for", folder)
    count, hits = 0, []
    for place, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if one not in (".venv", "node_modules", ".git")]
        for name in names:
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                if os.path.islink(path) or os.path.getsize(path) > 1 << 20:
                    continue
                with open(path, "rb") as stream:
                    text = stream.read()
                count += 1
                if any(secret in text for secret in secrets):
                    hits.append(os.path.relpath(path, folder))
    said = f"{count} files of {os.path.basename(folder)}, {len(secrets)} secrets looked for"
    return [Found(f"secrets in {folder}", said,
                  f"a secret is in {', '.join(hits[:5])}" if hits else "")]  # fmt: skip


def _load_run(
    host: Host, profile: str, days: float, optional: bool = False
) -> tuple[str, dict[str, Any]]:
    folder = str(host.context["load_folder"])
    there = host.newest(f"{glob.escape(folder)}/{profile}-[0-9]*T*Z.json")
    asked = f"the newest {folder}/{profile}-*.json"
    if not there:
        if optional:
            raise Undecided(f"no load test '{profile}' has been kept")
        raise Failed("no such load test has been kept", asked)
    age = time.time() - os.path.getmtime(there[0])
    if age > days * 86400:
        raise Failed(f"the last one is {_age(age)} old, wanted {days:g} days at most", asked)
    try:
        return there[0], dict(json.loads(host.read(there[0])))
    except ValueError as error:
        raise Failed(f"{there[0]}: {error}", asked) from None


_FIGURES = {"p50_ms": "p50", "p95_ms": "p95", "p99_ms": "p99", "mean_ms": "mean",
            "success_percent": "success_percent",
            "requests_per_minute": "requests_per_minute"}  # fmt: skip


@check
def load_test(host: Host, params: Params) -> list[Found]:
    """The newest run of `profile` keeps to `targets` (names), `samples` were taken meanwhile."""
    path, run = _load_run(host, str(params.get("profile", "*")), float(params.get("days", 30)),
                          bool(params.get("optional")))  # fmt: skip
    figures = run["figures"]
    said = [f"{figures['requests']} requests, {figures['success_percent']:g} % succeeded"]
    problem = []
    for name in _list(params.get("targets", [])):
        wanted = params.get("bound", host.context["load_targets"].get(name))
        if wanted is None:
            raise Failed(f"there is no target {name}")
        bound = wanted if isinstance(wanted, str) else (
            f"< {wanted}" if name.endswith("_ms") else f"> {wanted}")  # fmt: skip
        value = figures.get(_FIGURES[name])
        if value is None:
            problem.append(f"{name} was not measured")
            continue
        said.append(f"{_FIGURES[name]} {value:g}")
        # Every request that succeeded is above any target of less than all of them.
        if not (compare(value, bound) or (name == "success_percent" and value == 100)):
            problem.append(f"{name} was {value:g}, wanted {bound}")
    if params.get("users"):
        users = int(run["profile"].get("users", 0))
        said.append(f"{users} users")
        if users < int(params["users"]):
            problem.append(f"wanted {params['users']} users at least")
    for name in _list(params.get("samples", [])):
        values = [one[name] for samples in run["samples"].values() for one in samples
                  if one.get(name) is not None]  # fmt: skip
        if not values:
            problem.append(f"{name} was not measured on any host")
        else:
            said.append(f"{name} at most {max(values):g} in {len(values)} samples")
    if params.get("connections_percent"):
        shares = [100 * one["connections"] / one["max_connections"]
                  for samples in run["samples"].values() for one in samples
                  if one.get("max_connections")]  # fmt: skip
        if shares and max(shares) >= float(params["connections_percent"]):
            problem.append(f"{max(shares):.0f} % of the connections were in use")
        if shares:
            said.append(f"{max(shares):.0f} % of the connections in use at most")
    return [Found(os.path.basename(path), ", ".join(said), "; ".join(problem))]


@check
def load_step(host: Host, params: Params) -> list[Found]:
    """Requests of the newest load test whose name matches have succeeded."""
    if not any(re.search(params["match"], json.dumps(one)) for one in
               _list(host.context.get("load_steps", []))):  # fmt: skip
        raise Undecided(f"webstack_load_flow and webstack_load_endpoints have no step like"
                        f" {params['match']}")  # fmt: skip
    path, run = _load_run(host, str(params.get("profile", "*")), float(params.get("days", 30)))
    ended = {name: one for name, one in run["figures"]["endpoints"].items()
             if re.search(params["match"], name)}  # fmt: skip
    if not ended:
        raise Failed(f"it has no request like {params['match']}", os.path.basename(path))
    said = ", ".join(f"{name}: {one['requests'] - one['failed']} of {one['requests']}"
                     for name, one in ended.items())  # fmt: skip
    bad = [name for name, one in ended.items() if one["failed"] or not one["requests"]]
    return [Found(os.path.basename(path), said,
                  f"requests failed: {', '.join(bad)}" if bad else "")]  # fmt: skip


@check
def backup(host: Host, params: Params) -> list[Found]:
    """The last job of each of `kinds` succeeded, within `hours`."""
    found = []
    for kind in _list(params["kinds"]):
        there = []
        for path in glob.glob(f"/var/lib/golive/backup/jobs/{kind}-*.json"):
            with contextlib.suppress(ValueError):
                there.append(dict(json.loads(host.read(path))))
        asked = f"/var/lib/golive/backup/jobs/{kind}-*.json"
        if kind == "files":
            asked = "/var/lib/golive/backup/files.json"
            told = json.loads(host.read(asked))
            there = [{"name": f"the {name} repository", **one} for name, one in told.items()]
        if not there:
            found.append(Found(asked, "nothing", f"no job '{kind}' has run"))
        for one in there:
            age = time.time() - float(one.get("last_success") or 0)
            problem = ""
            if not one.get("last_success"):
                problem = f"{one['name']} has never succeeded: {one.get('error', '')}"
            elif one.get("success") == 0:
                problem = f"the last run of {one['name']} failed: {one.get('error', '')}"
            elif age > float(params["hours"]) * 3600:
                problem = (
                    f"{one['name']} is {_age(age)} old, wanted {params['hours']} hours at most"
                )
            said = f"{kind} of {one['name']} {_age(age)} ago"
            said += f", {one['bytes']} bytes" if one.get("bytes") is not None else ""
            said += f", {one['seconds']:g} s" if one.get("seconds") is not None else ""
            found.append(Found(asked, said, problem))
    return found


@check
def drill(host: Host, params: Params) -> list[Found]:
    """The newest restore was compared and kept to its targets, within `days`."""
    there = host.newest("/var/lib/golive/backup/drills/*.json")
    asked = "the newest report in /var/lib/golive/backup/drills"
    if not there:
        raise Failed("no restore has been rehearsed: run restore_drill.yml", asked)
    try:
        told = dict(json.loads(host.read(there[0])))
    except ValueError as error:
        raise Failed(f"{there[0]}: {error}", asked) from None
    evidence = told.get("evidence") or {}
    age = time.time() - os.path.getmtime(there[0])
    said = f"{told.get('kind')} backup {told.get('backup')}: RTO {told.get('rto_seconds')} s, RPO"
    said += f" {told.get('rpo_seconds')} s, {evidence.get('compared', 0)} tables with"
    said += f" {evidence.get('rows', 0)} rows equal, {_age(age)} ago"
    problem = ""
    if told.get("result") != "passed" or not told.get("rto_seconds"):
        problem = f"it did not pass: {shortened(str(told.get('result') or told.get('error')), 300)}"
    elif told["rto_seconds"] > told["rto_target_seconds"]:
        problem = f"RTO is over its target of {told['rto_target_seconds']} s"
    elif told["rpo_seconds"] > told["rpo_target_seconds"]:
        problem = f"RPO is over its target of {told['rpo_target_seconds']} s"
    elif params.get("compared") and not evidence.get("compared"):
        problem = "no table was compared"
    elif age > float(params["days"]) * 86400:
        problem = f"it is older than {params['days']} days"
    return [Found(asked, said, problem)]


@check
def certificate(host: Host, params: Params) -> list[Found]:
    """What the proxy shows holds for `days` more and bears the site's name."""
    url = str(host.context["site_url"])
    place = url.split("://", 1)[1].split("/")[0]
    name, _, port = place.partition(":")
    wanted = str(host.context["host_header"])
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    code, out, err = host.run(
        ["openssl", "s_client", "-connect", f"{name}:{port or 443}", "-servername", wanted],
        stdin="",
    )
    asked = f"openssl s_client -connect {place} -servername {wanted}"
    if "BEGIN CERTIFICATE" not in out:
        raise Failed(shortened(err or out, 200) or f"ended with {code}", asked)
    _, told, _ = host.run(["openssl", "x509", "-noout", "-enddate", "-subject", "-ext",
                           "subjectAltName"], stdin=out)  # fmt: skip
    ends = re.search(r"notAfter=(.*)", told)
    if not ends:
        raise Failed("the certificate can't be read", asked)
    moment = datetime.datetime.strptime(ends[1].strip(), "%b %d %H:%M:%S %Y %Z")
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    left = (moment - now).total_seconds() / 86400
    names = re.findall(r"(?:DNS|IP Address):([^,\s]+)", told)
    said = f"until {moment:%Y-%m-%d}, {left:.0f} days; names {', '.join(names)}"
    problem = []
    if left < float(params["days"]):
        problem.append(f"it ends in {left:.0f} days, wanted {params['days']} at least")
    for one in str(host.context.get("domain") or "").split():
        if one not in names and f"*.{one.partition('.')[2]}" not in names:
            problem.append(f"it does not bear the name {one}")
    return [Found(asked, said, "; ".join(problem))]


@check
def metrics(host: Host, params: Params) -> list[Found]:
    """`url` answers in Prometheus' text format and has each of `names`."""
    url = str(params["url"])
    answer = host.http(url, dict(params.get("request", {})))
    if answer.status != 200:
        raise Failed(f"status {answer.status}", f"GET {url}")
    text = answer.text()
    said, problem = [], []
    for name in _list(params["names"]):
        match = re.search(rf"^(?:{name})(?:\{{[^\n]*\}})? [^\n]+$", text, re.MULTILINE)
        if match:
            said.append(shortened(match[0], 120))
        else:
            problem.append(f"no figure {name}")
    return [Found(f"GET {url}", "; ".join(said), "; ".join(problem))]


def _prometheus(host: Host, path: str) -> tuple[str, Any]:
    """What Prometheus on this host says; its password is where the role monitoring keeps it."""
    url = f"{need(host, 'prometheus_url', 'Prometheus is not set up here')}/api/v1/{path}"
    headers = {}
    if host.context.get("prometheus_user"):
        login = f"{host.context['prometheus_user']}:{host.read(PROMETHEUS_PASSWORD)}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    answer = host.http(url, headers)
    if answer.status != 200:
        raise Failed(f"status {answer.status}", f"GET {url}")
    return f"GET {url}", json.loads(answer.text())["data"]


@check
def alerts(host: Host, params: Params) -> list[Found]:
    """Prometheus has a rule like `match`, has evaluated it, and its threshold is like `bound`."""
    asked, told = host.once("alerts", lambda: _prometheus(host, "rules?type=alert"))
    rules = [rule for group in told["groups"] for rule in group["rules"]
             if re.search(params["match"], rule["name"])]  # fmt: skip
    if not rules:
        raise Failed(f"there is no alert like {params['match']}", asked)
    found = []
    for rule in rules:
        problem = ""
        if rule.get("health") != "ok":
            problem = (
                f"{rule['name']} is not evaluated: {rule.get('lastError') or rule.get('health')}"
            )
        said = f"{rule['name']}: {shortened(rule['query'], 200)}; {rule.get('state')}"
        found.append(Found(asked, said, problem))
    if "bound" in params and not any(re.search(params["bound"], one["query"]) for one in rules):
        found.append(Found(asked, "", f"none has a threshold like {params['bound']}"))
    return found


@check
def targets(host: Host, params: Params) -> list[Found]:
    """Prometheus reaches all that it is told to ask."""
    asked, told = _prometheus(host, "targets?state=active")
    there = told["activeTargets"]
    down = [f"{one['labels'].get('job')} {one['labels'].get('instance')}: {one['lastError']}"
            for one in there if one["health"] != "up"]  # fmt: skip
    said = f"{len(there) - len(down)} of {len(there)} are up"
    problem = f"down: {'; '.join(down[:5])}" if down else "" if there else "there are none"
    return [Found(asked, said, problem)]


@check
def requests(host: Host, params: Params) -> list[Found]:
    """Errors and times of the last `minutes` of visitors' requests, by nginx's log."""
    log = str(host.context["access_log"])
    since = time.time() - 60 * float(params["minutes"])
    asked = f"{log} of the last {params['minutes']} minutes"
    if not os.path.exists(log):
        raise Failed(f"{log} is not there", asked)
    counted = request_stats.count(log, since_time=since)[0].total.told()
    if counted["requests"] < int(params.get("least", 1)):
        raise NotApplicable(f"fewer than {params.get('least', 1)} requests in the last"
                            f" {params['minutes']} minutes prove nothing")  # fmt: skip
    said = (
        f"{counted['requests']} requests, {counted['error_percent']:g} % with status 500 or above"
    )
    problem = []
    for name, bound in dict(params.get("bounds", {})).items():
        value = counted.get(name)
        if value is None:
            problem.append(f"{name} was not measured")
        else:
            said += f", {name} {value:g}"
            if not compare(float(value), bound):
                problem.append(f"{name} is {value:g}, wanted {bound}")
    return [Found(asked, said, "; ".join(problem))]


@check
def log_lines(host: Host, params: Params) -> list[Found]:
    """The newest of `paths` is there, and its last lines have no `absent` and some `match`."""
    there = [path for pattern in _list(params["paths"]) for path in glob.glob(str(pattern))]
    if not there:
        raise Failed(f"{', '.join(_list(params['paths']))}: not there")
    path = max(there, key=os.path.getmtime)
    with open(path, "rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - (1 << 18)))
        text = stream.read().decode("utf-8", "replace")
    lines = text.splitlines()[-int(params.get("lines", 500)) :]
    asked = f"the last {len(lines)} lines of {path}"
    if "absent" in params:
        hits = [line for line in lines if re.search(params["absent"], line)]
        problem = shortened(f"{len(hits)}, the last: {hits[-1]}", 300) if hits else ""
        return [Found(asked, f"{len(hits)} like {params['absent']}", problem)]
    hits = [line for line in lines if re.search(params["match"], line)]
    return [Found(asked, f"{len(hits)} of {len(lines)} as wanted",
                  "" if hits else f"no line like {params['match']}")]  # fmt: skip


@check
def json_lines(host: Host, params: Params) -> list[Found]:
    """The application's lines in the journal are JSON with `names`."""
    code, out, err = host.run(["journalctl", "--no-pager", "-q", "-o", "cat", "-n", "400",
                               "-u", str(params["unit"])])  # fmt: skip
    asked = f"journalctl -u {params['unit']} -n 400"
    if code != 0:
        raise Failed(shortened(err), asked)
    good = total = 0
    for line in out.splitlines():
        total += 1
        with contextlib.suppress(ValueError):
            told = json.loads(line)
            good += isinstance(told, dict) and all(name in told for name in _list(params["names"]))
    said = f"{good} of {total} lines are JSON with {', '.join(_list(params['names']))}"
    if not good:
        raise Undecided(f"{asked} has no line of JSON with {', '.join(_list(params['names']))}")
    return [Found(asked, said)]


@check
def space(host: Host, params: Params) -> list[Found]:
    """`path` has room, in percent and gigabytes."""
    path = str(params.get("path", "/"))
    about = shutil.disk_usage(path)
    share = 100 * about.free / about.total
    said = f"{about.free / 2**30:.1f} of {about.total / 2**30:.1f} GiB free, {share:.0f} %"
    problem = ""
    if share < float(params["percent"]) or about.free < float(params["gigabytes"]) * 2**30:
        problem = f"wanted {params['percent']} % and {params['gigabytes']} GiB at least"
    return [Found(f"df {path}", said, problem)]


@check
def listening(host: Host, params: Params) -> list[Found]:
    """`ports` are listened on; with `closed` not on every address of the host."""
    _, out, _ = host.run(["ss", "-Hltn"])
    there: dict[str, list[str]] = {}
    for words in map(str.split, out.splitlines()):
        address, _, port = words[3].rpartition(":")
        there.setdefault(port, []).append(address)
    said, problem = [], []
    for port in map(str, _list(params["ports"])):
        addresses = sorted(set(there.get(port, [])))
        said.append(f"{port} on {', '.join(addresses) or 'nothing'}")
        if not addresses:
            problem.append(f"nothing listens on {port}")
        wide = [one for one in addresses if one in ("*", "0.0.0.0", "[::]")]
        if params.get("closed") and wide:
            problem.append(f"{port} is open on every address of the host")
    return [Found("ss -ltn", "; ".join(said), "; ".join(problem))]


@check
def updates(host: Host, params: Params) -> list[Found]:
    """No security update waits, by package lists that are young enough to tell."""
    lists = glob.glob("/var/lib/apt/lists/*_Packages*") + glob.glob("/var/lib/apt/lists/*InRelease")
    if not lists:
        raise Failed("there are no package lists: apt-get update", "/var/lib/apt/lists")
    age = time.time() - max(os.path.getmtime(path) for path in ["/var/lib/apt/lists", *lists])
    _, out, _ = host.run(["apt-get", "-s", "-o", "Debug::NoLocking=true", "dist-upgrade"])
    waiting = re.findall(r"^Inst (\S+) .*(?i:security)", out, re.MULTILINE)
    said = f"{len(waiting)} security updates wait, by lists {_age(age)} old"
    problem = ""
    if waiting:
        problem = f"waiting: {', '.join(waiting[:10])}"
    elif age > float(params["days"]) * 86400:
        problem = f"the lists are older than {params['days']} days: apt-get update"
    return [Found("apt-get -s dist-upgrade", said, problem)]


@check
def given(host: Host, params: Params) -> list[Found]:
    """A setting is there to look further by."""
    if not params["value"]:
        raise Undecided(f"{params['name']} is not set")
    return [Found(str(params["name"]), "is set")]


@check
def only_one(host: Host, params: Params) -> list[Found]:
    """Exactly one of a service's two instances is active and comes back after a reboot."""
    units = _list(params["units"])
    state = {}
    for unit in units:
        active, _, _ = host.run(["systemctl", "is-active", "-q", unit])
        enabled, _, _ = host.run(["systemctl", "is-enabled", "-q", unit])
        state[unit] = (active == 0, enabled == 0)
    said = ", ".join(f"{unit} {'active' if active else 'inactive'},"
                     f" {'enabled' if enabled else 'disabled'}"
                     for unit, (active, enabled) in state.items())  # fmt: skip
    good = [both for both in state.values() if any(both)] == [(True, True)]
    return [Found(f"systemctl is-active, is-enabled {' '.join(units)}", said,
                  "" if good else "one alone has to be active and enabled")]  # fmt: skip


def names() -> Sequence[str]:
    return sorted(CHECKS)
