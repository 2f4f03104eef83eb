# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands in bin/: what a user can type wrong, and what they choose by themselves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import collections, common, demo, engine, python_env, suite
from tools.common import ToolError

from .conftest import ROOT, clean_environment

THIS = f"{sys.version_info.major}.{sys.version_info.minor}"


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "bin" / words[0]), *words[1:]],
        env={**clean_environment(), **env},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("name", ["demo", "setup", "run", "test", "lock"])
def test_help(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0
    assert f"bin/{name}" in done.stdout


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        (["demo", "upp"], {}, "doesn't know 'upp'"),
        (["demo", "down", "now"], {}, "doesn't know 'down now'"),
        (["demo"], {"GOLIVE_DEMO_PORT": "http"}, "GOLIVE_DEMO_PORT=http"),
        (["demo"], {"GOLIVE_DEMO_PORT": "70000"}, "GOLIVE_DEMO_PORT=70000"),
        (["demo"], {"GOLIVE_DEMO_IMAGE": "sid"}, "debian12, debian13"),
        (["test", "postgress"], {}, "no stage 'postgress'"),
        (["test", "-j", "0", "lint"], {}, "-j 0"),
        (["test", "--fast", "demo"], {}, "--fast leaves none"),
        (["setup", "everything"], {}, "no part 'everything'"),
        (["run", "no-such-command"], {}, "no-such-command can't be run"),
        (["setup", "env"], {"GOLIVE_PYTHON": "2.7"}, "GOLIVE_PYTHON=2.7"),
        (["setup", "env"], {"GOLIVE_PYTHON": "three"}, "GOLIVE_PYTHON=three"),
    ],
)
def test_wrong_words_end_with_2_and_say_what_to_do(
    words: list[str], env: dict[str, str], message: str
) -> None:
    done = run(*words, **env)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_commands_work_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "golive-demo").symlink_to(ROOT / "bin" / "demo")
    done = subprocess.run([tmp_path / "golive-demo", "-h"], capture_output=True, check=False)
    assert done.returncode == 0


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_shim_that_fails_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "shims" / f"python{THIS}", "echo 'not found' >&2; exit 127")
    real = script(
        tmp_path / "pyenv" / "versions" / f"{THIS}.99" / "bin" / f"python{THIS}",
        f'exec "{sys.executable}" "$@"',
    )
    monkeypatch.setenv("PATH", str(tmp_path / "shims"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    candidates = list(python_env._candidates(THIS))
    assert candidates[0] == str(tmp_path / "shims" / f"python{THIS}")
    assert str(real) in candidates
    assert python_env._probe(candidates[0], THIS) is None
    found = python_env._probe(str(real), THIS)
    assert found is not None and found.has_pip


def test_a_missing_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_env, "_candidates", lambda version: iter(()))
    monkeypatch.setenv("GOLIVE_PYTHON", "3.12")
    with pytest.raises(ToolError, match=r"Python 3\.12 \(GOLIVE_PYTHON\) was not found"):
        python_env.choose_interpreter()


def test_an_environment_killed_half_way_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python_env, "ROOT", tmp_path)
    monkeypatch.setattr(python_env, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(common, "CACHE", tmp_path / "cache")
    lock = tmp_path / "empty.txt"
    lock.write_text("# nothing\n")
    this = python_env.Interpreter(sys.executable, THIS, f"{THIS}.0", True)
    folder = tmp_path / "venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "half-made").touch()
    python_env.make_venv(folder, this, [lock], "a test")
    assert (folder / "bin" / "python").exists()
    assert not (folder / "half-made").exists()
    (folder / "kept").touch()
    python_env.make_venv(folder, this, [lock], "a test")
    assert (folder / "kept").exists()
    lock.write_text("# changed\n")
    python_env.make_venv(folder, this, [lock], "a test")
    assert not (folder / "kept").exists()


def test_the_users_own_collections_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collections, "TARGET", tmp_path)
    theirs = tmp_path / "community" / "general"
    theirs.mkdir(parents=True)
    (theirs / "MANIFEST.json").write_text("{}")
    ours = tmp_path / "community" / "docker"
    ours.mkdir(parents=True)
    (ours / "MANIFEST.json").write_text("{}")
    (ours / collections.MARKER).write_text("old\n")
    missing = collections.missing("new")
    assert "community.general" not in missing
    assert {"community.docker", "ansible.posix"} <= set(missing)


def test_pid_files_of_a_killed_engine_are_seen_as_stale(tmp_path: Path) -> None:
    pid_file = tmp_path / "docker.pid"
    assert not engine._stale(pid_file, "dockerd")
    # A number that another program bears by now.
    pid_file.write_text(str(os.getpid()))
    assert engine._stale(pid_file, "dockerd")
    pid_file.write_text("4194304999")
    assert engine._stale(pid_file, "dockerd")
    sleeper = script(tmp_path / "dockerd", "sleep 30 & wait")
    process = subprocess.Popen([sleeper], start_new_session=True)
    try:
        pid_file.write_text(str(process.pid))
        assert not engine._stale(pid_file, "dockerd")
    finally:
        suite.end_group(process.pid)
        process.wait()


