# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load test's figures, targets, causes and report."""

from __future__ import annotations

import html.parser
import json
import os
import stat
import sys
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.load_test import figures as load
from ansible_collections.golive.webstack.plugins.module_utils.load_test import report, sample
from ansible_collections.golive.webstack.plugins.module_utils.load_test.run import (
    LoadTestError,
    complete,
    run,
)
from ansible_collections.golive.webstack.plugins.module_utils.load_test.run import told as kept

TARGETS = {"p50_ms": 100.0, "p95_ms": 300.0, "mean_ms": 150.0, "success_percent": 99.0}


def raw(*requests, seconds=10.0):
    return {"names": ["GET /", "GET <slow>"], "requests": list(requests), "seconds": seconds}


def test_percentiles_are_nearest_rank():
    hundred = list(range(1, 101))
    assert [load.percentile(hundred, share) for share in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert load.percentile([7.0], 99) == 7.0
    assert load.percentile([1, 2], 50) == 1


def test_figures_are_of_all_requests_by_endpoint_and_by_second():
    found = load.figures(
        raw([0.0, 0, 100.0, ""], [0.5, 0, 300.0, ""], [1.2, 1, 900.0, "status 500"])
    )
    assert (found["requests"], found["failed"]) == (3, 1)
    assert found["success_percent"] == pytest.approx(66.667)
    assert (found["min"], found["median"], found["max"]) == (100.0, 300.0, 900.0)
    assert found["mean"] == pytest.approx(433.33)
    assert found["requests_per_minute"] == 18.0
    assert found["endpoints"]["GET <slow>"]["success_percent"] == 0
    assert [one["second"] for one in found["by_second"]] == [0, 2]
    assert found["faults"] == [{"request": "GET <slow>", "fault": "status 500", "times": 1}]


def test_the_flow_has_to_succeed_and_its_time_is_its_own():
    told = raw([0.0, 0, 100.0, ""], [0.0, 1, 5000.0, ""], [0.0, 1, 9000.0, "status 403"])
    found = load.figures({**told, "flow": ["GET <slow>"]})
    assert found["flow"] == ["GET <slow>"] and load.figures(told)["flow"] == []
    assert (found["p99"], found["max"]) == (100.0, 100.0)
    assert (found["requests"], found["failed"]) == (3, 1)
    assert found["endpoints"]["GET <slow>"]["max"] == 9000.0
    # Where nobody came through the flow there are no times that could be good.
    none = load.figures({**raw([0.0, 1, 5.0, "status 403"]), "flow": ["GET <slow>"]})
    assert len(load.missed(none, TARGETS)) == len(TARGETS)


def test_each_target_can_be_missed_and_met():
    good = load.figures(raw(*([0.0, 0, 50.0, ""] for _unused in range(100))))
    assert load.missed(good, TARGETS) == []
    bad = load.figures(raw(*([0.0, 0, 400.0, "time-out"] for _unused in range(100))))
    told = load.missed(bad, TARGETS)
    assert [line.split()[0] for line in told] == ["p50", "p95", "mean", "success_percent"]
    assert "p95 was 400 ms (target: below 300)" in told
    # On the line is not below it.
    assert load.missed({"p50": 100.0}, {"p50_ms": 100.0})


def test_a_run_without_requests_misses_every_target():
    nothing = load.figures(raw())
    assert len(load.missed(nothing, TARGETS)) == len(TARGETS)


def test_a_run_is_compared_with_the_one_before():
    now = {"p50": 50.0, "p95": 150.0, "p99": 200.0, "requests_per_minute": 300.0}
    then = {"p50": 100.0, "p95": 100.0, "p99": 200.0, "requests_per_minute": 600.0}
    assert load.compared(now, None) == []
    told = load.compared(now, then)
    assert told[0] == "p50 100 -> 50 ms (-50 %)"
    assert told[1] == "p95 100 -> 150 ms (+50 %)"


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([{"cpu_percent": 95.0}] * 5, "processors were 95 % busy"),
        ([{"memory_percent": 97.0}] * 5, "97 % of its memory"),
        ([{"connections": 95, "max_connections": 100}] * 5, "95% of PostgreSQL's connections"),
        ([{"waiting": 2}] * 5, "waited for locks"),
        ([{"slowest_ms": 2500.0}], "a statement ran for 2.5 s"),
        ([{"queued": 7}] * 5, "up to 7 requests waited for a free worker"),
        ([{"hits": 0, "misses": 0}, {"hits": 20, "misses": 80}], "cache had 20 %"),
    ],
)
def test_what_was_short_is_named(samples, told):
    (cause,) = load.causes({"web1": samples})
    assert cause.startswith("web1: ") and told in cause


def test_nothing_is_named_where_nothing_was_short():
    calm = {"cpu_percent": 20.0, "memory_percent": 40.0, "connections": 10, "max_connections": 100,
            "waiting": 0, "slowest_ms": 12.0, "queued": 0, "hits": 900, "misses": 100}  # fmt: skip
    assert load.causes({"web1": [calm] * 10, "web2": []}) == []


