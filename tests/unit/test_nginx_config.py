# SPDX-License-Identifier: GPL-3.0-or-later
"""nginx's files as one set. nginx itself judges them in molecule/nginx; here a small stand-in that
reads what the main file includes, and refuses the word `broken`."""

from __future__ import annotations

import functools
import json
import os
import stat
from pathlib import Path

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.nginx_config import (
    File,
    NginxConfigError,
    Process,
    Settings,
    apply,
    is_stale,
    newest_file,
    plan,
    read_manifest,
)

STAND_IN = r"""#!/usr/bin/env python3
import glob, os, re, sys
main = sys.argv[sys.argv.index("-c") + 1]
def read(path):
    for number, line in enumerate(open(path), 1):
        if "broken" in line:
            sys.exit(f'nginx: [emerg] unknown directive "broken" in {path}:{number}\n'
                     f"nginx: configuration file {main} test failed")
        for pattern in re.findall(r"include (\S+);", line):
            pattern = os.path.join(os.path.dirname(main), pattern)
            for found in sorted(glob.glob(pattern)):
                read(found)
read(main)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    root = tmp_path / "etc" / "nginx"
    (root / "sites-enabled").mkdir(parents=True)
    (root / "sites-available").mkdir()
    (root / "nginx.conf").write_text(f"include {root}/sites-enabled/*;\n")
    binary = tmp_path / "nginx"
    binary.write_text(STAND_IN)
    binary.chmod(0o755)
    (tmp_path / "stage").mkdir()
    return Settings(
        root=str(root),
        manifest=str(root / "golive" / "manifest.json"),
        binary=str(binary),
        staging_folder=str(tmp_path / "stage"),
    )


def site(settings: Settings, name: str, content: str = "server {}\n") -> File:
    return File(f"{settings.root}/sites-enabled/{name}.conf", content, f"the site {name}")


def run(settings: Settings, *files: File, absent: tuple[str, ...] = (), check: bool = False):  # type: ignore[no-untyped-def]
    outcome = apply(files, absent, (), settings, check, with_service=False)
    assert os.listdir(settings.staging_folder or "") == []
    return [(change.kind, os.path.basename(change.path)) for change in outcome.changes]


def tree(settings: Settings) -> dict[str, str]:
    return {
        str(path.relative_to(settings.root)): path.read_text()
        for path in Path(settings.root).rglob("*")
        if path.is_file()
    }


def test_files_are_written_once_and_go_with_their_site(settings: Settings) -> None:
    one, two = site(settings, "one"), site(settings, "two")
    page = File(f"{settings.root}/golive/pages/two/page.html", "<h1>away</h1>\n")
    assert run(settings, one, two, page) == [
        ("created", "one.conf"),
        ("created", "two.conf"),
        ("created", "page.html"),
    ]
    assert run(settings, one, two, page) == []
    assert stat.S_IMODE(os.stat(page.path).st_mode) == 0o644
    assert stat.S_IMODE(os.stat(os.path.dirname(page.path)).st_mode) == 0o755
    assert sorted(run(settings, one)) == [("removed", "page.html"), ("removed", "two.conf")]
    assert not os.path.exists(os.path.dirname(page.path))
    assert read_manifest(settings.manifest) == [one.path]


def test_files_of_others_stay(settings: Settings) -> None:
    other = Path(settings.root, "sites-enabled", "other")
    other.write_text("server { listen 1; }\n")
    run(settings, site(settings, "one"))
    run(settings)
    assert other.exists()
    assert run(settings, absent=(str(other),)) == [("removed", "other")]
    assert not other.exists()


def test_folders_can_be_read_by_workers_whatever_the_umask(settings: Settings) -> None:
    before = os.umask(0o077)
    try:
        run(settings, File(f"{settings.root}/golive/pages/a/page.html", "x\n"))
    finally:
        os.umask(before)
    for path in ("golive", "golive/pages", "golive/pages/a"):
        assert stat.S_IMODE(os.stat(f"{settings.root}/{path}").st_mode) == 0o755


def test_a_refused_set_changes_nothing_and_names_the_users_file(settings: Settings) -> None:
    one = site(settings, "one")
    run(settings, one)
    before = tree(settings)
    bad = site(settings, "two", "server {}\nbroken\n")
    with pytest.raises(NginxConfigError) as told:
        run(settings, site(settings, "one", "server { listen 2; }\n"), bad)
    message = str(told.value)
    assert f'unknown directive "broken" in {bad.path}:2' in message
    assert "comes from the site two" in message
    assert "nothing was changed" in message
    assert "[emerg]" not in message
    assert tree(settings) == before


def test_a_file_of_others_that_is_broken_is_named_as_theirs(settings: Settings) -> None:
    other = Path(settings.root, "sites-available", "other")
    other.write_text("broken\n")
    os.symlink(other, f"{settings.root}/sites-enabled/other")
    with pytest.raises(NginxConfigError, match="other is not written by this role"):
        run(settings, site(settings, "one"))
    assert "sites-enabled/one.conf" not in tree(settings)


def test_the_new_set_is_what_is_tested(settings: Settings) -> None:
    """A broken file that this run mends or removes is no reason to refuse it."""
    Path(settings.root, "sites-enabled", "default").write_text("broken\n")
    Path(settings.root, "sites-enabled", "one.conf").write_text("broken\n")
    gone = f"{settings.root}/sites-enabled/default"
    assert run(settings, site(settings, "one"), absent=(gone,)) == [
        ("content", "one.conf"),
        ("removed", "default"),
    ]


def test_relative_includes_links_and_folders_are_followed(settings: Settings) -> None:
    root = Path(settings.root)
    (root / "nginx.conf").write_text("include sites-enabled/*;\n")
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "deep.conf").write_text("broken\n")
    os.symlink(outside, root / "linked")
    (root / "sites-enabled" / "a").write_text(f"include {root}/linked/*.conf;\n")
    with pytest.raises(NginxConfigError, match="broken"):
        run(settings, site(settings, "one"))


def test_keys_are_not_copied(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Path(settings.root, "tls", "shop.key")
    key.parent.mkdir()
    key.write_text("PRIVATE")
    seen: list[bool] = []
    from ansible_collections.golive.webstack.plugins.module_utils import nginx_config

    plain = functools.partial(nginx_config.subprocess.run, check=False)

    def look(argv, **options):  # type: ignore[no-untyped-def]
        stage = Path(argv[argv.index("-c") + 1]).parent
        assert stat.S_IMODE(stage.stat().st_mode) == 0o700
        seen.append((stage / "tls" / "shop.key").is_symlink())
        return plain(argv, **options)

    monkeypatch.setattr(nginx_config.subprocess, "run", look)
    run(settings, site(settings, "one"))
    assert seen == [True]


def test_a_link_in_a_files_place_is_replaced_and_its_target_kept(settings: Settings) -> None:
    target = Path(settings.root, "sites-available", "one.conf")
    target.write_text("server {}\n")
    os.symlink(target, f"{settings.root}/sites-enabled/one.conf")
    assert run(settings, site(settings, "one")) == [("content", "one.conf")]
    assert not os.path.islink(f"{settings.root}/sites-enabled/one.conf")
    assert target.exists()


def test_what_a_killed_run_left_is_made_good(settings: Settings) -> None:
    """Killed after the manifest and some files: the next run knows all of them as its own."""
    one, two = site(settings, "one"), site(settings, "two")
    os.makedirs(os.path.dirname(settings.manifest))
    Path(settings.manifest).write_text(json.dumps({"files": [one.path, two.path]}))
    Path(two.path).write_text(two.content)
    candidate = Path(settings.root, "sites-enabled", ".one.conf.x1.golive")
    candidate.write_text("broken\n")
    assert run(settings, one) == [("created", "one.conf"), ("removed", "two.conf")]
    assert not candidate.exists()


def test_a_mode_that_was_changed_is_put_right(settings: Settings) -> None:
    one = site(settings, "one")
    run(settings, one)
    os.chmod(one.path, 0o600)
    assert run(settings, one) == [("attributes", "one.conf")]
    assert run(settings, one) == []


def test_check_mode_tells_and_changes_nothing(settings: Settings) -> None:
    run(settings, site(settings, "one"))
    before = tree(settings)
    told = run(settings, site(settings, "two", "broken\n"), check=True)
    assert told == [("created", "two.conf"), ("removed", "one.conf")]
    assert tree(settings) == before


@pytest.mark.parametrize("path", ["/etc/passwd", "{root}/../x", "{root}", "{root}x/y"])
def test_paths_outside_are_refused(settings: Settings, path: str) -> None:
    with pytest.raises(NginxConfigError, match="plain path below"):
        plan([File(path.format(root=settings.root), "")], [], settings)


def test_two_settings_for_one_file_are_refused(settings: Settings) -> None:
    again = File(site(settings, "one").path, "other\n", "another setting")
    with pytest.raises(NginxConfigError, match="the site one and for another setting"):
        run(settings, site(settings, "one"), again)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 5}', '{"files": [1]}'])
def test_a_spoilt_manifest_is_told(settings: Settings, text: str) -> None:
    os.makedirs(os.path.dirname(settings.manifest))
    Path(settings.manifest).write_text(text)
    with pytest.raises(NginxConfigError, match="Remove it"):
        run(settings, site(settings, "one"))


def test_a_manifest_cannot_reach_other_files(settings: Settings, tmp_path: Path) -> None:
    other = tmp_path / "precious"
    other.write_text("x")
    os.makedirs(os.path.dirname(settings.manifest))
    Path(settings.manifest).write_text(json.dumps({"files": [str(other)]}))
    run(settings, site(settings, "one"))
    assert other.exists()


def worker(started: float, title: str = "nginx: worker process") -> Process:
    return Process(1, 1, started, title)


def test_workers_older_than_a_file_are_stale() -> None:
    leaving = worker(1.0, "nginx: worker process is shutting down")
    assert is_stale([worker(10.0), worker(90.0)], 50.0)
    assert not is_stale([leaving, worker(90.0)], 50.0)
    assert not is_stale([worker(1.0, "nginx: cache manager process")], 50.0)
    assert not is_stale([], 50.0)


def test_the_newest_file_counts_watched_ones_and_not_the_manifest(
    settings: Settings, tmp_path: Path
) -> None:
    run(settings, site(settings, "one"))
    newest = newest_file(settings, [])
    os.utime(settings.manifest, (newest + 100, newest + 100))
    assert newest_file(settings, []) == newest
    watched = tmp_path / "certificate"
    watched.write_text("x")
    os.utime(watched, (newest + 50, newest + 50))
    assert newest_file(settings, [str(watched), "/nonexistent"]) == newest + 50