def test_of_several_docker_clients_the_one_that_answers_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "new" / "docker", "echo 'client is too new' >&2; exit 1")
    good = script(tmp_path / "old" / "docker", "echo 20.10")
    monkeypatch.setenv("PATH", f"{tmp_path / 'new'}{os.pathsep}{tmp_path / 'old'}")
    found, _ = engine.find_docker()
    assert found is not None and found.client == str(good)


def test_an_engine_elsewhere_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    if shutil.which("docker") is None:
        monkeypatch.setattr(engine, "find_docker", lambda: (None, "no such socket"))
    with pytest.raises(ToolError, match="DOCKER_HOST=unix:///nowhere/docker.sock does not answer"):
        engine.docker_engine("test")


def test_a_port_in_use_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    class Silent(engine.Docker):
        def try_run(self, *arguments: str, timeout: float | None = 300) -> str | None:
            return None

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ToolError, match=f"port {port} on 127.0.0.1 is taken.*GOLIVE_DEMO_PORT"):
            demo._check_port(Silent("docker"), port)


def test_no_root_and_no_sudo_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="needs root, and sudo is not installed"):
        common.as_root(["apt-get", "install", "docker.io"], "The Docker engine")


@pytest.mark.parametrize(
    ("started_by", "asked_by", "stopped"),
    [("test", "demo", False), ("demo", "demo", True), ("test", "test", True)],
)
def test_an_engine_is_stopped_only_by_the_command_it_was_started_for(
    started_by: str,
    asked_by: str,
    stopped: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        record = tmp_path / "engine.json"
        record.write_text(json.dumps({"pid": process.pid, "owner": started_by}))
        pid_file = tmp_path / "docker.pid"
        pid_file.write_text(str(process.pid))
        monkeypatch.setattr(engine, "RECORD", record)
        monkeypatch.setattr(engine, "PID_FILE", pid_file)
        monkeypatch.setattr(engine, "_stale", lambda _file, _program: process.poll() is not None)
        idle = engine.Docker(str(script(tmp_path / "docker", "true")))
        # The child is reaped here, as its parent is this process and not init.
        monkeypatch.setattr(engine, "as_root", lambda command, _why: command)
        answer = engine.stop_if_ours(idle, asked_by)
        assert (answer == "") is stopped
        assert record.exists() is not stopped
        if not stopped:
            assert process.poll() is None
            assert "bin/test --clean" in answer
    finally:
        process.kill()
        process.wait()


def test_an_engine_of_the_demo_that_the_tests_use_is_theirs_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "engine.json"
    record.write_text(json.dumps({"pid": 1, "owner": "demo"}))
    monkeypatch.setattr(engine, "RECORD", record)
    docker = engine.Docker("docker")
    monkeypatch.setattr(engine, "find_docker", lambda: (docker, ""))
    assert engine.docker_engine("demo") is docker
    assert json.loads(record.read_text())["owner"] == "demo"
    assert engine.docker_engine("test") is docker
    assert json.loads(record.read_text())["owner"] == "test"


ANSIBLE_LOG = """\
TASK [Refuse the wrong port] ***************************************************
fatal: [web]: FAILED! =>
    msg: rescued long ago

TASK [Let it be refused] *******************************************************
ok: [web]

TASK [Restart the service] *****************************************************
[ERROR]: Task failed: Module failed: it does not come up
fatal: [web]: FAILED! =>
    changed: false
    msg: it does not come up

PLAY RECAP *********************************************************************
ERROR    Ansible return code was 2, command was: ansible-playbook converge.yml
"""


def test_a_failed_run_ends_with_what_failed() -> None:
    told = suite.gist(ANSIBLE_LOG.splitlines())
    assert told[-4:] == [
        "TASK [Restart the service]",
        "fatal: [web]: FAILED! =>",
        "    changed: false",
        "    msg: it does not come up",
    ]
    noise = ["TASK [Create]", "FAILED - RETRYING: [web]: Wait (299 retries left)."]
    pytest_log = [*noise, "E       assert 1 == 2", "FAILED tests/test_a.py::test_b - assert 1 == 2"]
    assert suite.gist([*ANSIBLE_LOG.splitlines()[:7], *pytest_log]) == [
        "FAILED tests/test_a.py::test_b - assert 1 == 2",
        "E       assert 1 == 2",
    ]
    assert suite.gist(["one", "two: E501 line too long"]) == ["one", "two: E501 line too long"]