class Reader(html.parser.HTMLParser):
    """Counts what is open: a page that doesn't close its elements is broken."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "line", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_and_needs_nothing_else():
    found = load.figures(raw([0.0, 0, 100.0, ""], [1.5, 1, 900.0, "<b>odd</b>"]))
    page = report.page(
        {"title": "Load <of> shop", "when": "now", "figures": found, "missed": ["p95 & more"],
         "causes": [], "compared": ["p50 1 -> 2 ms"],
         "samples": {"web1": [{"second": 0, "cpu_percent": 10.0, "memory_percent": 20.0},
                              {"second": 1, "cpu_percent": None, "memory_percent": 21.0}]}}
    )  # fmt: skip
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    text = " ".join(reader.text)
    assert "Load <of> shop" in text and "<b>odd</b>" in text and "p95 & more" in text
    assert "http://" not in page and "https://" not in page and page.count("<svg") == 3


def test_the_table_has_a_line_for_each_endpoint_and_one_for_all():
    lines = report.terminal(load.figures(raw([0.0, 0, 100.0, ""], [1.5, 1, 900.0, "x"])))
    assert [line.split("  ")[0].strip() for line in lines] == ["", "GET /", "GET <slow>", "all"]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"users": 0}, "users is 0; it is at least 1"),
        ({"users": "many"}, "users is 'many'"),
        ({"think": [3, 1]}, "think is [3, 1]"),
        ({"endpoints": []}, "at least one endpoint"),
        ({"endpoints": [{"path": "no-slash"}]}, "begins with a slash"),
        (
            {"flow": [{"path": "/"}, {"method": "POST"}]},
            "number 2: it has neither a path nor a com",
        ),
        (
            {"flow": [{"path": "no-slash"}]},
            "number 1 (no-slash): it has no path that begins with a",
        ),
        (
            {"flow": [{"name": "both", "path": "/", "command": ["id"]}]},
            "(both): it has both a path",
        ),
        ({"endpoints": [{"command": ["id"]}]}, "Endpoint, number 1: it has a command, which only"),
        ({"flow": [{"command": "id -u"}]}, "a command that is no list of texts"),
        ({"flow": [{"command": []}]}, "a command that is no list of texts"),
        ({"flow": [{"command": ["id"], "json": {}}]}, "a command and so no json"),
        ({"flow": [{"command": ["id"], "wait": -1}]}, "waits for -1 seconds"),
        ({"flow": [{"command": ["id"], "wait": "long"}]}, "waits for 'long' seconds"),
        ({"flow": [{"path": "/", "wait": 3}]}, "waits, which only a command can"),
        ({"flow": [{"path": "/", "capture": {"code": "regex:[0-9"}}]}, "that can't be read"),
        ({"flow": [{"path": "/", "capture": {"code": "regex:[0-9]+"}}]}, "without a group"),
        ({"user": 3}, "A profile has no user"),
    ],
)
def test_a_profile_that_can_not_work_is_refused(change, told):
    with pytest.raises(LoadTestError) as refused:
        complete({"base_url": "http://127.0.0.1", **change})
    assert told in str(refused.value)


def test_a_kept_profile_tells_nothing_that_was_sent():
    secret = {"json": {"password": "s3cret"}, "form": {"a": "s3cret"}, "headers": {"K": "s3cret"}}
    flow = [{"path": "/login", "method": "POST", **secret}, {"command": ["mail", "s3cret"]}]
    profile = complete(
        {"base_url": "http://127.0.0.1", "flow": flow, "endpoints": [{"path": "/", **secret}]}
    )
    assert profile["flow"][1] == {"command": ["mail", "s3cret"], "name": "mail", "wait": 10}
    assert "s3cret" not in json.dumps(kept(profile))
    assert kept(profile)["flow"] == [
        {"path": "/login", "method": "POST"}, {"name": "mail", "command": ["mail"], "wait": 10}
    ]  # fmt: skip


@pytest.fixture(scope="module")
def sender():
    """The program that sends the load, with stand-ins for what only locust's environment has."""
    path = Path(__file__).resolve().parents[2] / "roles/load_test/files/golive_locust.py"
    names = {name: None for name in ("FastHttpUser", "between", "constant_pacing", "task")}
    parts = {
        "gevent": {"monkey": SimpleNamespace(patch_all=lambda: None), "sleep": time.sleep},
        "gevent.lock": {"Semaphore": threading.Semaphore},
        "locust": {**names, "events": None},
        "locust.env": {"Environment": None},
        "locust.exception": {"StopUser": Exception},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, values in parts.items():
            part = ModuleType(name)
            vars(part).update(values)
            patch.setitem(sys.modules, name, part)
        sys.modules["gevent"].lock = sys.modules["gevent.lock"]
        made = ModuleType("golive_locust")
        exec(compile(path.read_text(), str(path), "exec"), vars(made))  # noqa: S102
        yield made


def command(*arguments, **step):
    return {"command": [*arguments], "wait": 0, "name": "it", **step}


def test_a_command_gives_what_a_user_needs(sender, tmp_path):
    log = tmp_path / "log"
    log.write_text('{"email": "load-abcd@x", "code": "123456"}\n')
    code = {"code": 'regex:"${user}@x", "code": "([0-9]+)"'}
    found = sender.commanded(command("cat", str(log), capture=code), {"user": "load-abcd"})
    assert found == ("", {"code": "123456"})
    as_json = command("cat", str(log), capture={"code": "code"})
    assert sender.commanded(as_json, {}) == ("", {"code": "123456"})
    # No shell: what a shell would take for more than one word or a command is one argument.
    odd = command("printf", "%s", "$(id) ${user}", capture={"all": "regex:(.*)"})
    assert sender.commanded(odd, {"user": "a b;c"}) == ("", {"all": "$(id) a b;c"})


def test_a_command_is_tried_again_until_its_output_has_it(sender, tmp_path):
    script = 'echo x >>"$0"; grep -c x "$0"; test "$(grep -c x "$0")" -ge 3 && echo "code 42"'
    step = command("sh", "-c", script, str(tmp_path / "tries"), wait=60)
    step["capture"] = {"code": "regex:code ([0-9]+)"}
    assert sender.commanded(step, {}) == ("", {"code": "42"})
    assert (tmp_path / "tries").read_text() == "x\n" * 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-program"], "no-such-program: did not start: No such file or directory, for 0 s"),
        (["sh", "-c", "echo no mail for $0 >&2; exit 3", "${user}"],
         "sh: ended with 3: no mail for ${user}, for 0 s"),
        (["echo", "s3cret"], "echo: no regex:to ${user}: (.) in its output, for 0 s"),
        (["sleep", "60"], "sleep: did not end, for 0 s"),
    ],
)  # fmt: skip
def test_a_command_that_fails_is_told_alike_for_all_users(sender, arguments, said):
    step = command(*arguments, capture={"code": "regex:to ${user}: (.)"})
    assert sender.commanded(step, {"user": "load-abcd"}) == (said, {})


