#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast does the migration load, against pgloader, DuckDB, CSV and COPY of ready text?

The same SQLite file (two million log entries as the example application writes them) goes
into the same PostgreSQL server, each way in a process of its own and in a new database:

  data    the rows alone, into tables that are there, without keys and indexes;
  whole   tables, rows, primary keys, unique constraints, indexes, foreign keys, statistics;
          after ours, the collection's verification of what it loaded, in each of its depths.

`ready text` is the limit: PostgreSQL's own COPY of a file that it wrote itself, with the same
statements for keys and indexes. The ways take turns within a round, and each round's ratios are
its own, so that a busy neighbour slows all of them. Writes results.json and RESULTS.md beside
this file, with the number of rows in their names if it isn't the usual one. Server: --dsn, or a
container that is made for it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "collections"))

from tools.common import CACHE, LABEL, ToolError, guarded, note, say  # noqa: E402

WORK = CACHE / "benchmark" / "migration"
DUCKDB = WORK / "duckdb"
DUCKDB_VERSION = "1.5.5"
# The distribution's own Python, which the modules run with on a host: it is built with profile
# and link-time optimisation, which one that was compiled by hand may lack.
CLIENT = next((p for p in ("/usr/bin/python3.11", "/usr/bin/python3.13") if Path(p).exists()),
              sys.executable)  # fmt: skip
PACKAGE = "ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration"
SAMPLE = ROOT / "examples" / "live_dashboard" / "sample_data.py"
CONTAINER = "golive-bench-postgres"
DATABASE = "golive_bench"
PASSWORD = "only-for-benchmarks"
PORT = 54329
SERVER = f"""
export DEBIAN_FRONTEND=noninteractive
apt-get -q update >/dev/null
apt-get -q install -y --no-install-recommends postgresql >/dev/null
conf=$(ls -d /etc/postgresql/*/main)
printf "listen_addresses = '127.0.0.1'\\nport = {PORT}\\n" >"$conf/conf.d/benchmark.conf"
systemctl restart "postgresql@$(basename "$(dirname "$conf")")-main"
for _ in $(seq 60); do pg_isready -q -p {PORT} && break; sleep 0.5; done
su postgres -c "psql -p {PORT} -qc \\"CREATE ROLE bench LOGIN CREATEDB PASSWORD '{PASSWORD}'\\""
"""
TITLES = {
    "ours": "golive.webstack",
    "ours_file_unchecked": "the same without the file's check and fingerprint",
    "text": "COPY of ready text (the limit)",
    "text_untuned": "the same, indexes with the server's own settings",
    "binary": "COPY of ready binary",
    "pgloader": "pgloader, default",
    "pgloader_tuned": "pgloader, tuned",
    "duckdb": "DuckDB",
    "csv": "csv.writer and copy_expert",
    "verify_counts": "counts",
    "verify_checksums": "checksums",
    "verify_full": "full",
}
ROWS = 2_000_000
PARTS = {
    "data": ("ours", "ours_file_unchecked", "text", "binary", "duckdb", "csv", "pgloader_tuned"),
    "whole": ("ours", "text", "text_untuned", "duckdb", "csv", "pgloader", "pgloader_tuned"),
    "verify": ("verify_counts", "verify_checksums", "verify_full"),
}


# --- the ways, each in a process of its own -------------------------------------------------------


def connect(dsn: str) -> Any:
    import psycopg2

    return psycopg2.connect(dsn)


def request_of(source: str, dsn: str) -> Any:
    from importlib import import_module

    load = import_module(f"{PACKAGE}.load")
    return load.Request(source, load.Target(dsn=dsn))


def plan_of(source: str, dsn: str) -> Any:
    from importlib import import_module

    planning = import_module(f"{PACKAGE}.planning")
    database = import_module(f"{PACKAGE}.source").SourceDatabase
    with database(source, overlap=True) as opened:
        return planning.make_plan(opened, request_of(source, dsn), None)


