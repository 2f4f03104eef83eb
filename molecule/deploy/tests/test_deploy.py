# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments, rollbacks and bad releases under constant load: no request may be lost.

GOLIVE_SWITCHES sets how many of each are done, 2 by default.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest
from playbook_run import EPHEMERAL, ROOT, kill, play, start

pytestmark = pytest.mark.units("probe@a.service", "probe@b.service", "nginx.service")

SOURCE = EPHEMERAL / "source"
SWITCHES = int(os.environ.get("GOLIVE_SWITCHES", "2"))
# Requests a second: while it is counted how many are lost, and where a share of them tells enough.
RATE, LIGHT = "80", "20"
REPORT = "/var/tmp/load.json"
# No name comes twice, not in a second run on the same host either.
NUMBERS = itertools.count(int(time.time()))


def deploy(*arguments: str) -> tuple[int, str]:
    return play("deploy", "-e", "webstack_watch_seconds=0", *arguments)


def release(fault: str = "") -> str:
    """Change the source into another release; its name."""
    name = f"{fault or 'good'}-{next(NUMBERS)}"
    (SOURCE / "release.json").write_text(json.dumps({"release": name, "fault": fault}))
    return name


def served(host) -> str:
    address = host.check_output("hostname -I").split()[0]
    with urllib.request.urlopen(f"http://{address}/fast", timeout=20) as answer:
        return json.load(answer)["release"]


def live(host) -> str:
    return os.path.basename(host.check_output("readlink /srv/probe/current"))


def running(host) -> list[str]:
    """The application's units and processes that should not outlive a switch."""
    units = host.check_output(
        "systemctl list-units --no-legend --plain --state=active,activating,reloading,failed"
        " 'probe*.service' | cut -d' ' -f1"
    )
    return sorted(units.split())


class Load:
    """The client in its own unit on the host, so that it sees what a local visitor sees."""

    def __init__(self, host, rate: str = LIGHT) -> None:
        self.host, self.rate = host, rate

    def __enter__(self) -> Load:
        script = (ROOT / "molecule/deploy/files/load_client.py").read_text()
        self.host.check_output("rm -f %s", REPORT)
        self.host.check_output(
            "systemd-run --quiet --unit=load python3 -c %s 127.0.0.1 80 %s %s",
            *(script, self.rate, REPORT),
        )
        time.sleep(2)
        return self

    def __exit__(self, *_: object) -> None:
        self.host.run("systemctl stop load.service")

    def report(self) -> dict:
        self.host.check_output("systemctl stop load.service")
        return json.loads(self.host.check_output(f"cat {REPORT}"))


@pytest.fixture(scope="module")
def switches(host, request) -> dict:
    """What the client saw, what was done, and what was live after each step."""
    done: list[dict] = []
    faults = itertools.cycle(("import", "unhealthy", "hang"))
    with Load(host, RATE) as load:
        for _ in range(SWITCHES):
            before = served(host)
            for kind in ("deploy", "rollback", "bad"):
                name = before
                if kind != "rollback":
                    name = release(next(faults) if kind == "bad" else "")
                began = time.monotonic()
                code, output = play("rollback") if kind == "rollback" else deploy()
                seconds = time.monotonic() - began
                done.append(
                    {
                        "kind": kind,
                        "release": name,
                        "code": code,
                        "output": output,
                        "seconds": seconds,
                        "served": served(host),
                        "units": running(host),
                    }
                )
        report = load.report()
    # The figures are worth reading when all is well, too.
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        for kind in ("deploy", "rollback", "bad"):
            times = sorted(step["seconds"] for step in done if step["kind"] == kind)
            print(f"\n{kind}: {len(times)} times, {times[0]:.1f} to {times[-1]:.1f} s each")
        print({key: value for key, value in report.items() if key not in ("releases", "order")})
    return {"report": report, "done": done}


def test_no_request_is_lost(switches):
    report = switches["report"]
    assert report["lost_requests"] == []
    # The load was there, of every kind.
    assert report["sent"] > 1000
    assert report["on_kept_connections"] > report["sent"] * 0.45
    assert report["slow"] > 20


def test_deployments_and_rollbacks_go_live(switches):
    steps = [step for step in switches["done"] if step["kind"] in ("deploy", "rollback")]
    assert len(steps) == 2 * SWITCHES
    for step in steps:
        assert step["code"] == 0, step["output"][-4000:]
        assert step["served"] == step["release"]


