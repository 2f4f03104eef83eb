# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines that people see while a module works."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleError

from ansible_collections.golive.webstack.plugins.plugin_utils import progress


@pytest.mark.parametrize(
    ("figures", "line"),
    [
        (
            {
                "phase": "load",
                "table": "log_entries",
                "tables_done": 4,
                "tables_total": 6,
                "rows_done": 1234000,
                "rows_total": 2000000,
                "bytes_done": 430000000,
                "rows_per_second": 310000.4,
                "seconds": 3.98,
                "seconds_left": 2.47,
            },
            "load log_entries, 4 of 6 tables, 1,234,000 of 2,000,000 rows (61 %), 410 MiB, "
            "310,000 rows/s, 4 s so far, about 2 s left",
        ),
        (
            {"phase": "foreign_keys", "seconds": 61, "seconds_left": None},
            "foreign keys, 1 min 1 s so far",
        ),
        ({"phase": "commit", "seconds": 7300, "seconds_left": 0}, "commit, 2 h 1 min so far"),
        ({"phase": "load", "rows_done": 5, "bytes_done": 900}, "load, 5 rows, 900 B"),
        ({"phase": "load", "bytes_done": 3 * 2**40}, "load, 3.0 TiB"),
        ({}, ""),
    ],
)
def test_a_line_says_what_is_known(figures: dict[str, Any], line: str) -> None:
    assert progress.progress_line(figures) == line


@pytest.mark.parametrize("given", ["soon", -1, float("nan"), [], 10**9])
def test_an_interval_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(AnsibleError, match="golive_progress_interval is"):
        progress.read_interval(given)


@pytest.mark.parametrize(("given", "seconds"), [(0, 0), ("2.5", 2.5), (60, 60)])
def test_an_interval_is_seconds(given: Any, seconds: float) -> None:
    assert progress.read_interval(given) == seconds


def test_a_log_gets_a_line_every_ten_seconds_and_a_terminal_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "on_terminal", lambda: False)
    assert progress.read_interval(None) == 10
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    assert progress.read_interval(None) == 2