def run_ours(part: str, source: str, dsn: str, checked: bool = True) -> None:
    """`checked`: with the check of the file for damage, and its fingerprint."""
    from importlib import import_module

    load = import_module(f"{PACKAGE}.load")
    request = request_of(source, dsn)
    if part == "whole":
        load.migrate(request)
        return
    pg = import_module(f"{PACKAGE}.target")
    connection = connect(dsn)
    pg.settle_session(connection)
    database = import_module(f"{PACKAGE}.source").SourceDatabase
    parallel = import_module(f"{PACKAGE}.parallel")
    with (
        parallel.Workers(parallel.wanted(source, request.target)) as workers,
        database(source, request.integrity, overlap=True) as opened,
    ):
        if checked:
            opened.fingerprint()
        workers.join(opened)
        progress = import_module(f"{PACKAGE}.progress").Progress()
        run = load._Run(connection, opened, request, load.Outcome(), progress, [], workers)
        run._make_plan({})
        if checked:
            run._start_checks(run._unproved(run.plan.left_out))
        results = run._load_tables()
        opened.finish_checks(run._prove_counts(results))
        connection.commit()


def run_verify(source: str, dsn: str, depth: str) -> None:
    from importlib import import_module

    module = import_module(f"{PACKAGE}.verify")
    target = import_module(f"{PACKAGE}.target").Target(dsn=dsn)
    verdict = module.verify(module.VerifyRequest(source, target, depth=depth))
    if not verdict.compared or verdict.differences:
        raise ToolError(f"The verification found differences: {verdict.differences[:3]}")


def with_plan(part: str, source: str, dsn: str, fill: Any, tuned: bool = True) -> None:
    """Tables, rows by `fill`, and for the whole job the same statements that ours gives.

    `tuned` is the memory and the processes that ours gives to index builds; else the server's own.
    """
    from importlib import import_module

    pg = import_module(f"{PACKAGE}.target")
    plan = plan_of(source, dsn)
    connection = connect(dsn)
    with connection.cursor() as cursor:
        for table in plan.tables:
            cursor.execute(table.create)
        fill(connection, cursor, plan)
        if part == "whole":
            if tuned:
                pg.prepare_for_indexes(connection, pg.Target(dsn=dsn))
                pg.share_processors(connection, pg.Target(dsn=dsn))
            for table in plan.tables:
                for statement in table.keys:
                    cursor.execute(statement.sql)
            for table in plan.tables:
                for statement in table.foreign_keys:
                    cursor.execute(statement.sql)
            for table in plan.tables:
                cursor.execute(f'ANALYZE "{table.target_name}"')
    connection.commit()


def run_ready(form: str, tuned: bool = True) -> Any:
    def fill(_connection: Any, cursor: Any, plan: Any) -> None:
        for table in plan.tables:
            with (WORK / f"{table.name}.{form}").open("rb") as stream:
                cursor.copy_expert(
                    f'COPY "{table.target_name}" FROM STDIN (FORMAT {form})', stream, size=65536
                )

    return lambda part, source, dsn: with_plan(part, source, dsn, fill, tuned)


