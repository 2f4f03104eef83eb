# SPDX-License-Identifier: GPL-3.0-or-later
"""bin/test: all stages, one table at the end."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tools.galaxy
from tools.collections import unpack_collections
from tools.common import (
    CACHE,
    LABEL,
    ROOT,
    ToolError,
    apt_install,
    complain,
    exclusive,
    note,
    say,
    tail,
)
from tools.demo import NAME as DEMO_NAME
from tools.engine import Docker, docker_engine, proxy_options, stop_if_ours
from tools.image import (
    RUN_OPTIONS,
    SUITES,
    check_room,
    ensure_image,
    remove_images,
    tag,
    wait_for_systemd,
)
from tools.python_env import (
    choose_interpreter,
    control_environment,
    environment,
    has_interpreter,
    make_venv,
)

EXAMPLE = ROOT / "examples" / "live_dashboard"
MOLECULE = ROOT / "molecule"
# Before the client on a scenario's PATH.
NEARBY = ROOT / "tools" / "nearby"
# The longest first, so that none of them runs alone at the end.
ORDER = ("multi_host", "deploy", "site", "gunicorn_app", "backup",
         "cutover", "monitoring", "postgres", "redis", "nginx")  # fmt: skip
# The other release is in the scenarios and the demo that put the same roles together.
ONE_RELEASE = {name: f"{name}-debian13" for name in ("backup", "monitoring", "nginx", "postgres")}
# What does not depend on the server's version.
ONE_SERVER = ("test_large.py", "test_orm.py", "test_properties.py", "test_through_ansible.py")
OLDEST = "3.11"
# Of the contract tests those that another ansible-core can change.
THROUGH_ANSIBLE = [f"tests/contract/test_{n}.py" for n in ("resolving", "runner")]
STAGE_SECONDS = 45 * 60
HEARTBEAT = 60
SHOWN_LINES = 150
GIST_LINES = 40


class StageFailed(Exception):
    """A stage found something; the log says what."""


@dataclass
class Context:
    """What the stages share."""

    venv: Path
    docker: Docker | None
    verbose: bool
    # Of everything each stage runs the part that no other one covers; by name it runs whole.
    whole: bool = False
    children: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: bool = False

    def engine(self) -> Docker:
        if self.docker is None:
            raise StageFailed("this stage needs Docker")
        return self.docker


@dataclass
class Run:
    """One stage's run: its commands write to one log."""

    name: str
    context: Context
    log: Path
    began: float = field(default_factory=time.monotonic)
    summary: str = ""

    def write(self, text: str) -> None:
        with self.log.open("a") as stream:
            stream.write(text.rstrip("\n") + "\n")
        if self.context.verbose:
            print(text, flush=True)

    def command(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> int:
        """Run one command into the log, in a process group of its own so that all of it ends."""
        self.write("$ " + " ".join(command))
        if self.context.stopping:
            raise StageFailed("stopped")
        process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(env if env is not None else environment(self.context.venv)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        with self.context.lock:
            self.context.children.add(process.pid)
        left = max(1.0, STAGE_SECONDS - (time.monotonic() - self.began))
        timer = threading.Timer(left, self._expire, (process.pid,))
        timer.start()
        try:
            assert process.stdout is not None
            with self.log.open("a") as stream:
                for coloured in process.stdout:
                    line = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
                    if re.match(r"[A-Z]+ +\[\w+ > \w+\] Execut", line):
                        line = f"{time.monotonic() - self.began:5.0f} s  {line}"
                    stream.write(line)
                    stream.flush()
                    if self.context.verbose:
                        print(line, end="", flush=True)
                    if re.search(r"\d+ (passed|failed|error)", line):
                        self.summary = line.strip(" =\n")
            return process.wait()
        finally:
            timer.cancel()
            with self.context.lock:
                self.context.children.discard(process.pid)

    def _expire(self, pid: int) -> None:
        self.write(f"stopped after {STAGE_SECONDS // 60} minutes: a stage may not take longer")
        end_group(pid)

    def check(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
    ) -> None:
        code = self.command(command, env, cwd)
        if code != 0:
            shown = " ".join([Path(command[0]).name, *command[1:]])
            raise StageFailed(f"'{shown[:60]}' ended with exit code {code}")


@dataclass(frozen=True)
class Stage:
    name: str
    about: str
    function: Callable[[Run], None]
    images: tuple[str, ...] = ()
    containers: bool = False


def end_group(pid: int) -> None:
    """End a command and what it started: politely, then not."""
    for number, patience in ((signal.SIGINT, 8.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 0.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
        end = time.monotonic() + patience
        while time.monotonic() < end:
            try:
                os.killpg(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)


def tool(run: Run, name: str) -> str:
    return str(run.context.venv / "bin" / name)


def lint(run: Run) -> None:
    """All linters run, so that one round of mending serves them all."""
    python = ["tools", "tests", "plugins", "molecule", "benchmarks"]
    paths = [name for name in python if (ROOT / name).is_dir()]
    commands = (
        [tool(run, "ruff"), "check", "."],
        [tool(run, "ruff"), "format", "--check", "."],
        [tool(run, "mypy")],
        [tool(run, "yamllint"), "--strict", "."],
        [tool(run, "ansible-lint"), "--offline"],
    )
    run.write("checked: " + " ".join(paths))
    failed = [Path(command[0]).name for command in commands if run.command(command) != 0]
    if failed:
        raise StageFailed("failed: " + ", ".join(dict.fromkeys(failed)))


def pytest_stage(*folders: str) -> Callable[[Run], None]:
    def function(run: Run) -> None:
        for folder in folders:
            if not (ROOT / folder).is_dir():
                raise StageFailed(f"{folder} is not there")
        run.check([tool(run, "python"), "-m", "pytest", "-q", *folders])

    return function


def oldest(run: Run) -> None:
    """The same without containers on the oldest ansible-core that is supported."""
    venv = control_environment(OLDEST)
    # A process each: the unit tests import the collection by themselves, and after that
    # Ansible's own loader does not find its filters.
    for paths in (["tests/unit"], ["tests/templates"], THROUGH_ANSIBLE):
        run.check([str(venv / "bin/python"), "-m", "pytest", "-q", *paths], environment(venv))


def example(run: Run, services: Mapping[str, str] | None = None) -> None:
    venv = ROOT / ".venv" / "example"
    locks = [EXAMPLE / "requirements-dev.txt"]
    make_venv(venv, choose_interpreter(), locks, "the example application's tests")
    run.check(
        [str(venv / "bin/python"), "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        {**environment(venv), **(services or {})},
        EXAMPLE,
    )


# Addresses and passwords reach no further than this machine's own bridge.
POSTGRES = r"""
version=$(ls /etc/postgresql)
conf=/etc/postgresql/$version/main
printf "listen_addresses = '*'\nfsync = off\n" >"$conf/conf.d/test.conf"
echo 'host all all all scram-sha-256' >>"$conf/pg_hba.conf"
systemctl restart "postgresql@$version-main"
for _ in $(seq 60); do pg_isready -q && break; sleep 0.5; done
su postgres -c "psql -qc \"CREATE ROLE golive_test LOGIN CREATEDB PASSWORD 'only-for-tests'\""
su postgres -c "createdb -O golive_test golive_test"
# A disk that a test can fill.
small=/srv/small
install -d "$small"
mount -t tmpfs -o size=48m,mode=0700,uid=$(id -u postgres),gid=$(id -g postgres) tmpfs "$small"
su postgres -c "psql -qc \"CREATE TABLESPACE golive_small LOCATION '$small'\""
su postgres -c "psql -qc 'GRANT CREATE ON TABLESPACE golive_small TO golive_test'"
"""
REDIS = r"""
printf 'bind 0.0.0.0\nprotected-mode no\n' >>/etc/redis/redis.conf
systemctl restart redis-server
"""


def _service_host(run: Run, suite: str, packages: Sequence[str], script: str) -> str:
    """A container with real services for one stage; its address."""
    docker = run.context.engine()
    name = f"golive-{run.name.replace('_', '-')}-{suite}"
    docker.try_run("rm", "-f", "-v", name)
    docker.run("run", "--detach", "--name", name, "--hostname", name,
               "--label", f"{LABEL}=test", "--label", f"{LABEL}.scenario={run.name}",
               *RUN_OPTIONS, *proxy_options(), tag(f"{suite}-cached"))  # fmt: skip
    wait_for_systemd(docker, name)
    install = "DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "
    script = f"set -e\n{install}{' '.join(packages)}\n{script}"
    run.check([docker.client, "exec", name, "sh", "-c", script])
    return docker.run(
        "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name
    )


@contextlib.contextmanager
def _part(run: Run, name: str) -> Iterator[Run]:
    """A part that runs beside others; its log is added to the stage's when it has ended."""
    part = Run(run.name, run.context, run.log.with_name(f"{run.log.name}.{name}"))
    part.write("")
    try:
        yield part
    finally:
        with run.log.open("a") as stream:
            stream.write(f"--- {name}\n{part.log.read_text(errors='replace')}")
        part.log.unlink()


def _dsn(address: str, database: str) -> str:
    return f"postgresql://golive_test:only-for-tests@{address}:5432/{database}"


def example_services(run: Run) -> None:
    address = _service_host(run, "debian13", ["postgresql", "redis-server"], POSTGRES + REDIS)
    services = {
        "TEST_DATABASE_URL": _dsn(address, "golive_test"),
        "TEST_REDIS_URL": f"redis://{address}:6379/0",
    }
    example(run, services)


def integration(run: Run) -> None:
    """The servers side by side: most of a test's time is waiting for its own."""

    def against(suite: str) -> str:
        address = _service_host(run, suite, ["postgresql"], POSTGRES)
        env = {**environment(run.context.venv), "GOLIVE_TEST_DSNS": _dsn(address, "postgres")}
        ignored = ONE_SERVER if not run.context.whole and suite == "debian12" else ()
        command = [tool(run, "python"), "-m", "pytest", "-q", "tests/integration"]
        with _part(run, suite) as part:
            part.check([*command, *(f"--ignore=tests/integration/{n}" for n in ignored)], env)
        return f"{suite}: {part.summary}"

    with concurrent.futures.ThreadPoolExecutor() as pool:
        run.summary = "; ".join(pool.map(against, SUITES))


def galaxy(run: Run) -> None:
    """What is published, looked at as Galaxy and its tools do."""
    with tempfile.TemporaryDirectory(prefix="golive-galaxy-") as folder:
        work = tools.galaxy.Work(Path(folder), run.check, run.write)
        tools.galaxy.build(work)

        def one(name: str, function: Callable[[tools.galaxy.Work], None]) -> None:
            began = time.monotonic()
            with _part(run, name) as part:
                function(work.writing_to(part.check, part.write))
            run.write(f"{name}: {time.monotonic() - began:.0f} s")

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            parts = tools.galaxy.PARTS if run.context.whole else tools.galaxy.SHORT
            done = [pool.submit(one, *item) for item in parts.items()]
        failed = [str(error) for future in done if (error := future.exception())]
        if failed:
            raise StageFailed("; ".join(failed))


def scenario(run: Run) -> None:
    browser_tests = (MOLECULE / run.name / "tests" / "test_browser.py").exists()
    if browser_tests and shutil.which("chromium") is None and shutil.which("apt-get"):
        apt_install(["chromium"], "The tests in a real browser")
    if shutil.which("ssh") is None and shutil.which("apt-get"):
        apt_install(["openssh-client"], "Hosts that can't be reached")
    env = environment(run.context.venv)
    env.update(NO_COLOR="1", PY_COLORS="0", ANSIBLE_FORCE_COLOR="0", COLUMNS="160")
    for name in ("FORCE_COLOR", "ANSIBLE_CONFIG"):
        env.pop(name, None)
    docker = run.context.engine()
    # Where several docker clients are installed, the one that answers is meant.
    env["GOLIVE_DOCKER_CLIENT"] = docker.client
    env["GOLIVE_DOCKER_ROOT"] = docker.run("info", "-f", "{{.DockerRootDir}}")
    env["ANSIBLE_DOCKER_COMMAND"] = str(NEARBY / "docker")
    env["PATH"] = f"{NEARBY}{os.pathsep}{env['PATH']}"
    # The containers are gone before and after a stage; what Molecule remembers of them is, too.
    remembered = CACHE / "molecule" / run.name
    shutil.rmtree(remembered, ignore_errors=True)
    remembered.mkdir(parents=True)
    env["MOLECULE_EPHEMERAL_DIRECTORY"] = str(remembered)
    this = ["--no-command-borders", "-s", run.name]
    command = [tool(run, "molecule"), "test", *this, "--destroy", "never"]
    if not run.context.whole:
        env.setdefault("GOLIVE_SWITCHES", "1")
    if not run.context.whole and run.name in ONE_RELEASE:
        command += ["--platform-name", ONE_RELEASE[run.name]]
    try:
        run.check(command, env)
    except StageFailed:
        run.command([tool(run, "molecule"), "cleanup", *this], env)
        raise
    run.summary = ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def demo(run: Run) -> None:
    """The README's command as it is: twice, then removed, with a stranger beside it."""
    docker = run.context.engine()
    running = docker.try_run("inspect", "-f", "{{.State.Running}}", DEMO_NAME) == "true"
    if running and not os.environ.get("CI"):
        raise StageFailed("a demo is up on this machine: 'bin/demo down' first")
    command = str(ROOT / "bin" / "demo")
    run.check([command, "down"])
    env = {**environment(run.context.venv), "GOLIVE_DEMO_PORT": str(_free_port())}
    stranger = f"golive-stranger-{os.getpid()}"
    image = ensure_image(docker, "debian12")
    docker.run("create", "--name", stranger, image)
    try:
        run.check([command], env)
        before = run.log.stat().st_size
        run.check([command], env)
        second = run.log.read_text(errors="replace")[before:]
        if "Nothing changed." not in second or "changed=0" not in second:
            raise StageFailed("the second run of bin/demo changed something")
        run.check([command, "status"], env)
        run.check([command, "down"], env)
        if docker.labelled("container", "demo") or docker.labelled("network", "demo"):
            raise StageFailed("'bin/demo down' left a container or network of its own")
        if docker.try_run("container", "inspect", stranger) is None:
            raise StageFailed("'bin/demo down' removed a container that isn't its own")
        run.check([command, "down"], env)
    finally:
        docker.try_run("rm", "-f", stranger)


def scenarios() -> list[str]:
    found = {path.parent.name for path in MOLECULE.glob("*/molecule.yml")}
    return [name for name in ORDER if name in found] + sorted(found - set(ORDER))


def _images_of(name: str) -> tuple[str, ...]:
    text = (MOLECULE / name / "molecule.yml").read_text()
    return tuple(sorted(set(re.findall(r"golive-webstack/target:(\S+)", text))))


def all_stages() -> list[Stage]:
    cached = tuple(f"{suite}-cached" for suite in SUITES)
    stages = [
        Stage("lint", "ruff, mypy, yamllint, ansible-lint (profile production)", lint),
        Stage("unit", "tests/unit", pytest_stage("tests/unit")),
        Stage("templates", "tests/templates", pytest_stage("tests/templates")),
        Stage("contract", "tests/contract", pytest_stage("tests/contract")),
    ]
    if has_interpreter(OLDEST) and choose_interpreter().version != OLDEST:
        stages.append(
            Stage(
                "core219", "the same on ansible-core 2.19, as far as it makes a difference", oldest
            )
        )
    stages += [
        Stage("galaxy", "the archive, ansible-test, galaxy-importer, documentation", galaxy),
        Stage("example", "the example application's own tests", example),
        Stage("example_services", "the same with real PostgreSQL and Redis", example_services,
              ("debian13-cached",), True),
        Stage("integration", "tests/integration with PostgreSQL 15 and 17", integration,
              cached, True),
    ]  # fmt: skip
    for name in scenarios():
        stages.append(Stage(name, f"Molecule scenario {name}", scenario, _images_of(name), True))
    # Before the short ones, for the same reason.
    stages.insert(-3, Stage("demo", "bin/demo twice, then down", demo, ("debian12",), True))
    return stages


def _sweep(docker: Docker, name: str) -> None:
    """Remove what one stage made; a killed run may have left it."""
    only = ["--filter", f"label={LABEL}=test", "--filter", f"label={LABEL}.scenario={name}"]
    for identity in docker.run("ps", "-aq", *only).split():
        docker.try_run("rm", "-f", "-v", identity)
    for identity in docker.run("network", "ls", "-q", *only).split():
        docker.try_run("network", "rm", identity)


@dataclass
class Outcome:
    name: str
    passed: bool
    seconds: float
    why: str = ""


class Runner:
    def __init__(self, context: Context) -> None:
        self.context = context
        self.outcomes: list[Outcome] = []
        self.running: dict[str, float] = {}
        self.printing = threading.Lock()

    def run_stage(self, stage: Stage) -> None:
        log = CACHE / "logs" / f"test-{stage.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        docker = self.context.docker if stage.containers else None
        why = ""
        with exclusive(f"test-{stage.name}"):
            log.write_text("")
            run = Run(stage.name, self.context, log)
            with self.printing:
                self.running[stage.name] = run.began
                say(f"{stage.name}: {stage.about}")
            try:
                if docker:
                    _sweep(docker, stage.name)
                    for image in stage.images:
                        ensure_image(docker, image)
                stage.function(run)
            except (StageFailed, ToolError) as error:
                why = str(error)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            finally:
                if docker:
                    with contextlib.suppress(ToolError):
                        _sweep(docker, stage.name)
        if self.context.stopping:
            why = "stopped"
        outcome = Outcome(stage.name, not why, time.monotonic() - run.began, why)
        with self.printing:
            self.running.pop(stage.name, None)
            self.outcomes.append(outcome)
            if not self.context.stopping:
                self._report(outcome, run)

    def _report(self, outcome: Outcome, run: Run) -> None:
        if outcome.passed:
            note(f"{outcome.name} passed in {outcome.seconds:.0f} s  {run.summary}")
            return
        complain(f"{outcome.name} failed after {outcome.seconds:.0f} s: {outcome.why}")
        if not self.context.verbose:
            print(f"--- the last {SHOWN_LINES} lines of {run.log}")
            print(tail(run.log, SHOWN_LINES))
            print(f"--- end of {outcome.name}", flush=True)

    def run_group(self, stages: Sequence[Stage], jobs: int) -> None:
        if not stages:
            return
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            waiting = {pool.submit(self.run_stage, stage) for stage in stages}
            try:
                while waiting:
                    done, waiting = concurrent.futures.wait(
                        waiting,
                        timeout=HEARTBEAT,
                        return_when=concurrent.futures.FIRST_COMPLETED,
                    )
                    for future in done:
                        future.result()
                    if not done:
                        self._heartbeat()
            except KeyboardInterrupt:
                self.context.stopping = True
                for future in waiting:
                    future.cancel()
                with self.context.lock:
                    children = list(self.context.children)
                say("Stopping, and removing the containers of the stages that were running")
                for pid in children:
                    end_group(pid)
                raise

    def _heartbeat(self) -> None:
        now = time.monotonic()
        names = ", ".join(f"{name} ({now - t:.0f} s)" for name, t in list(self.running.items()))
        note(f"still running: {names}")


def gist(lines: Sequence[str]) -> list[str]:
    """What failed, of a log: Ansible's last failed tasks, pytest's failures, or else the end."""
    tasks: list[list[str]] = []
    task, block = "", None
    failures, reasons = [], []
    for line in lines:
        if line.startswith(("TASK [", "RUNNING HANDLER [")):
            task = line.rstrip("* ")
        if re.match(r"(fatal|failed): \[", line) and "...ignoring" not in line:
            block = [task, line]
            tasks.append(block)
        elif block is not None and line.startswith(" ") and len(block) < GIST_LINES // 2:
            block.append(line)
        elif line == "...ignoring" and tasks:
            tasks.pop()
        else:
            block = None
        if re.match(r"(FAILED|ERROR) \S+::", line):
            failures.append(line)
        elif re.match(r"E   +\S", line):
            reasons.append(line)
    # A play that was to fail and then was rescued leaves such lines, too; the last ones ended it.
    ended = any("Ansible return code was" in line for line in lines)
    found = failures + reasons or [line for one in tasks[-2:] for line in one if ended]
    return [line[:300] for line in (found or list(lines[-GIST_LINES // 2 :]))[:GIST_LINES]]


def _clean() -> int:
    docker = docker_engine("test")
    assert docker is not None
    removed = docker.remove_labelled("test")
    names = [f"{suite}{variant}" for variant in ("-cached", "") for suite in SUITES]
    removed += remove_images(docker, names)
    engine = stop_if_ours(docker, "test")
    if not engine:
        removed.append("the Docker engine that bin/test had started (stopped)")
    say("Removed: " + (", ".join(removed) if removed else "nothing, there was nothing left"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bin/test",
        description="Run the tests: all stages, or those named.",
        epilog="GOLIVE_PYTHON=3.11 runs them on another Python than the newest."
        " Logs: .cache/logs/test-STAGE.log",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a stage, a Molecule scenario,"
                        " or 'molecule' for all scenarios")  # fmt: skip
    parser.add_argument("--fast", action="store_true", help="leave out what needs containers")
    parser.add_argument("--from", dest="first", metavar="NAME", help="all stages from this one on,"
                        " such as the one that a run was stopped in")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="list the stages")
    parser.add_argument("--clean", action="store_true", help="remove the test containers and"
                        " images, and stop an engine that bin/test started")  # fmt: skip
    parser.add_argument("-j", "--jobs", type=int, default=2, metavar="N",
                        help="stages at a time (default 2)")  # fmt: skip
    parser.add_argument("-v", "--verbose", action="store_true", help="show all output as it comes")
    return parser


def _selected(options: argparse.Namespace, stages: list[Stage]) -> list[Stage]:
    names = list(options.names)
    if "molecule" in names:
        names = [n for n in names if n != "molecule"] + scenarios()
    known = {stage.name for stage in stages}
    if names and options.first:
        raise ToolError("Give either names or --from.")
    for name in [*names, *([options.first] if options.first else [])]:
        if name not in known:
            raise ToolError(
                f"bin/test knows no stage '{name}'. The stages: {', '.join(s.name for s in stages)}"
            )
    chosen = [stage for stage in stages if not names or stage.name in names]
    if options.first:
        chosen = chosen[[stage.name for stage in stages].index(options.first) :]
    if not names and not options.fast:
        # The same tests run again with the services.
        chosen = [
            stage for stage in chosen if stage.name != "example" or options.first == "example"
        ]
    if options.fast:
        chosen = [stage for stage in chosen if not stage.containers]
        if not chosen:
            raise ToolError("--fast leaves none of these stages: they all need containers.")
    return chosen


@contextlib.contextmanager
def _steps(runner: Runner) -> Iterator[None]:
    try:
        yield
    finally:
        _table(runner.outcomes)


def _table(outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        return
    print()
    for outcome in outcomes:
        word = "passed" if outcome.passed else "failed"
        print(f"{outcome.name:<17}{word}  {outcome.seconds:7.1f} s  {outcome.why}".rstrip())
    good = sum(outcome.passed for outcome in outcomes)
    for outcome in outcomes:
        log = CACHE / "logs" / f"test-{outcome.name}.log"
        if not outcome.passed and log.exists():
            print(f"\nWhat failed in {outcome.name} ({log}):")
            print("\n".join(gist(log.read_text(errors="replace").splitlines())))
    print()
    print(f"{good} passed, {len(outcomes) - good} failed", flush=True)


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.jobs < 1:
        raise ToolError(f"-j {options.jobs}: at least one stage has to run at a time.")
    if options.clean:
        return _clean()
    stages = all_stages()
    if options.list:
        for stage in stages:
            kind = "containers" if stage.containers else ""
            print(f"{stage.name:<17}{stage.about:<58} {kind}".rstrip())
        return 0
    chosen = _selected(options, stages)
    venv = control_environment()
    unpack_collections(venv)
    docker = None
    if any(stage.containers for stage in chosen):
        docker = docker_engine("test")
        assert docker is not None
        check_room(docker)
    named = bool(options.names)
    context = Context(venv, docker, options.verbose or len(chosen) == 1 and named, whole=named)
    runner = Runner(context)
    with _steps(runner):
        runner.run_group([s for s in chosen if not s.containers], options.jobs)
        runner.run_group([s for s in chosen if s.containers], options.jobs)
    return 0 if all(outcome.passed for outcome in runner.outcomes) else 1