def test_a_bad_release_never_sees_a_user_and_its_log_is_in_the_message(switches):
    steps = [step for step in switches["done"] if step["kind"] == "bad"]
    assert len(steps) == SWITCHES
    for step in steps:
        assert step["code"] != 0
        assert step["served"] != step["release"]
        assert step["release"] not in switches["report"]["releases"]
        if step["release"].startswith("import"):
            assert f"RuntimeError: the release {step['release']} lacks a setting" in step["output"]


def test_nothing_runs_beside_the_live_release(switches):
    for step in switches["done"]:
        assert len([unit for unit in step["units"] if "@" in unit]) == 1, step["units"]


def test_two_deployments_at_once(host, switches):
    """The second is refused by the first one's name; a killed one's lock is no obstacle."""
    good = served(host)
    release("hang")
    first = start("deploy", "-e", "webstack_watch_seconds=0")
    try:
        for _ in range(600):
            if host.file("/srv/probe/.lock").exists:
                break
            time.sleep(0.1)
        code, output = deploy()
        assert code != 0
        assert "lock" in output and "deploy" in output
    finally:
        kill(first)
    assert served(host) == good
    name = release()
    code, output = deploy()
    assert code == 0, output[-4000:]
    assert served(host) == name
    assert len([unit for unit in running(host) if "@" in unit]) == 1


def test_an_unchanged_deployment_switches_nothing(host, switches):
    # The test before has just deployed what is there, unless this one runs alone.
    if served(host) != json.loads((SOURCE / "release.json").read_text())["release"]:
        release()
        assert deploy()[0] == 0
    before = host.check_output("systemctl show -p MainPID 'probe@*.service'")
    code, output = deploy()
    assert code == 0
    assert "nothing was switched" in output
    assert re.search(r"changed=0 ", output)
    assert host.check_output("systemctl show -p MainPID 'probe@*.service'") == before


def test_a_release_that_turns_out_bad_is_taken_back(host, switches):
    good = served(host)
    bad = release("errors")
    with Load(host) as load:
        code, output = play("deploy", "-e", "webstack_watch_seconds=30")
        report = load.report()
    assert code != 0
    assert "was taken back" in output and "requests failed" in output
    assert served(host) == good
    # It was live for a moment, or the test has shown nothing; and only its own answers were bad.
    assert bad in report["releases"] or report["lost"] > 0
    assert {lost["why"] for lost in report["lost_requests"]} == {"status 500"}


def test_a_release_that_turns_out_slow_is_taken_back(host, switches):
    good = served(host)
    bad = release("slow")
    with Load(host) as load:
        code, output = play("deploy", "-e", "webstack_watch_seconds=20")
        report = load.report()
    assert code != 0
    assert "was taken back: p95 was" in output
    assert served(host) == good
    # It was live for a moment, or the test has shown nothing.
    assert bad in report["releases"]


def test_a_share_of_the_visitors_is_taken_from_a_release_that_turns_out_bad(host, switches):
    good = served(host)
    bad = release("errors")
    with Load(host) as load:
        code, output = play(
            "deploy", *("-e", "webstack_rollout_percent=50"), *("-e", "webstack_watch_seconds=30")
        )
        report = load.report()
    assert code != 0
    assert "had 50 % of the visitors, and has none now" in output
    assert {served(host) for _ in range(20)} == {good}
    assert bad in report["releases"] or report["lost"] > 0
    lost = [one for one in report["lost_requests"] if not closed_by_a_reload(one)]
    assert {one["why"] for one in lost} == {"status 500"}
    assert [unit for unit in running(host) if "canary" in unit] == []


def test_part_of_the_visitors_get_the_new_release_and_stay_with_it(host, switches):
    old = served(host)
    new = release()
    with Load(host) as load:
        code, output = deploy("-e", "webstack_rollout_percent=50")
        assert code == 0, output[-4000:]
        address = host.check_output("hostname -I").split()[0]
        visitors = [visit(address) for _ in range(40)]
        assert {name for name, _ in visitors} == {old, new}
        kept = [(name, visit(address, cookie)[0]) for name, cookie in visitors]
        assert all(first == second for first, second in kept)
        code, output = deploy("-e", "webstack_rollout_percent=80")
        assert code == 0, output[-4000:]
        grown = [visit(address, cookie)[0] for name, cookie in visitors if name == new]
        assert set(grown) == {new}
        code, output = deploy("-e", "webstack_rollout_percent=0")
        assert code == 0, output[-4000:]
        assert {visit(address)[0] for _ in range(20)} == {old}
        report = load.report()
    assert [one for one in report["lost_requests"] if not closed_by_a_reload(one)] == []
    assert [unit for unit in running(host) if "canary" in unit] == []