def test_only_a_command_that_failed_is_counted_and_never_in_the_times(sender):
    recorder = sender.Recorder({}, "")
    recorder.add("GET", "/", 5.0, None, None)
    recorder.add("command", "read the code", 9000.0, "none", {"flow": True}, time.time())
    found = load.figures({**recorder.told(whole=True), "seconds": 1})
    assert (found["requests"], found["failed"], found["max"]) == (2, 1, 5.0)
    assert found["flow"] == ["command read the code"]


def program(folder: Path, text: str) -> str:
    path = folder / "program.py"
    path.write_text(text)
    return str(path)


def test_what_the_program_says_is_in_the_error(tmp_path):
    profile = complete({"base_url": "http://127.0.0.1"})
    with pytest.raises(LoadTestError, match="ended with 3: no locust here"):
        run(
            sys.executable,
            program(tmp_path, "import sys; print('no locust here'); sys.exit(3)"),
            profile,
        )
    with pytest.raises(LoadTestError, match="wrote no result"):
        run(sys.executable, program(tmp_path, "pass"), profile)


def test_progress_is_passed_on(tmp_path):
    told = {"done": 5, "failed": 1, "seconds": 2.0, "recent_p95": 12.3}
    script = f"""
import json, sys, time
json.dump({told!r}, open(sys.argv[2], "w")); time.sleep(1)
json.dump({{**{told!r}, "names": [], "requests": []}}, open(sys.argv[2], "w"))
"""
    profile = complete({"base_url": "http://127.0.0.1", "requests": 10})
    progress = tmp_path / "progress.json"
    run(sys.executable, program(tmp_path, script), profile, str(progress))
    figures = json.loads(progress.read_text())
    assert (figures["rows_done"], figures["rows_total"], figures["unit"]) == (5, 10, "requests")


def test_the_kernels_figures_are_read():
    assert sample.processor_times("cpu  100 0 50 800 50 0 0 0 9 9\ncpu0 1") == (1000, 850)
    assert sample.memory_percent("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n") == 75
    listening = "u_str LISTEN 3 511 /run/shop.sock 1 * 0\nu_str LISTEN 4 511 /run/shop.sock 2 * 0\n"
    assert sample.queue_length(listening) == 7


def test_a_host_is_sampled_by_a_process_of_its_own(tmp_path):
    path = tmp_path / "samples"
    assert sample.start(str(path), 30, {"listen": ""}) == []
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    for _unused in range(100):
        if path.read_text().count("\n") >= 2:
            break
        time.sleep(0.1)
    found = sample.stop(str(path))
    assert len(found) >= 2
    assert all(0 <= one["memory_percent"] <= 100 for one in found)
    assert found[1]["at"] > found[0]["at"]
    assert not path.exists() and sample.stop(str(path)) == []


def test_a_load_of_an_instant_has_figures_too(tmp_path):
    path = tmp_path / "samples"
    sample.start(str(path), 30, {"listen": ""})
    assert len(sample.stop(str(path))) == 1


def test_what_can_not_be_asked_is_told(tmp_path):
    _made, failed = sample.probes({"redis_access": str(tmp_path / "none")})
    assert len(failed) == 1 and failed[0].startswith("redis_access: ")