class Lines:
    """A file for copy_expert from a generator of texts."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks = blocks

    def read(self, _size: int = -1) -> bytes:
        return next(self.blocks, b"")


def run_csv(part: str, source: str, dsn: str) -> None:
    import io
    import sqlite3

    def blocks(name: str) -> Iterator[bytes]:
        cursor = sqlite3.connect(f"file:{source}?mode=ro", uri=True).execute(
            f'SELECT * FROM "{name}"'
        )
        while rows := cursor.fetchmany(500):
            text = io.StringIO()
            # An empty text isn't NULL, and csv.writer writes both alike; the sample has \N too.
            csv.writer(text).writerows([["(null)" if v is None else v for v in r] for r in rows])
            yield text.getvalue().encode()

    def fill(_connection: Any, cursor: Any, plan: Any) -> None:
        for table in plan.tables:
            sql = f'COPY "{table.target_name}" FROM STDIN (FORMAT csv, NULL $$(null)$$)'
            cursor.copy_expert(sql, Lines(blocks(table.name)))

    with_plan(part, source, dsn, fill)


def run_duckdb(part: str, source: str, dsn: str) -> None:
    def fill(connection: Any, _cursor: Any, plan: Any) -> None:
        connection.commit()
        names = json.dumps([table.name for table in plan.tables])
        script = HERE / "copy_by_duckdb.py"
        command = [str(DUCKDB / "bin" / "python"), str(script), source, dsn, names]
        subprocess.run(command, check=True)

    with_plan(part, source, dsn, fill)


def run_pgloader(part: str, source: str, dsn: str, tuned: bool = False) -> None:
    options = ["include drop", "create tables", "create indexes", "reset sequences"]
    if part == "data":
        command = WORK / "make-tables.done"
        with_plan("data", source, dsn, lambda *_given: None)
        options = ["data only", "no truncate", "reset no sequences"]
        command.touch()
    if tuned:
        options += ["workers = 2", "concurrency = 1", "batch rows = 10000", "prefetch rows = 10000",
                    "batch size = 8MB"]  # fmt: skip
    settings = "SET work_mem to '64MB', maintenance_work_mem to '128MB'" if tuned else ""
    script = WORK / "pgloader.load"
    script.write_text(
        f"LOAD DATABASE FROM sqlite://{source} INTO {dsn}\nWITH {', '.join(options)}\n{settings};\n"
    )
    done = subprocess.run(["pgloader", "--root-dir", str(WORK / "pgloader"), str(script)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    # Its exit code is 0 whatever happens, so the rows are counted by the caller.
    (WORK / "pgloader.log").write_text(done.stdout + done.stderr)


WAYS = {
    "ours": run_ours,
    "ours_file_unchecked": lambda part, source, dsn: run_ours(part, source, dsn, False),
    "text": run_ready("text"),
    "text_untuned": run_ready("text", tuned=False),
    "binary": run_ready("binary"),
    "csv": run_csv,
    "duckdb": run_duckdb,
    "pgloader": run_pgloader,
    "pgloader_tuned": lambda part, source, dsn: run_pgloader(part, source, dsn, True),
    "verify_counts": lambda _part, source, dsn: run_verify(source, dsn, "counts"),
    "verify_checksums": lambda _part, source, dsn: run_verify(source, dsn, "checksums"),
    "verify_full": lambda _part, source, dsn: run_verify(source, dsn, "full"),
}


# --- the measurement ------------------------------------------------------------------------------


def with_database(dsn: str, name: str) -> str:
    parts = urlsplit(dsn)
    return urlunsplit((parts.scheme, parts.netloc, f"/{name}", parts.query, ""))


def fresh(dsn: str) -> str:
    connection = connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        # FORCE would need rights over the server's own vacuum processes.
        cursor.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        cursor.execute(f"CREATE DATABASE {DATABASE} ENCODING 'UTF8' TEMPLATE template0")
        # So that no way pays for the writing of the one before it; only superusers may.
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if cursor.fetchone()[0]:
            cursor.execute("CHECKPOINT")
    connection.close()
    return with_database(dsn, DATABASE)


class MemoryWatch(threading.Thread):
    """The highest sum of a process's and its children's memory, shared pages counted once."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._peak = 0
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.25):
            self._peak = max(self._peak, self._sum(self._pid))

    def _sum(self, pid: int) -> int:
        try:
            found = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\nPss:")[1].split()[0]
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (OSError, IndexError):
            # It has just ended.
            return 0
        return int(found) + sum(self._sum(int(child)) for child in children)

    def end(self) -> int:
        self._over.set()
        self.join()
        return self._peak


def client_environment() -> dict[str, str]:
    """Python's compiled files are kept, as those of any installed program are."""
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(WORK / "compiled")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


def compile_client() -> None:
    """Else the first round would pay for it."""
    code = f"import sys; sys.path[:0] = {sys.path[:2]!r}; import psycopg2, {PACKAGE}.load"
    subprocess.run([CLIENT, "-c", code], env=client_environment(), check=True)