def closed_by_a_reload(lost) -> bool:
    """Another share reloads nginx, which closes connections that are idle at that moment. A request
    that meets its end on such a one is every HTTP client's to send again (RFC 9112, 9.3.1); the one
    of these tests never does.
    """
    ends = ("ConnectionResetError", "IncompleteReadError('0 bytes", "IncompleteReadError(0 bytes")
    return lost["kept_connection"] and lost["why"].startswith((*ends, "BrokenPipeError"))


def visit(address: str, cookie: str = "") -> tuple[str, str]:
    request = urllib.request.Request(f"http://{address}/fast", headers={"Cookie": cookie})
    with urllib.request.urlopen(request, timeout=20) as answer:
        given = answer.headers.get("Set-Cookie", "").split(";")[0]
        return json.load(answer)["release"], given or cookie


def test_status_tells_what_happened(host, switches):
    code, output = play("status")
    assert code == 0, output[-4000:]
    assert live(host) in output
    assert "rollback" in output and "take-back" in output


def docker() -> str:
    return os.environ.get("ANSIBLE_DOCKER_COMMAND", "docker")


def git(*arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    subprocess.run(("git", "-C", str(SOURCE), *identity, *arguments), check=True)


def wheel(version: str, fault: str = "") -> str:
    """A wheel of the application, with the archive format's least; its path."""
    name = f"wheel-{version}"
    path = EPHEMERAL / f"probe-{version}-py3-none-any.whl"
    about = f"probe-{version}.dist-info"
    program = (SOURCE / "app.py").read_text().replace("release.json", "probe_release.json")
    files = {
        "probe_wheel.py": program,
        "probe_release.json": json.dumps({"release": name, "fault": fault}),
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: probe\nVersion: {version}\n"
        "Requires-Dist: gunicorn\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for inside, content in files.items():
            archive.writestr(inside, content)
        listed = "".join(f"{inside},,\n" for inside in [*files, f"{about}/RECORD"])
        archive.writestr(f"{about}/RECORD", listed)
    return str(path)


@pytest.mark.parametrize("form", ["git", "archive", "wheel", "index"])
def test_a_release_comes_from(form, host, switches):
    arguments = []
    name = release()
    if form == "git":
        git("init", "--quiet")
        git("add", "--all")
        git("commit", "--quiet", "--message", "A release")
        release("import")
        source = f"file://{SOURCE}"
    elif form == "archive":
        source = str(EPHEMERAL / "probe-1.2.tar.gz")
        subprocess.run(("tar", "-C", str(SOURCE), "-czf", source, "."), check=True)
        checksum = hashlib.sha256(Path(source).read_bytes()).hexdigest()
        arguments = ["-e", f"gunicorn_app_source_checksum={checksum}"]
    else:
        version = f"{next(NUMBERS)}.0"
        name = f"wheel-{version}"
        source = wheel(version)
        arguments = ["-e", "webstack_app_wsgi=probe_wheel:application"]
        if form == "index":
            host.check_output("mkdir -p /var/tmp/index")
            subprocess.run((docker(), "cp", source, "deploy-debian12:/var/tmp/index/"), check=True)
            source = f"probe=={version}"
            arguments += [
                "-e",
                json.dumps({"gunicorn_app_pip_arguments": ["--find-links", "/var/tmp/index"]}),
            ]
    code, output = deploy("-e", f"webstack_app_source={source}", *arguments)
    assert code == 0, output[-4000:]
    assert served(host) == name


def test_a_source_that_is_another_than_meant_is_refused(host, switches):
    before = live(host)
    source = EPHEMERAL / "probe-1.3.tar.gz"
    subprocess.run(("tar", "-C", str(SOURCE), "-czf", str(source), "."), check=True)
    code, output = deploy(
        *("-e", f"webstack_app_source={source}"),
        *("-e", f"gunicorn_app_source_checksum={'0' * 64}"),
    )
    assert code != 0
    assert "SHA-256" in output
    assert live(host) == before
    code, output = deploy("-e", "webstack_app_source=/nowhere/probe.tar.gz")
    assert code != 0
    assert "/nowhere/probe.tar.gz is not there on the control node" in output


def test_all_is_back_after_a_reboot(host, switches):
    before = served(host)
    subprocess.run((docker(), "restart", "deploy-debian12"), check=True, stdout=subprocess.DEVNULL)
    for _ in range(120):
        try:
            assert served(host) == before
            break
        except (OSError, AssertionError):
            time.sleep(0.5)
    assert served(host) == before
    assert len([unit for unit in running(host) if "@" in unit]) == 1
    assert host.check_output("systemctl --failed --plain --no-legend") == ""
    release()
    code, output = deploy()
    assert code == 0, output[-4000:]
