# SPDX-License-Identifier: GPL-3.0-or-later
"""What kind of source the role gunicorn_app sees in a setting."""

from __future__ import annotations

from typing import Any

import pytest

APP = {"gunicorn_app_name": "shop", "gunicorn_app_wsgi": "wsgi:application"}


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("/srv/src/shop", "folder"),
        ("shop", "folder"),
        ("../shop-1.2", "folder"),
        ("https://git.example/shop.git", "git"),
        ("ssh://git@git.example/shop", "git"),
        ("git@git.example:shop", "git"),
        ("/home/ann/shop.git", "git"),
        ("/home/ann/shop-1.2.tar.gz", "archive"),
        ("https://files.example/shop-1.2.zip", "archive"),
        ("shop.tgz", "archive"),
        ("dist/shop-1.2-py3-none-any.whl", "wheel"),
        ("shop==1.2", "index"),
        ("shop[redis] == 1.2.post1", "index"),
    ],
)
def test_the_kind_is_told_by_its_form(role: Any, source: str, kind: str) -> None:
    made = role("gunicorn_app", **APP, gunicorn_app_source=source)
    assert made.expression("__gunicorn_app_source_kind") == kind


def test_the_kind_can_be_said(role: Any) -> None:
    given = {"gunicorn_app_source": "/srv/shop.git", "gunicorn_app_source_type": "folder"}
    assert role("gunicorn_app", **APP, **given).expression("__gunicorn_app_source_kind") == "folder"


def test_a_commit_is_part_of_the_id(role: Any) -> None:
    made = role("gunicorn_app", **APP, gunicorn_app_source="https://git.example/shop.git")
    made.variables["__gunicorn_app_commit"] = {"after": "0123456789abcdef"}
    made.variables["__gunicorn_app_archive"] = {"release_id": "a" * 12}
    assert made.expression("__gunicorn_app_release").strip() == "01234567-" + "a" * 12


@pytest.mark.parametrize(
    ("said", "noted"), [("", ""), ("0002 (head)\n", "0002 (head)"), ("INFO x\n0003\n", "0003")]
)
def test_the_schemas_revision_is_the_last_line(role: Any, said: str, noted: str) -> None:
    made = role("gunicorn_app", **APP, gunicorn_app_source="/src")
    made.variables["ansible_play_hosts_all"] = ["one", "two"]
    made.variables["hostvars"] = {
        "one": {"__gunicorn_app_schema_seen": {"stdout": said}},
        "two": {"__gunicorn_app_schema_seen": {"skipped": True}},
    }
    assert made.expression("__gunicorn_app_schema").strip() == noted
