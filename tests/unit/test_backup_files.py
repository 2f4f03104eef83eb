# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backup of files: what is late, what is refused, what is told to Prometheus."""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.backup_files import (
    FilesError,
    Repository,
    Settings,
    backup,
    keep,
    load,
    locked,
    recall,
    restore,
    room,
    save_redis,
    size_of,
    status,
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "state").mkdir()
    return Settings(
        paths=[str(tmp_path / "data")],
        exclude=[],
        repositories=[Repository("local", str(tmp_path / "repository"))],
        password_file=str(tmp_path / "password"),
        redis_access="",
        retention_days=30,
        maximum_age_hours=26,
        check_percent=10,
        state=str(tmp_path / "state"),
        metrics_folder=str(tmp_path / "metrics"),
        lock_seconds=0,
    )


def test_the_roles_settings_are_read(tmp_path: Path, settings: Settings) -> None:
    told: dict[str, Any] = {**vars(settings), "repositories": [{"name": "s3", "place": "s3:x"}]}
    del told["lock_seconds"]
    (tmp_path / "files.json").write_text(json.dumps(told))
    assert load(str(tmp_path / "files.json")).repositories == [Repository("s3", "s3:x")]
    (tmp_path / "files.json").write_text("{}")
    with pytest.raises(FilesError, match="can't be read"):
        load(str(tmp_path / "files.json"))


def test_figures_are_kept_and_told(settings: Settings) -> None:
    keep(settings, "local", last_run=5, success=0)
    keep(settings, "local", last_run=7, last_success=7, success=1, bytes=9)
    keep(settings, "s3", last_run=6)
    assert recall(settings)["local"] == {"last_run": 7, "last_success": 7, "success": 1, "bytes": 9}
    told = (Path(settings.metrics_folder) / "golive_backup_files.prom").read_text().splitlines()
    assert 'golive_backup_last_run_success{kind="files",name="local"} 1' in told
    assert 'golive_backup_last_run_timestamp_seconds{kind="files",name="s3"} 6' in told
    assert 'golive_backup_size_bytes{kind="files",name="local"} 9' in told


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({}, "has no backup of the files yet"),
        ({"last_success": 0}, "h old"),
        ({"last_success": None}, "h old"),
        ({"last_success": "now", "check_success": 0}, "found damage or failed"),
        ({"last_success": "now", "check_success": 1}, ""),
        ({"last_success": "now"}, ""),
    ],
)
def test_what_is_late(settings: Settings, figures: dict[str, Any], told: str) -> None:
    moments = {"now": time.time(), None: time.time() - 27 * 3600}
    if figures:
        last = figures["last_success"]
        keep(settings, "local", **{**figures, "last_success": moments.get(last, last)})
    if told:
        with pytest.raises(FilesError, match=told):
            status(settings)
    else:
        assert status(settings)["local"]


def test_another_job_is_not_overlapped(settings: Settings) -> None:
    with open(Path(settings.state) / "jobs.lock", "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(FilesError, match="Another backup job"), locked(settings):
            pass
    with locked(settings):
        pass


def test_too_little_room_is_refused_before_a_byte(settings: Settings) -> None:
    with pytest.raises(FilesError, match="MB free, and a backup may need 1073741824 MB"):
        room(settings.repositories[0], 1 << 50)
    room(Repository("s3", "s3:https://x/y"), 1 << 50)


def test_nothing_to_save_is_an_error(settings: Settings) -> None:
    with pytest.raises(FilesError, match="nothing to save"):
        backup(settings)


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "b").write_bytes(b"12")
    (tmp_path / "a" / "link").symlink_to("nowhere")
    assert size_of([str(tmp_path / "a"), str(tmp_path / "b"), "/nothing"]) == 3 + 2 + len("nowhere")


def test_restore_goes_into_an_empty_folder_of_a_known_repository(
    tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(FilesError, match="no repository tape; there are local"):
        restore(settings, str(tmp_path / "new"), "latest", "tape")
    with pytest.raises(FilesError, match="is not empty"):
        restore(settings, str(tmp_path), "latest", "")


def test_a_redis_that_is_away_is_named(tmp_path: Path) -> None:
    assert save_redis(str(tmp_path / "nothing")) == []
    one = {"name": "main", "dir": "/d", "persistent": True, "user": "", "password": "",
           "place": {"path": str(tmp_path / "no.sock")}}  # fmt: skip
    (tmp_path / "access.json").write_text(json.dumps([one, {**one, "persistent": False}]))
    with pytest.raises(FilesError, match="The Redis instance main can't be asked to save"):
        save_redis(str(tmp_path / "access.json"))
