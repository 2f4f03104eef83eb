# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that shows how far a load is, and the watcher that may be gone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import progress
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.progress import (
    Progress,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.watch import stage


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    path = tmp_path / "progress.json"
    seen = Progress(str(path))
    seen.phase("check")
    assert read(path)["phase"] == "check" and os.stat(path).st_mode & 0o777 == 0o600
    seen.begin("load", 3, 1000)
    seen.table("users")
    now[0] += 0.5
    seen.rows(100, 5000)
    assert read(path)["rows_done"] == 0, "written at most once a second"
    now[0] += 1.5
    seen.rows(100, 5000)
    figures = read(path)
    assert figures.pop("updated") == pytest.approx(time.time(), abs=60)
    assert figures == {
        "phase": "load",
        "table": "users",
        "tables_done": 0,
        "tables_total": 3,
        "rows_done": 200,
        "rows_total": 1000,
        "bytes_done": 10000,
        "seconds": 2.0,
        "rows_per_second": 100,
        "note": "",
        "seconds_left": 8.0,
    }
    seen.table_done()
    seen.rows_again(200, 10000)
    seen.phase("index")
    assert read(path)["tables_done"] == 1 and read(path)["rows_done"] == 0
    assert read(path)["seconds_left"] is None
    assert [p.name for p in tmp_path.iterdir()] == ["progress.json"]


@pytest.mark.parametrize(
    ("phase", "done", "total", "told"),
    [
        ("building index: scanning table", 43, 100, "scanning table 43 %"),
        ("building index: sorting live tuples", 0, 0, "sorting live tuples"),
        ("acquiring sample rows", 7, 8, "acquiring sample rows 87 %"),
    ],
)
def test_what_the_server_says_of_a_statement(phase: str, done: int, total: int, told: str) -> None:
    assert stage(phase, done, total) == told


def test_nothing_is_written_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = Progress()
    seen.begin("load", 1, 1)
    seen.rows(1, 1)
    seen.write()
    seen.check_alive()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    Progress(str(tmp_path / "gone" / "progress.json")).phase("load")


def test_nobody_waits_any_more(tmp_path: Path) -> None:
    seen = Progress(str(tmp_path / "progress.json"))
    alive = tmp_path / "alive"
    alive.touch()
    seen.phase("load")
    os.utime(alive, (time.time() - 100, time.time() - 100))
    with pytest.raises(MigrationError, match="the control node is gone; rolled back"):
        seen.write()
    with pytest.raises(MigrationError, match="control node is gone"):
        seen.check_alive()
