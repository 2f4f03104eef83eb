# SPDX-License-Identifier: GPL-3.0-or-later
"""What the callback progress tells: parts, their time, what waits, the table at the end."""

from __future__ import annotations

import pytest

from ansible_collections.golive.webstack.plugins.plugin_utils.parts import (
    Parts,
    source_of,
    spoken,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def parts(clock: Clock) -> Parts:
    made = Parts(clock)
    made.plan(["preflight", "phase1", "preflight", "certificates", "phase2", "phase2", "report"])
    return made


def test_a_part_begins_with_its_openers_and_ends_with_the_next(parts: Parts, clock: Clock) -> None:
    assert parts.play("preflight", "Check") == ["==> 1 of 3: phase1 (after 0 s)"]
    assert parts.play("phase1", "Do") == []
    parts.task("Install")
    parts.host_ended("a", True, False)
    parts.host_ended("b", False, False)
    clock.now += 61
    # What phase2 begins with is its own already.
    assert parts.play("preflight", "Check") == [
        "<== phase1: 1 min 01 s, 1 tasks, 1 changed",
        "==> 2 of 3: phase2 (after 1 min 01 s)",
    ]
    assert parts.play("certificates", "Give") == []
    assert parts.play("phase2", "Do") == parts.play("phase2", "Tell") == []
    clock.now += 2
    told = parts.play("report", "Report")
    assert told[1] == "==> 3 of 3: report (after 1 min 03 s)"
    assert [one.seconds for one in parts.parts[:2]] == [61, 2]


def test_a_task_that_takes_long_is_told_of_again_and_again(parts: Parts, clock: Clock) -> None:
    parts.play("phase1", "Do")
    parts.task("Install")
    for host in ("a", "b", "c", "d"):
        parts.host_began(host)
    clock.now += 9
    assert parts.waiting(10) == []
    clock.now += 2
    assert parts.waiting(10) == ["... Install: 11 s, still on a, b, c and 1 more"]
    assert parts.waiting(10) == []
    for host in ("a", "b", "c"):
        parts.host_ended(host, False, False)
    clock.now += 10
    assert parts.waiting(10) == ["... Install: 21 s, still on d"]
    parts.host_ended("d", False, False)
    clock.now += 10
    assert parts.waiting(10) == []


def test_the_table_has_every_part_and_the_slowest_tasks(parts: Parts, clock: Clock) -> None:
    parts.play("phase1", "Do")
    parts.task("Install")
    parts.host_ended("a", True, False)
    clock.now += 30
    parts.task("Quick")
    parts.play("phase2", "Do")
    parts.task("Ask")
    parts.host_ended("a", False, True)
    clock.now += 5
    told = parts.table(5)
    assert told[0] == "<== phase2: 5 s, 1 tasks, 0 changed, 1 failed"
    rows = [line.split() for line in told]
    assert ["phase1", "30", "s", "2", "1", "0"] in rows
    assert ["all", "35", "s", "3", "1", "1"] in rows
    assert rows[-2] == ["30", "s", "Install", "(phase1)"]
    assert rows[-1] == ["5", "s", "Ask", "(phase2)"]


def test_a_short_run_of_one_playbook_is_left_alone(clock: Clock) -> None:
    parts = Parts(clock)
    parts.plan(["preflight", "status"])
    assert parts.play("preflight", "Check") == parts.play("status", "Look") == []
    parts.task("Look")
    assert parts.table(5) == []
    alone = Parts(clock)
    alone.plan(["preflight"])
    assert alone.play("preflight", "Check") == []
    clock.now += 60
    assert alone.table(5)[1].split()[0] == "part"


def test_nothing_known_of_the_plan_is_no_harm(clock: Clock) -> None:
    parts = Parts(clock)
    parts.plan([])
    parts.task("Before any play")
    assert parts.waiting(10) == parts.play("somewhere", "Do") == []
    assert parts.table(5) == []


def test_words() -> None:
    assert source_of("/srv/x/playbooks/phase1_database.yml:3") == "phase1_database"
    assert source_of("no path") == "no path"
    assert [spoken(seconds) for seconds in (0.4, 59.4, 59.6, 125)] == [
        "0 s", "59 s", "1 min 00 s", "2 min 05 s",
    ]  # fmt: skip
