# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules and filters as a playbook meets them; localhost only, no servers."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.playing import run_play

pytestmark = pytest.mark.skipif(
    not Path(sys.executable).with_name("ansible-playbook").exists(),
    reason="this environment, as ansible-test's own, has no ansible-playbook",
)


def play(folder: Path, tasks: list[dict[str, Any]], *options: str) -> tuple[int, str]:
    return run_play(folder, tasks, "-vvv", *options)


def check(expression: str) -> dict[str, Any]:
    return {"ansible.builtin.assert": {"that": expression}}


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    """A secret that is in no task's text."""
    path = tmp_path / "hidden"
    path.write_text('hidden-"value" $x')
    return path


def test_given_secret_comes_back_and_is_not_shown(tmp_path: Path, hidden: Path) -> None:
    lookup = f"lookup('ansible.builtin.file', '{hidden}')"
    tasks = [
        {
            "golive.webstack.host_secrets": {
                "directory": str(tmp_path / "secrets"),
                "secrets": [
                    {"name": "given", "value": "{{ " + lookup + " }}"},
                    {"name": "kept", "length": 40},
                ],
            },
            "register": "made",
            "no_log": True,
        },
        check(f"made.secrets.given == {lookup}"),
        check("made.secrets.kept | length == 40"),
    ]
    code, output = play(tmp_path, tasks)
    assert code == 0, output
    kept = (tmp_path / "secrets" / "kept").read_text().strip()
    assert "hidden-" not in output and kept not in output
    assert "changed=1" in output and "changed=0" in play(tmp_path, tasks)[1]
    assert not (tmp_path / "secrets" / "given").exists()


def test_given_secret_is_masked_in_the_invocation(tmp_path: Path, hidden: Path) -> None:
    """Without no_log on the task only the result itself shows it, as documented."""
    tasks = [
        {
            "golive.webstack.host_secrets": {
                "directory": str(tmp_path / "secrets"),
                "secrets": [
                    {
                        "name": "given",
                        "value": f"{{{{ lookup('ansible.builtin.file', '{hidden}') }}}}\nx",
                    }
                ],
            },
        },
    ]
    code, output = play(tmp_path, tasks)
    assert code == 2 and "line end" in output and "hidden-" not in output


def test_secrets_in_check_mode(tmp_path: Path) -> None:
    tasks = [
        {
            "golive.webstack.host_secrets": {
                "directory": str(tmp_path / "secrets"),
                "secrets": [{"name": "kept"}],
            },
            "register": "made",
            "no_log": True,
        },
        check("made.generated == ['kept'] and made.secrets.kept | length == 32"),
    ]
    code, output = play(tmp_path, tasks, "--check")
    assert code == 0 and "changed=1" in output, output
    assert not (tmp_path / "secrets").exists()


def test_archive_and_filters(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "wsgi.py").write_text("app = 1\n")
    archive = {"src": str(tmp_path / "app"), "dest_dir": str(tmp_path / "out")}
    tasks = [
        {"golive.webstack.release_archive": archive, "register": "packed"},
        {"golive.webstack.release_archive": {**archive, "pack": False}, "register": "named"},
        check("packed.release_id == named.release_id and packed.content_size == 8"),
        check("named.path is none"),
        check("{'A': 'x$'} | golive.webstack.systemd_environment == 'A=\"x\\\\$\"\\n'"),
        check("'a/b' | golive.webstack.url_userinfo == 'a%2Fb'"),
    ]
    code, output = play(tmp_path, tasks)
    assert code == 0 and "changed=0" in output, output
    made = list((tmp_path / "out").iterdir())
    assert len(made) == 1 and stat.S_IMODE(made[0].stat().st_mode) == 0o600
    made[0].unlink()
    tasks[2:4] = [check("packed.path is none and packed.release_id == named.release_id")]
    code, output = play(tmp_path, tasks, "--check")
    assert code == 0 and not list((tmp_path / "out").iterdir()), output


def test_filter_errors_do_not_show_the_value(tmp_path: Path, hidden: Path) -> None:
    hidden.write_text("hidden-one\nhidden-two")
    value = f"lookup('ansible.builtin.file', '{hidden}')"
    expression = "{{ {'PW': " + value + "} | golive.webstack.systemd_environment }}"
    code, output = play(tmp_path, [{"ansible.builtin.debug": {"msg": expression}}])
    assert code == 2 and "environment variable PW" in output and "hidden-" not in output


def test_wrong_source_is_said_by_the_module(tmp_path: Path) -> None:
    source = tmp_path / "none.db"
    options = {"src": str(source), "login_user": "x", "login_db": "x", "login_port": 1}
    options["login_unix_socket"] = str(tmp_path)
    tasks = [{"golive.webstack.sqlite_to_postgres": options}]
    code, output = play(tmp_path, tasks, "--check")
    assert code == 2 and f"{source} does not exist on this host" in output