def loop_seconds() -> float:
    """How long a fixed loop takes on all processors at once: more beside a busy neighbour."""
    code = "for n in range(4_000_000): n * n"
    began = time.monotonic()
    children = [subprocess.Popen([CLIENT, "-c", code]) for _number in range(os.cpu_count() or 1)]
    for child in children:
        child.wait()
    return round(time.monotonic() - began, 2)


def measure(way: str, part: str, source: Path, dsn: str, rows: int) -> dict[str, Any]:
    # A verification is of what the way before it has loaded.
    target = with_database(dsn, DATABASE) if part == "verify" else fresh(dsn)
    command = [CLIENT, __file__, "--child", way, "--part", part, "--source", str(source)]
    began = time.monotonic()
    child = subprocess.Popen(command, env={**client_environment(), "GOLIVE_BENCH_TARGET": target})
    watch = MemoryWatch(child.pid)
    _pid, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    peak = watch.end()
    connection = connect(target)
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('public.log_entries') IS NOT NULL")
        found = 0
        if cursor.fetchone()[0]:
            cursor.execute("SELECT count(*) FROM public.log_entries")
            found = cursor.fetchone()[0]
    connection.close()
    result = {
        "seconds": round(seconds, 2),
        "client_cpu": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(peak / 1024, 1),
        "rows": found,
        "right": child.returncode == 0 and found == rows,
    }
    state = "" if result["right"] else f"  WRONG: exit code {child.returncode}, {found} rows"
    note(f"{TITLES[way]}: {seconds:.1f} s, client CPU {result['client_cpu']:.1f} s, "
         f"{result['peak_mb']:.0f} MB{state}")  # fmt: skip
    return result


def make_ready(source: Path, dsn: str) -> None:
    """The text and binary files of the limit, written by PostgreSQL itself."""
    stamp = WORK / "ready"
    mark = f"{source} {source.stat().st_size} {source.stat().st_mtime_ns}"
    if stamp.exists() and stamp.read_text() == mark:
        return
    say("Writing the ready files")
    target = fresh(dsn)
    run_ours("data", str(source), target)
    connection = connect(target)
    with connection.cursor() as cursor:
        for table in plan_of(str(source), target).tables:
            for form in ("text", "binary"):
                with (WORK / f"{table.name}.{form}").open("wb") as stream:
                    cursor.copy_expert(
                        f'COPY "{table.target_name}" TO STDOUT (FORMAT {form})', stream
                    )
    connection.close()
    stamp.write_text(mark)


def in_turn(ways: list[str], number: int) -> list[str]:
    """Another way comes first in each round: the one before leaves the disk busy for a while."""
    first = number % max(1, len(ways))
    return ways[first:] + ways[:first]


def install(ways: set[str]) -> set[str]:
    """Those ways whose tools could not be had."""
    missing: set[str] = set()
    probe = [CLIENT, "-c", "import psycopg2"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        say("Installing python3-psycopg2")
        command = ["apt-get", "-q", "install", "-y", "--no-install-recommends", "python3-psycopg2"]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            raise ToolError(f"{CLIENT} has no psycopg2, and apt-get can't install it.")
    if {"pgloader", "pgloader_tuned"} & ways and not shutil.which("pgloader"):
        say("Installing pgloader")
        command = ["apt-get", "-q", "install", "-y", "--no-install-recommends", "pgloader"]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            missing |= {"pgloader", "pgloader_tuned"}
    if "duckdb" in ways and not (DUCKDB / "ready").exists():
        say("Installing DuckDB into a virtual environment of its own")
        names = ("duckdb", "duckdb-extension-postgres-scanner", "duckdb-extension-sqlite-scanner")
        packages = [f"{name}=={DUCKDB_VERSION}" for name in names]
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(DUCKDB)],
            [str(DUCKDB / "bin" / "python"), "-m", "pip", "install", "-q", *packages],
        ):
            if subprocess.run(command, capture_output=True, check=False).returncode != 0:
                missing.add("duckdb")
                break
        else:
            (DUCKDB / "ready").touch()
    return missing


