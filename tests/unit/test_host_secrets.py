# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets that are generated once."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.host_secrets import (
    SecretError,
    Store,
    Wanted,
)


def provide(folder: Path, *wanted: Wanted, check: bool = False):  # type: ignore[no-untyped-def]
    return Store(str(folder), check).provide(list(wanted))


def test_generated_once(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "secrets"
    first = provide(folder, Wanted("a"), Wanted("b", length=64))
    assert first.changed and first.generated == ["a", "b"]
    assert len(first.values["a"]) == 32 and len(first.values["b"]) == 64
    assert first.values["b"].isalnum()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o600
    assert sorted(p.name for p in folder.iterdir()) == ["a", "b"]
    second = provide(folder, Wanted("a", length=99), Wanted("b"))
    assert second.values == first.values and not second.changed and second.generated == []


def test_given_values_are_not_stored(tmp_path: Path) -> None:
    kept = provide(tmp_path / "s", Wanted("a", value='given " $x'), Wanted("b", value=""))
    assert kept.values["a"] == 'given " $x' and kept.generated == ["b"]
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["b"]


def test_given_value_leaves_the_kept_one_alone(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    kept = provide(folder, Wanted("a")).values["a"]
    assert provide(folder, Wanted("a", value="other")).values["a"] == "other"
    assert provide(folder, Wanted("a")).values["a"] == kept


def test_check_mode_stores_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    kept = provide(folder, Wanted("a"), check=True)
    assert kept.changed and kept.generated == ["a"] and len(kept.values["a"]) == 32
    assert not folder.exists()


def test_modes_are_mended(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    provide(folder, Wanted("a"))
    folder.chmod(0o755)
    (folder / "a").chmod(0o644)
    assert provide(folder, Wanted("a"), check=True).changed
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert provide(folder, Wanted("a")).mended == [str(folder), str(folder / "a")]
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o600
    assert not provide(folder, Wanted("a")).changed


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_owner_is_mended(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    provide(folder, Wanted("a"))
    os.chown(folder / "a", 65534, 65534)
    assert provide(folder, Wanted("a")).changed
    assert (folder / "a").stat().st_uid == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"half-of-it", "truncated"),
        (b"two\nlines\n", "more than one line"),
        (b"\xff\xfe\n", "no UTF-8"),
    ],
)
def test_bad_files_are_never_replaced(tmp_path: Path, content: bytes, message: str) -> None:
    folder = tmp_path / "s"
    provide(folder, Wanted("a"))
    (folder / "a").write_bytes(content)
    with pytest.raises(SecretError, match=message) as caught:
        provide(folder, Wanted("a"))
    assert str(folder / "a") in str(caught.value) and "half" not in str(caught.value)
    assert (folder / "a").read_bytes() == content


def test_links_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    provide(folder)
    (tmp_path / "elsewhere").write_text("secret\n")
    (folder / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SecretError, match="no regular file"):
        provide(folder, Wanted("a"))


@pytest.mark.parametrize(
    "wanted",
    [
        [Wanted("A")],
        [Wanted("1a")],
        [Wanted("a/b")],
        [Wanted("..")],
        [Wanted("a\n")],
        [Wanted("a" * 65)],
        [Wanted("a"), Wanted("a")],
        [Wanted("a", value="hidden\nline")],
        [Wanted("a", value="hidden\x00nul")],
        [Wanted("a", length=8)],
        [Wanted("a", length=5000)],
    ],
)
def test_bad_input_stops_first(tmp_path: Path, wanted: list[Wanted]) -> None:
    with pytest.raises(SecretError) as caught:
        provide(tmp_path / "s", Wanted("fine"), *wanted)
    assert "hidden" not in str(caught.value)
    assert not (tmp_path / "s").exists()


RACER = """
import sys, time
from ansible_collections.golive.webstack.plugins.module_utils.host_secrets import Store, Wanted
time.sleep(max(0, float(sys.argv[2]) - time.time()))
print(Store(sys.argv[1]).provide([Wanted(f"s{i}") for i in range(50)]).values)
"""


def test_parallel_runs_agree(tmp_path: Path) -> None:
    import time

    start = str(time.time() + 1)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path / "s"), start],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _unused in range(6)
    ]
    outputs = {run.communicate()[0] for run in runs}
    assert len(outputs) == 1 and "s49" in outputs.pop()
    assert len(list((tmp_path / "s").iterdir())) == 50


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    provide(folder)
    (folder / ".new-old").write_text("x\n")
    (folder / ".new-fresh").write_text("x\n")
    os.utime(folder / ".new-old", (0, 0))
    provide(folder, Wanted("a"))
    assert sorted(p.name for p in folder.iterdir()) == [".new-fresh", "a"]


def test_values_are_in_no_repr(tmp_path: Path) -> None:
    kept = provide(tmp_path / "s", Wanted("a", value="hidden"))
    assert "hidden" not in repr(kept) and "hidden" not in repr(Wanted("a", value="hidden"))
