# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases: paths and notes, lock, history, environments, sources, what goes and what stays."""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.app_release import (
    build,
    connections,
    history,
    lock,
    run_identity,
    sources,
    switch,
    systemd,
)
from ansible_collections.golive.webstack.plugins.module_utils.app_release.errors import (
    ReleaseError,
)
from ansible_collections.golive.webstack.plugins.module_utils.app_release.health import (
    Health,
    ask,
)
from ansible_collections.golive.webstack.plugins.module_utils.app_release.layout import (
    MARK,
    Layout,
    Release,
    point,
    release_from,
    write_atomically,
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout("shop", str(tmp_path / "srv"), str(tmp_path))
    os.makedirs(made.releases)
    os.makedirs(made.slots)
    return made


def built(layout: Layout, release_id: str, **note: Any) -> Release:
    folder = Path(layout.release_path(release_id))
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").write_text("")
    (folder / MARK).write_text("{}")
    return layout.note(Release(release_id, **note))


# Paths and notes


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", ".a", "a\nb", "x" * 101])
def test_a_release_id_is_no_path(layout: Layout, name: str) -> None:
    with pytest.raises(ReleaseError):
        layout.release_path(name)


def test_a_note_keeps_what_it_is_given(layout: Layout) -> None:
    made = built(layout, "one", built=5.0, environment="e")
    layout.note(made, good=True, live_at=7.0, schema="0002")
    assert layout.release("one") == replace(made, good=True, live_at=7.0, schema="0002")


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"of": "later"}'])
def test_notes_of_other_versions_are_read(text: str) -> None:
    assert release_from(text, "one", 3.0) == Release("one", built=3.0)


def test_a_missing_release_names_those_that_are_there(layout: Layout) -> None:
    built(layout, "one")
    with pytest.raises(ReleaseError, match="no release two .* there are one"):
        layout.release("two")


def test_a_release_counts_by_its_mark_and_its_environment(layout: Layout) -> None:
    built(layout, "one")
    assert layout.is_built("one") and not layout.is_built("two")
    os.unlink(f"{layout.release_path('one')}/.venv/bin/python")
    assert not layout.is_built("one")


def test_the_live_release_is_the_live_slots(layout: Layout) -> None:
    assert layout.live_release() is None
    point(layout.current, "releases/old")
    assert layout.live_release() == "old"  # of the layout before there were slots
    point(f"{layout.slots}/b", "../releases/new")
    point(f"{layout.slots}/live", "b")
    assert (layout.live_slot(), layout.live_release()) == ("b", "new")


def test_the_release_to_go_back_to_was_live_and_good(layout: Layout) -> None:
    built(layout, "first", good=True, live_at=1)
    built(layout, "second", good=True, live_at=2)
    built(layout, "bad", good=False, live_at=3)
    built(layout, "untried", built=9)
    built(layout, "live", good=True, live_at=4)
    point(layout.current, "releases/live")
    found = layout.previous_good()
    assert found is not None and found.id == "second"


def test_a_link_changes_in_one_step(tmp_path: Path) -> None:
    link = str(tmp_path / "link")
    assert point(link, "a") and not point(link, "a") and point(link, "b")
    assert os.readlink(link) == "b" and os.listdir(tmp_path) == ["link"]


def test_a_file_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_atomically(str(tmp_path / "file"), "\udc80")
    assert os.listdir(tmp_path) == []


# What goes and what stays


def releases(text: str) -> list[Release]:
    """Letters, the newest first: capitals were never live."""
    return [Release(one, good=None if one.isupper() else True) for one in text]


