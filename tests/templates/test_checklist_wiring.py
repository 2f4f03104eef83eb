# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts the checklist asks, for what, and by which names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .test_wiring import MANY, ONE

CATALOGUE = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "playbooks/vars/checklist.yml").read_text()
)["__webstack_checklist"]


def entries(site: Any, more: str) -> list[dict[str, Any]]:
    listed = "\n    __webstack_checklist: " + repr(
        [{key: one[key] for key in ("id", "phase")} for one in CATALOGUE]
    )
    return list(site(ONE + listed + more).value("one", "__webstack_checklist_entries"))


def test_all_phases_unless_some_are_named(site: Any) -> None:
    assert len(entries(site, "")) == len(CATALOGUE)
    some = entries(site, "\n    webstack_verify_phases: [4]")
    assert some and {one["phase"] for one in some} == {4}


def test_an_entry_of_the_inventory_is_added_or_takes_the_place_of_parts(site: Any) -> None:
    extra = (
        "\n    webstack_checks_extra: [{id: own.a, phase: 1, text: A.},"
        " {id: p1.01, hosts: app}, {text: none}]"
    )
    found = entries(site, extra)
    assert len(found) == len(CATALOGUE) + 2
    assert {"id": "own.a", "phase": 1, "text": "A."} in found
    # One without an id or a phase goes to the module, which names what is missing.
    assert {"text": "none"} in found
    assert {"id": "p1.01", "phase": 1, "hosts": "app"} in found


def test_each_host_is_asked_for_what_it_serves_as(site: Any) -> None:
    value = site(MANY).value
    assert value("db", "__webstack_checklist_groups") == ["database", "saved", "all"]
    assert value("edge1", "__webstack_checklist_groups") == ["proxy", "load", "saved", "all"]
    assert value("edge2", "__webstack_checklist_groups") == ["proxy", "saved", "all"]
    assert value("watch", "__webstack_checklist_groups") == ["monitoring", "all"]
    context = value("app2", "__webstack_checklist_context")
    assert context["app_listen"] == "10.0.0.22:8000" and context["workers"] == 40
    assert value("edge1", "__webstack_checklist_context")["upstreams"] == [
        "10.0.0.21:8000", "10.0.0.22:8000",
    ]  # fmt: skip


def test_the_context_has_no_secret(site: Any) -> None:
    secrets = ("p@ss/w:rd", "p%40ss", "r #'&")
    for host, inventory in (("one", ONE), ("app1", MANY), ("watch", MANY)):
        text = str(site(inventory).value(host, "__webstack_checklist_context"))
        assert not [secret for secret in secrets if secret in text]


def test_the_units_of_celery_are_those_that_the_role_starts(site: Any) -> None:
    value = site(MANY + "\n    gunicorn_app_celery: {app: shop.celery, workers: 2}").value
    named = value("app1", "gunicorn_app_name")
    workers = [f"{named}-worker@1.service", f"{named}-worker@2.service"]
    units = [
        value(host, "__webstack_checklist_context")["celery_units"] for host in ("app1", "app2")
    ]
    assert units == [[*workers, f"{named}-beat.service"], workers]
