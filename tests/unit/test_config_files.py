# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders and files as they should be: what changes, what is refused, what a diff shows."""

from __future__ import annotations

import grp
import os
import pwd
import stat

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.config_files import (
    ConfigFilesError,
    Wanted,
    apply,
)

USER = pwd.getpwuid(os.getuid()).pw_name
GROUP = grp.getgrgid(os.getgid()).gr_name


def wanted(path, content=None, **options):
    options = {"owner": USER, "group": GROUP} | options
    return Wanted(path=str(path), content=content, **options)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_and_files_are_made_once(tmp_path):
    folder, file = tmp_path / "a" / "b", tmp_path / "a" / "b" / "file"
    steps = [wanted(folder, mode="0750"), wanted(file, "text é\n", mode="0640")]
    assert [change.kind for change in apply(steps)] == ["created", "created"]
    assert (mode(folder), mode(file)) == (0o750, 0o640)
    assert file.read_text(encoding="utf-8") == "text é\n"
    assert apply(steps) == []


def test_check_tells_and_changes_nothing(tmp_path):
    file = tmp_path / "file"
    file.write_text("old\n")
    changes = apply([wanted(file, "new\n"), wanted(tmp_path / "more", "x")], check=True)
    assert [(change.kind, change.before, change.after) for change in changes] == [
        ("content", "old\n", "new\n"),
        ("created", "", "x"),
    ]
    assert file.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["file"]


def test_a_wrong_mode_alone_is_mended(tmp_path):
    file = tmp_path / "file"
    file.write_text("text")
    file.chmod(0o666)
    (change,) = apply([wanted(file, "text", mode="0600")])
    assert (change.kind, mode(file)) == ("attributes", 0o600)
    assert "mode 0666" in change.before and "mode 0600" in change.after


def test_a_secret_is_never_in_a_change(tmp_path):
    file = tmp_path / "file"
    file.write_text("old secret")
    (change,) = apply([wanted(file, "new secret", secret=True)])
    assert "secret" not in change.before + change.after
    assert file.read_text() == "new secret"


def test_a_refused_file_leaves_the_old_one_and_the_later_ones(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("old")
    command = "sh -c 'echo line 1: bad in \"$0\" >&2; exit 3' %s"
    with pytest.raises(ConfigFilesError) as refused:
        apply([wanted(first, "new", validate=command), wanted(second, "x")])
    assert f"line 1: bad in {first}" in str(refused.value)
    assert "ended with 3" in str(refused.value)
    assert first.read_text() == "old"
    assert os.listdir(tmp_path) == ["first"]


def test_an_accepted_file_was_seen_by_its_command(tmp_path):
    file = tmp_path / "file"
    apply([wanted(file, "right", validate="grep -q right %s")])
    assert file.read_text() == "right"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mode": "rw-r--r--"}, "not octal"),
        ({"mode": "0999"}, "not octal"),
        ({"owner": "nobody-of-that-name"}, "no user nobody-of-that-name"),
        ({"group": "nobody-of-that-name"}, "no group nobody-of-that-name"),
        ({"validate": "true"}, "no %s"),
        ({"validate": "no-such-command %s"}, "can't be run"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(tmp_path, options, told):
    with pytest.raises(ConfigFilesError, match=told):
        apply([wanted(tmp_path / "file", "x", **options)])
    assert os.listdir(tmp_path) == []


def test_check_mode_copes_with_a_user_that_a_package_will_bring(tmp_path):
    (change,) = apply([wanted(tmp_path / "file", "x", owner="nobody-of-that-name")], check=True)
    assert change.kind == "created"


def test_a_link_or_folder_in_the_way_is_not_written_through(tmp_path):
    target, link, folder = tmp_path / "target", tmp_path / "link", tmp_path / "folder"
    target.write_text("kept")
    link.symlink_to(target)
    folder.mkdir()
    for path in (link, folder):
        with pytest.raises(ConfigFilesError, match="not a plain file"):
            apply([wanted(path, "x")])
    with pytest.raises(ConfigFilesError, match="not a folder"):
        apply([wanted(target)])
    assert target.read_text() == "kept"


def test_a_missing_folder_and_a_relative_path_are_refused(tmp_path):
    with pytest.raises(ConfigFilesError, match="is not there"):
        apply([wanted(tmp_path / "none" / "file", "x")])
    with pytest.raises(ConfigFilesError, match="begins with a slash"):
        apply([wanted("relative", "x")])
