# SPDX-License-Identifier: GPL-3.0-or-later
"""Which database an application has, as the preflight's script reads it on the host."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TASKS = yaml.safe_load((ROOT / "playbooks/tasks/database_look.yml").read_text())
(SCRIPT,) = (
    task["vars"]["__webstack_look_script"]
    for task in TASKS
    if "__webstack_look_script" in task.get("vars", {})
)


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize(
    ("environment", "on_postgresql"),
    [
        # No application yet, or one without the address: the mark alone tells.
        (None, None),
        ("WORKERS=1\n", None),
        ('DATABASE_URL="sqlite:////srv/app/shared/app.db"\n', False),
        ("WORKERS=1\nDATABASE_URL=sqlite+pysqlite:////srv/app.db\n", False),
        ('DATABASE_URL="postgresql://app:a%3Asqlite@127.0.0.1/app"\n', True),
        ('DATABASE_URL="postgresql+psycopg2://app@database/sqlite"\nWORKERS=1\n', True),
    ],
)
def test_the_environment_tells_and_else_the_mark(
    tmp_path: Path, environment: str | None, on_postgresql: bool | None, marked: bool
) -> None:
    file, mark = tmp_path / "environment", tmp_path / "cutover.json"
    if environment is not None:
        file.write_text(environment)
    if marked:
        mark.touch()
    done = subprocess.run(
        ["sh", "-c", SCRIPT, "sh", str(file), str(mark)], capture_output=True, text=True, check=True
    )
    now = marked if on_postgresql is None else on_postgresql
    expected = {"off_sqlite": now, "cut_off": now != marked}
    assert done.stdout.split() == [word for word, said in expected.items() if said]