@pytest.mark.parametrize(
    ("there", "protected", "keep", "gone"),
    [
        ("abc", "a", 5, ""),
        ("abcdefg", "a", 5, "fg"),
        ("abcdefg", "ag", 5, "ef"),  # the last one is what a rollback goes to
        ("abcdefg", "abcdefg", 2, ""),
        ("XYab", "a", 5, "Y"),  # of those that were never live only the newest
        ("XabcdeY", "ab", 5, "eY"),
        ("abc", "", 2, "c"),
    ],
)
def test_what_is_removed(there: str, protected: str, keep: int, gone: str) -> None:
    stay, found = switch.disposable(releases(there), set(protected), keep)
    assert "".join(found) == gone
    assert set(stay) | set(found) == set(there)


def test_environments_that_no_release_uses_are_removed(layout: Layout) -> None:
    for key in ("used", "unused"):
        os.makedirs(f"{layout.environments}/{key}/bin")
        Path(f"{layout.environments}/{key}/bin/python").write_text("")
    folder = Path(layout.release_path("one"))
    folder.mkdir()
    (folder / ".venv").symlink_to("../../environments/used")
    (folder / MARK).write_text("{}")
    point(layout.current, "releases/one")
    assert switch.prune(layout, 5) == []
    assert os.listdir(layout.environments) == ["used"]


# The schema


@pytest.fixture
def deployment(layout: Layout) -> switch.Deployment:
    settings = switch.Settings("shop", "/run/shop.sock", Health("/", (200,), "localhost", 1), 1)
    return switch.Deployment(switch.Switch(layout, settings), "ann@control")


def test_a_rollback_past_a_breaking_schema_is_refused(
    layout: Layout, deployment: switch.Deployment
) -> None:
    built(layout, "old", good=True, live_at=1, schema="1", schema_level=0)
    built(layout, "new", good=True, live_at=2, schema="2", schema_level=1)
    point(layout.current, "releases/new")
    with pytest.raises(ReleaseError, match="can't use the database any more.*schema 1 then, 2 now"):
        deployment.target("", False)
    found, warnings = deployment.target("", True)
    assert found.id == "old" and "stays at schema 2" in warnings[0]


def test_another_schema_is_told_and_not_refused(
    layout: Layout, deployment: switch.Deployment
) -> None:
    built(layout, "old", good=True, live_at=1, schema="1")
    built(layout, "new", good=True, live_at=2, schema="2")
    point(layout.current, "releases/new")
    found, warnings = deployment.target("", False)
    assert found.id == "old" and "never data" in warnings[0]


def test_nothing_to_roll_back_to(layout: Layout, deployment: switch.Deployment) -> None:
    with pytest.raises(ReleaseError, match="no live release"):
        deployment.target("", False)
    built(layout, "only", good=True, live_at=1)
    point(layout.current, "releases/only")
    with pytest.raises(ReleaseError, match="no good release before only"):
        deployment.target("", False)
    with pytest.raises(ReleaseError, match="no release other"):
        deployment.target("other", False)


# The lock


def held(path: Path, **changes: Any) -> lock.Lock:
    one = lock.Lock("other", "ann@office", "deploy", 1000, 1000, "there", 42, 7)
    one = replace(one, **changes)
    path.write_text(json.dumps(vars(one)))
    return one


MINE = lock.Lock("mine", "me@here", "rollback", place="here", pid=1, started=1)


