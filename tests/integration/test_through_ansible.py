# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two database modules as a playbook meets them: twice, in check mode, and without leaks."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.integration.conftest import Database

ROOT = Path(__file__).resolve().parents[2]


def play(
    database: Database, source: Path, password: str, *options: str, **variables: Any
) -> tuple[int, str]:
    secret = source.parent.parent / "password"
    secret.write_text(password)
    common = {
        "src": str(source),
        "login_host": database.target.host,
        "login_port": database.target.port,
        "login_user": database.target.user,
        "login_password": f"{{{{ lookup('ansible.builtin.file', '{secret}') }}}}",
        "login_db": database.target.database,
    }
    tasks: list[dict[str, Any]] = [
        {"golive.webstack.sqlite_to_postgres": common},
        {"golive.webstack.sqlite_postgres_verify": {**common, "record": True}},
    ]
    book = source.parent.parent / "play.json"
    book.write_text(
        json.dumps(
            [
                {
                    "hosts": "localhost",
                    "connection": "local",
                    "gather_facts": False,
                    "vars": {"ansible_python_interpreter": sys.executable, **variables},
                    "tasks": tasks,
                }
            ]
        )
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ansible", "playbook", "-i", "localhost,"),
            *("-vvvv", "--diff", str(book), *options),
        ],
        capture_output=True,
        text=True,
        cwd=book.parent,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(book.parent),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_NOCOLOR": "1",
        },
        check=False,
    )
    output = done.stdout + done.stderr
    assert password not in output
    return done.returncode, output


def test_check_run_run_check(database: Database, source: Path) -> None:
    password = database.target.password
    code, output = play(database, source, password, "--check")
    assert code == 0 and "changed=1" in output and "has no tables yet" in output, output
    assert '+CREATE TABLE "public"."users"' in output
    assert "Not carried over: view errors" in output
    assert database.relations() == []
    code, output = play(database, source, password)
    assert code == 0 and "changed=2" in output, output
    for mode in ([], ["--check"]):
        code, output = play(database, source, password, *mode)
        assert code == 0 and "changed=0" in output, output


def test_wrong_password(database: Database, source: Path) -> None:
    for mode in ([], ["--check"]):
        code, output = play(database, source, "hidden-and-wrong", *mode)
        assert code == 2 and "login_password" in output


def test_a_long_run_says_how_far_it_is(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "instance"
    folder.mkdir()
    path = folder / "large.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, at DATETIME, text TEXT)")
    connection.executemany(
        "INSERT INTO entries VALUES (?, '2025-01-01 10:00:00.123456', ?)",
        ((number, f"{number} " + "x" * 200) for number in range(1, 200_001)),
    )
    connection.commit()
    connection.close()
    code, output = play(database, path, database.target.password, golive_progress_interval=0.05)
    assert code == 0, output
    lines = re.findall(r"\[localhost\] (\w+)[^\n]*", output)
    assert {"load", "verify"} <= set(lines), output
    assert re.search(r"\[localhost\] load\b.* of 200,000 rows \(\d+ %\)", output)
    # The folder that the figures went through is gone.
    folders = set(re.findall(r"/tmp/golive-progress\.\w+", output))
    assert folders and not [name for name in folders if os.path.exists(name)]