def own_server() -> str:
    from tools.engine import docker_engine, proxy_options
    from tools.image import RUN_OPTIONS, ensure_image, wait_for_systemd

    docker = docker_engine("test")
    assert docker is not None
    image = ensure_image(docker, "debian12")
    docker.try_run("rm", "-f", "-v", CONTAINER)
    say("Starting a PostgreSQL server in a container")
    # On this host's own loopback, as where the application and its database share a host.
    docker.run("run", "--detach", "--name", CONTAINER, "--label", f"{LABEL}=benchmark",
               "--network", "host", *RUN_OPTIONS, *proxy_options(), image)  # fmt: skip
    wait_for_systemd(docker, CONTAINER)
    docker.run("exec", CONTAINER, "sh", "-ec", SERVER, timeout=900)
    return f"postgresql://bench:{PASSWORD}@127.0.0.1:{PORT}/postgres"


def version_of(python: str) -> str:
    command = [python, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def ratio(rounds: list[dict[str, Any]], part: str, way: str, base: str) -> str:
    values = [
        one[part][base]["seconds"] / one[part][way]["seconds"]
        for one in rounds
        if way in one[part] and base in one[part] and one[part][base]["right"]
    ]
    return f"{statistics.median(values):.2f}" if values else ""


def verification(rounds: list[dict[str, Any]]) -> list[str]:
    rounds = [one for one in rounds if one.get("verify")]
    if not rounds:
        return []
    lines = [
        "",
        "## Verification",
        "",
        "Of golive.webstack's own whole job, whose time is 1.00: less is faster.",
        "",
        "| depth | seconds | x the load's time | client CPU s | client MB |",
        "|---|---|---|---|---|",
    ]
    for depth in PARTS["verify"]:
        found = [one["verify"][depth] for one in rounds]
        if not all(f["right"] for f in found):
            lines.append(f"| {TITLES[depth]} | wrong result | | | |")
            continue
        share = statistics.median(
            one["verify"][depth]["seconds"] / one["whole"]["ours"]["seconds"] for one in rounds
        )
        lines.append(
            f"| {TITLES[depth]} | {statistics.median(f['seconds'] for f in found):.1f} |"
            f" {share:.2f} | {statistics.median(f['client_cpu'] for f in found):.1f} |"
            f" {max(f['peak_mb'] for f in found):.0f} |"
        )
    return lines


def markdown(results: dict[str, Any]) -> str:
    rounds = results["rounds"]
    lines = [
        "# Migration: measured",
        "",
        f"Made by `benchmarks/migration/run.py` on {results['date']}: {results['rows']:,} log"
        f" entries, {results['megabytes']} MB of SQLite, PostgreSQL {results['server']},"
        f" {results['processors']} processors shared by client and server, Python"
        f" {results['python']}, medians of {len(rounds)} interleaved rounds. The ratios, taken"
        " within each round, are what to compare (higher is faster); the seconds are this"
        " machine's.",
    ]
    for part, title in (("whole", "Whole job"), ("data", "Rows alone")):
        if not any(one[part] for one in rounds):
            continue
        lines += [
            "",
            f"## {title}",
            "",
            "| way | seconds | rows/s | x pgloader default | x limit | client CPU s | client MB |",
            "|---|---|---|---|---|---|---|",
        ]
        for way in PARTS[part]:
            found = [one[part][way] for one in rounds if way in one[part]]
            if not found:
                lines.append(
                    f"| {TITLES[way]} | {results['missing'].get(way, 'not run')} | | | | | |"
                )
                continue
            seconds = statistics.median(f["seconds"] for f in found)
            cpu = statistics.median(f["client_cpu"] for f in found)
            memory = max(f["peak_mb"] for f in found)
            if not all(f["right"] for f in found):
                # No ratio: a way that loses rows is not fast.
                lines.append(
                    f"| {TITLES[way]} | wrong result after {seconds:.1f} | | | |"
                    f" {cpu:.1f} | {memory:.0f} |"
                )
                continue
            lines.append(
                f"| {TITLES[way]} | {seconds:.1f} | {results['rows'] / seconds:,.0f} |"
                f" {ratio(rounds, part, way, 'pgloader')} | {ratio(rounds, part, way, 'text')} |"
                f" {cpu:.1f} | {memory:.0f} |"
            )
    lines += verification(rounds)
    if any("loop" in one for one in rounds):
        lines += [
            "",
            "## Round by round",
            "",
            "`loop` is how long a fixed loop of Python took on all processors at once before the"
            " round: the more, the busier the machine was with others. The ratios are those of"
            " golive.webstack.",
            "",
            "| round | loop s | whole: x pgloader default | whole: x limit | rows alone: x limit |",
            "|---|---|---|---|---|",
        ]
        for number, one in enumerate(rounds, 1):
            asked = (("whole", "pgloader"), ("whole", "text"), ("data", "text"))
            told = " | ".join(ratio([one], part, "ours", base) for part, base in asked)
            lines.append(f"| {number} | {one['loop']} | {told} |")
    lines += [
        "",
        "`golive.webstack` includes all of its checks in both tables: the source's check for damage"
        " (`integrity: rows`, the default) and its fingerprint, every value's type, the row counts,"
        " progress. It is one transaction; pgloader and DuckDB commit as they go.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help="log entries")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="take medians of N")
    parser.add_argument("--dsn", help="a server whose role may create databases")
    parser.add_argument("--only", help="ways, separated by commas")
    parser.add_argument("--parts", default="data,whole")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        WAYS[options.child](options.part, options.source, os.environ["GOLIVE_BENCH_TARGET"])
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    chosen = set((options.only or ",".join(WAYS)).split(","))
    source = WORK / f"sample-{options.rows}.db"
    if not source.exists():
        say(f"Making {options.rows} log entries")
        command = [sys.executable, str(SAMPLE), "--log-entries", str(options.rows),
                   "--seed", "42", str(source)]  # fmt: skip
        if subprocess.run(command, check=False).returncode != 0:
            raise ToolError("examples/live_dashboard/sample_data.py failed; see above.")
    missing = install(chosen)
    dsn = options.dsn or own_server()
    try:
        # Encryption would cost each way the same, and hide what they differ in.
        dsn += ("&" if "?" in dsn else "?") + "sslmode=disable"
        make_ready(source, dsn)
        compile_client()
        rounds = []
        for number in range(1, options.rounds + 1):
            one: dict[str, Any] = {"loop": loop_seconds()}
            for part in options.parts.split(","):
                say(f"Round {number} of {options.rounds}: {part}")
                one[part] = {}
                for way in in_turn([w for w in PARTS[part] if w in chosen - missing], number):
                    one[part][way] = measure(way, part, source, dsn, options.rows)
                    if (part, way) == ("whole", "ours"):
                        one["verify"] = {
                            depth: measure(depth, "verify", source, dsn, options.rows)
                            for depth in PARTS["verify"]
                        }
            for part in PARTS:
                one.setdefault(part, {})
            rounds.append(one)
        connection = connect(dsn)
        version = connection.get_parameter_status("server_version").split()[0]
        connection.close()
    finally:
        if not options.dsn:
            from tools.engine import docker_engine

            docker = docker_engine("test")
            if docker is not None:
                docker.try_run("rm", "-f", "-v", CONTAINER)
    results = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "rows": options.rows,
        "megabytes": source.stat().st_size // 10**6,
        "server": version,
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "python": f"{version_of(CLIENT)} ({CLIENT})",
        "missing": dict.fromkeys(missing, "could not be installed here"),
        "rounds": rounds,
    }
    # Another size is another table.
    mark = "" if options.rows == ROWS else f"-{options.rows}"
    (HERE / f"results{mark}.json").write_text(json.dumps(results, indent=1) + "\n")
    (HERE / f"RESULTS{mark}.md").write_text(markdown(results))
    print()
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