def test_the_lock_is_taken_refreshed_and_let_go(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    taken = lock.acquire(str(path), MINE, 900, now=1000)
    assert taken.acquired and taken.changed
    again = lock.acquire(str(path), MINE, 900, now=1010)
    assert again.acquired and not again.changed
    told = lock.read(str(path))
    assert told is not None and (told.since, told.refreshed) == (1000, 1010)
    assert not lock.release(str(path), "other") and lock.release(str(path), "mine")
    assert os.listdir(tmp_path) == []


def test_another_run_is_refused_with_its_name_and_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    other = held(path)
    refused = lock.acquire(str(path), MINE, 900, now=1300)
    assert not refused.acquired and refused.held == other
    text = lock.refusal(other, 1300, "gunicorn_app_lock_break")
    for part in ("ann@office", "deploy", "5 min", "gunicorn_app_lock_break=other"):
        assert part in text


@pytest.mark.parametrize(
    ("changes", "given", "why"),
    [
        ({}, {"now": 1901.0}, "not heard of for 15 min"),
        ({"refreshed": 1500}, {"now": 1901.0}, ""),
        ({}, {"now": 1001.0, "break_id": "other"}, "Broke"),
        ({}, {"now": 1001.0, "break_id": "wrong"}, ""),
        ({"place": "here"}, {"now": 1001.0, "running": ["1:1"]}, "its process 42 is gone"),
        ({"place": "here"}, {"now": 1001.0, "running": ["1:1", "42:7"]}, ""),
        # A process number that was given again is another process.
        ({"place": "here"}, {"now": 1001.0, "running": ["42:8"]}, "is gone"),
        # Of another control node nothing is known.
        ({}, {"now": 1001.0, "running": ["1:1"]}, ""),
        ({"place": "here"}, {"now": 1001.0, "running": []}, ""),
    ],
)
def test_when_a_lock_is_taken_over(
    tmp_path: Path, changes: dict[str, Any], given: dict[str, Any], why: str
) -> None:
    path = tmp_path / ".lock"
    held(path, **changes)
    outcome = lock.acquire(str(path), MINE, 900, **given)
    assert outcome.acquired == bool(why)
    assert why in " ".join(outcome.warnings)
    told = lock.read(str(path))
    assert told is not None and told.id == ("mine" if why else "other")


def test_a_lock_that_is_no_json_is_somebodys(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text("")
    os.utime(path, (1000, 1000))
    refused = lock.acquire(str(path), MINE, 900, now=1100)
    assert not refused.acquired and refused.held is not None
    assert lock.acquire(str(path), MINE, 900, break_id=refused.held.id, now=1100).acquired


def test_of_many_at_once_one_gets_the_lock(tmp_path: Path) -> None:
    path = str(tmp_path / ".lock")
    barrier = threading.Barrier(8)
    won = []

    def run(number: int) -> None:
        barrier.wait()
        if lock.acquire(path, replace(MINE, id=str(number)), 900).acquired:
            won.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_check_mode_takes_and_makes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "srv" / ".lock"
    assert lock.acquire(str(path), MINE, 900, check=True).acquired
    assert not path.parent.exists()


def test_work_is_refused_under_anothers_lock(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    held(path)
    with pytest.raises(ReleaseError, match="ann@office"):
        with lock.kept(str(path), "mine"):
            raise AssertionError


def test_a_long_step_keeps_the_lock_fresh(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    held(path, id="mine")
    with lock.kept(str(path), "mine", every=0.01):
        held(path, id="mine", refreshed=1)
        while (told := lock.read(str(path))) is not None and told.refreshed == 1:
            pass
    assert told is not None and told.refreshed > 1


def test_this_run_is_this_process_or_its_parent() -> None:
    run = run_identity.this_run()
    assert f"{run.pid}:{run.started}" in run_identity.processes()
    assert run == run_identity.this_run()
    taken = {"place": run.place, "pid": run.pid, "started": run.started}
    assert not run_identity.is_gone(taken, run.place, run_identity.processes())
    assert run_identity.is_gone({**taken, "started": 1}, run.place, run_identity.processes())


# The history


def test_the_history_is_bounded_and_survives_a_torn_line(tmp_path: Path) -> None:
    path = str(tmp_path / "history.jsonl")
    for number in range(history.KEPT + 101):
        history.append(path, history.event("deploy", "me", "done", 0, 1.26, after=str(number)))
    lines = Path(path).read_text().splitlines()
    assert len(lines) == history.KEPT
    with open(path, "a") as stream:
        stream.write('{"torn": ')
    history.append(path, history.event("rollback", "me", "failed", 0, 1, reason="ü\n"))
    told = history.read(path, 2)
    assert [one["what"] for one in told] == ["rollback", "deploy"]
    assert told[1]["after"] == str(history.KEPT + 100) and told[1]["seconds"] == 1.3
    assert history.read(str(tmp_path / "none")) == []


# Environments


def source(tmp_path: Path, **files: str) -> str:
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/").replace("_txt", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("line", "local"),
    [
        ("flask==3.0", False),
        ("flask==3.0 \\\n  --hash=sha256:00", False),
        ("# -e .", False),
        ("--index-url https://index.example/simple", False),
        ("shop @ https://files.example/shop.whl", False),
        ("-e git+https://git.example/shop.git#egg=shop", False),
        (".", True),
        ("./vendor/shop.whl", True),
        ("vendor/shop-1.2.tar.gz", True),
        ("-e .", True),
        ("--editable=./lib", True),
        ("shop @ file:///srv/shop", True),
        ("shop[redis] @ ./lib", True),
    ],
)
def test_what_makes_an_environment_one_releases_own(tmp_path: Path, line: str, local: bool) -> None:
    folder = source(tmp_path, requirements_txt=f"gunicorn\n{line}\n")
    assert build.requirements(folder, "requirements.txt").local == local


def test_included_files_count(tmp_path: Path) -> None:
    folder = source(
        tmp_path,
        requirements_txt="-r more/base.txt\n-cpins.txt\n",
        more__base_txt="--requirement=deep.txt  # why\nflask\n",
        more__deep_txt="-e .\n-r ../requirements.txt\n",
        pins_txt="flask==3\n",
    )
    found = build.requirements(folder, "requirements.txt")
    assert [text.splitlines()[0] for text in found.texts] == [
        "more/base.txt", "more/deep.txt", "pins.txt", "requirements.txt",
    ]  # fmt: skip
    assert found.local


@pytest.mark.parametrize(
    ("line", "why"), [("-r none.txt", "no such file"), ("-r ../../etc/x", "outside of the source")]
)
def test_wrong_includes_are_named(tmp_path: Path, line: str, why: str) -> None:
    folder = source(tmp_path, requirements_txt=f"{line}\n")
    with pytest.raises(ReleaseError, match=why):
        build.requirements(folder, "requirements.txt")


def test_the_same_recipe_gives_the_same_environment() -> None:
    recipe = build.Recipe("/usr/bin/python3", extra_packages=["gunicorn"])
    wanted = build.Requirements(("requirements.txt\nflask",), False)

    def key(facts: str = "3.11", one: build.Recipe = recipe, private: str = "") -> str:
        return build.environment_key([facts], one, wanted, private)

    assert key() == key()
    assert key() == key(one=replace(recipe, installer="uv", needs="uvicorn"))
    others = [
        key("3.12"),
        key(private="release"),
        key(one=replace(recipe, extra_packages=["gunicorn==1"])),
        key(one=replace(recipe, arguments=["--pre"])),
        key(one=replace(recipe, wheelhouse_sha256="00")),
        build.environment_key(["3.11"], recipe, build.Requirements(("x",), False), ""),
    ]
    assert len({key(), *others}) == 7


def test_shared_paths_are_linked_and_keep_their_first_content(tmp_path: Path) -> None:
    uid = os.getuid()
    shared = tmp_path / "shared"
    shared.mkdir()
    paths = ["uploads/", "var/cache", "var/settings.cfg"]
    for number in (1, 2):
        release = tmp_path / "releases" / f"r{number}"
        (release / "uploads").mkdir(parents=True)
        (release / "uploads" / f"of{number}").write_text("")
        (release / "var").mkdir()
        (release / "var" / "settings.cfg").write_text(str(number))
        build.link_shared(str(release), str(release), str(shared), paths, uid)
        assert os.listdir(release / "uploads") == ["of1"]
        assert (release / "var" / "settings.cfg").read_text() == "1"
        assert (release / "var" / "cache").is_dir()
        assert not os.path.isabs(os.readlink(release / "var" / "cache"))


@pytest.mark.parametrize("path", ["", ".", "/etc", "../x", "a/../../x", MARK])
def test_shared_paths_stay_inside(path: str) -> None:
    with pytest.raises(ReleaseError, match="gunicorn_app_shared"):
        build.shared_path(path)


# Sources


def tar(path: Path, *members: tuple[str, str, str]) -> str:
    with tarfile.open(path, "w:gz") as packed:
        for name, kind, text in members:
            member = tarfile.TarInfo(name)
            if kind == "link":
                member.type, member.linkname = tarfile.SYMTYPE, text
                packed.addfile(member)
            elif kind == "pipe":
                member.type = tarfile.FIFOTYPE
                packed.addfile(member)
            else:
                member.mode, member.size = (0o755 if kind == "program" else 0o600), len(text)
                packed.addfile(member, io.BytesIO(text.encode()))
    return str(path)


def test_an_archive_is_unpacked_without_its_outer_folder(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "a.tar.gz",
        ("shop-1/run.sh", "program", "#!"),
        ("shop-1/link", "link", "run.sh"),
    )
    folder = Path(sources.unpack(path, str(tmp_path / "out")))
    assert folder.name == "shop-1" and sorted(os.listdir(folder)) == ["link", "run.sh"]
    assert os.access(folder / "run.sh", os.X_OK) and os.readlink(folder / "link") == "run.sh"


def test_a_zip_file_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("wsgi.py", "app = 1")
        packed.writestr("lib/a.py", "a = 1")
    folder = Path(sources.unpack(str(path), str(tmp_path / "out")))
    assert (folder / "lib" / "a.py").read_text() == "a = 1"


@pytest.mark.parametrize(
    "members",
    [
        [("../x", "file", "x")],
        [("/etc/x", "file", "x")],
        [("a/link", "link", "../../x")],
        [("link", "link", "/etc"), ("link/x", "file", "x")],
        [("pipe", "pipe", "")],
    ],
)
def test_archives_that_lead_out_are_refused(
    tmp_path: Path, members: list[tuple[str, str, str]]
) -> None:
    path = tar(tmp_path / "a.tar.gz", *members)
    with pytest.raises(ReleaseError):
        sources.unpack(path, str(tmp_path / "deep" / "out"))
    assert not (tmp_path / "x").exists() and not (tmp_path / "deep" / "x").exists()


def test_damaged_and_other_files_are_named(tmp_path: Path) -> None:
    path = Path(tar(tmp_path / "a.tar.gz", ("a", "file", "x" * 100_000)))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ReleaseError, match="damaged|neither"):
        sources.unpack(str(path), str(tmp_path / "one"))
    path.write_text("text")
    with pytest.raises(ReleaseError, match="neither a tar archive nor a zip"):
        sources.unpack(str(path), str(tmp_path / "two"))


def test_a_checksum_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    right = sources.sha256(str(path))
    for form in (right, right.upper(), f"sha256:{right}"):
        sources.check(str(path), form)
    with pytest.raises(ReleaseError, match=right):
        sources.check(str(path), "0" * 64)


@pytest.mark.parametrize("good", ["shop==1.2", "shop[redis, x] == 1.2.post1", "a==1!2.0+local"])
def test_one_version_of_an_index(tmp_path: Path, good: str) -> None:
    folder = Path(sources.index(good, str(tmp_path / "out"), "req/base.txt"))
    assert (folder / "req" / "base.txt").read_text() == f"{good}\n"


@pytest.mark.parametrize("bad", ["shop", "shop>=1", "shop==1; rm", "shop==1\n-e .", "--x==1"])
def test_several_versions_of_an_index_are_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ReleaseError, match="one version"):
        sources.index(bad, str(tmp_path / "out"), "requirements.txt")


def test_a_wheel_becomes_a_requirement(tmp_path: Path) -> None:
    wheel = tmp_path / "shop-1-py3-none-any.whl"
    wheel.write_text("x")
    folder = Path(sources.wheel(str(wheel), str(tmp_path / "out"), "requirements.txt"))
    assert build.requirements(str(folder), "requirements.txt").local
    assert (folder / wheel.name).is_file()


# What the kernel and systemd tell

UNIX = """Num       RefCount Protocol Flags    Type St Inode Path
ffff: 00000002 00000000 00010000 0001 01 100 /run/shop.sock
ffff: 00000003 00000000 00000000 0001 03 101 /run/shop.sock
ffff: 00000003 00000000 00000000 0001 03 102
ffff: 00000003 00000000 00000000 0001 03 103 /run/shop.sock2
ffff: 00000003 00000000 00000000 0001 03 104 /run/shop.sock
"""
TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  ...
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 200 1
   1: 0100007F:1F40 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 201 1
   2: 0100007F:1F41 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 202 1
   3: 0100007F:1F40 0100007F:D2F1 01 00000000:00000000 00:00000000 00000000     0        0 0 1
   4: 0100007F:1F40 0100007F:D2F2 08 00000000:00000000 00:00000000 00000000     0        0 203 1
"""


def test_server_ends_of_connections() -> None:
    assert connections.unix_inodes(UNIX, "/run/shop.sock") == {"101", "104"}
    assert connections.tcp_inodes(TCP, 8000) == {"201", "203"}


@pytest.mark.parametrize("family", ["unix", "tcp"])
def test_accepted_connections_are_counted(tmp_path: Path, family: str) -> None:
    if family == "unix":
        listener = socket.socket(socket.AF_UNIX)
        address = str(tmp_path / "s")
        listener.bind(address)
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    listener.listen()
    client = socket.socket(listener.family)
    client.connect(listener.getsockname())
    assert connections.accepted([os.getpid()], address) == 0
    server, _unused = listener.accept()
    assert connections.accepted([os.getpid()], address) == 1
    server.close()
    assert connections.accepted([os.getpid()], address) == 0
    client.close()
    listener.close()


def test_a_process_and_its_children() -> None:
    assert os.getpid() in connections.family(os.getppid())


def test_a_units_state() -> None:
    told = systemd.state_from(
        "MainPID=12\nNRestarts=2\nResult=exit-code\nActiveState=activating\n"
        "SubState=auto-restart\nLoadState=loaded\nNeedDaemonReload=no\n"
    )
    assert (told.pid, told.restarts, told.sub, told.runs) == (12, 2, "auto-restart", True)
    assert not systemd.state_from("").runs


LOG = """[2026-01-01 10:00:00 +0000] [10] [INFO] of the old one
[2026-01-01 10:00:00 +0000] [20] [ERROR] of the new one
Traceback (most recent call last):
  boom
[2026-01-01 10:00:01 +0000] [11] [ERROR] of the old one
Traceback (most recent call last):
  of the old one
[2026-01-01 10:00:02 +0000] [20] [INFO] end
"""


def test_the_last_words_are_the_new_releases() -> None:
    told = switch.last_words(LOG, {10, 11})
    assert "old" not in told and told.count("\n") == 3 and "boom" in told
    assert switch.last_words(LOG, {10, 11}, 1).endswith("end")


def test_health_says_what_came_instead(tmp_path: Path) -> None:
    address = str(tmp_path / "s")
    health = Health("/health", (200, 204), "shop.example", 1)
    assert "No such file" in ask(address, health)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    seen = []

    def serve(answers: list[bytes]) -> None:
        for answer in answers:
            link, _unused = listener.accept()
            seen.append(link.recv(1000).decode())
            link.sendall(answer)
            link.close()

    answers = [b"HTTP/1.0 204 x\r\n\r\n", b"HTTP/1.0 503 x\r\n\r\n", b""]
    thread = threading.Thread(target=serve, args=(answers,))
    thread.start()
    told = [ask(address, health) for _unused in answers]
    thread.join()
    listener.close()
    assert told[0] == "" and "status 503, not 200, 204" in told[1] and told[2]
    assert "Host: shop.example" in seen[0]
