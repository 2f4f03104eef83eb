# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a Redis server's files, and what it comes to beside the running one."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.redis_server import (
    Address,
    Client,
    Credential,
    Files,
    RedisServerError,
    ReplyError,
    _first_certificate,
    addresses,
    differing,
    manage,
    read_settings,
    split_words,
)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("port 6379", ["port", "6379"]),
        ('requirepass "a \\"b\\" \\\\ c"', ["requirepass", 'a "b" \\ c']),
        ("requirepass 'it\\'s \\n'", ["requirepass", "it's \\n"]),
        ('logfile ""', ["logfile", ""]),
        ('x "\\x41\\n"', ["x", "A\n"]),
        ('tls-protocols "TLSv1.2 TLSv1.3"', ["tls-protocols", "TLSv1.2 TLSv1.3"]),
    ],
)
def test_lines_are_split_as_redis_does(line: str, words: list[str]) -> None:
    assert split_words(line) == words


def test_the_last_value_counts_and_includes_are_read(tmp_path: Path) -> None:
    (tmp_path / "more.conf").write_text('requirepass "a b"\nport 3\n')
    text = f"# no\nPort 1\n\nport 2\ninclude {tmp_path}/more.conf\nbind 127.0.0.1 -::1\n"
    assert read_settings(text) == {"port": "3", "requirepass": "a b", "bind": "127.0.0.1 -::1"}
    assert read_settings(text, follow=False) == {"port": "2", "bind": "127.0.0.1 -::1"}


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({}, [Address(port=6379)]),
        ({"port": "0", "unixsocket": "/s"}, [Address(path="/s")]),
        ({"port": "7", "bind": "10.0.0.1 127.0.0.1"}, [Address(port=7)]),
        ({"port": "7", "bind": "-10.0.0.1"}, [Address(host="10.0.0.1", port=7)]),
        ({"port": "7", "bind": "* -::*"}, [Address(port=7)]),
        (
            {"port": "0", "tls-port": "8", "tls-auth-clients": "no"},
            [Address(port=8, tls=True)],
        ),
        (
            {"port": "0", "tls-port": "8", "tls-cert-file": "/c", "tls-key-file": "/k"},
            [Address(port=8, tls=True, certificate="/c", key="/k")],
        ),
    ],
)
def test_where_a_server_is_reached(settings: dict[str, str], places: list[Address]) -> None:
    assert addresses(settings) == places


RUNNING = {
    "port": "6379", "tls-port": "0", "bind": "127.0.0.1 -::1", "unixsocket": "", "dir": "/d",
    "unixsocketperm": "0", "requirepass": "", "aclfile": "", "maxclients": "10000", "hz": "10",
    "maxmemory": "100", "save": "3600 1", "logfile": "/l", "tls-cert-file": "", "tls-key-file": "",
    "tls-ca-cert-file": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("trial", "given", "found"),
    [
        ({}, {}, {}),
        ({"maxmemory": "200"}, {}, {"maxmemory": "200"}),
        # What the trial has of its own says nothing of the file.
        ({"port": "0", "bind": "127.0.0.1", "maxclients": "900", "dir": "/tmp/x"}, {}, {}),
        ({}, {"port": "6380"}, {"port": "6380"}),
        ({}, {"maxclients": "500"}, {"maxclients": "500"}),
        ({}, {"unixsocketperm": "000"}, {}),
        ({}, {"unixsocketperm": "770"}, {"unixsocketperm": "770"}),
        ({}, {"requirepass": "x"}, {"requirepass": "x"}),
        # Its users stand elsewhere, so the default user's password is of no account.
        ({}, {"requirepass": "x", "aclfile": "/a"}, {"aclfile": "/a"}),
        ({"unknown-to-the-running-one": "1"}, {}, {}),
    ],
)
def test_what_differs(trial: dict[str, str], given: dict[str, str], found: dict[str, str]) -> None:
    base = {"bind": "127.0.0.1 -::1", "dir": "/d", "logfile": "/l"}
    assert differing(RUNNING, {**RUNNING, **trial}, {**base, **given}) == found


@pytest.fixture
def server(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Answers each command with the next of the given replies; keeps what it was sent."""
    path, sent = str(tmp_path / "s"), []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve(*replies: bytes) -> tuple[str, list[bytes]]:
        def work() -> None:
            with listener, listener.accept()[0] as connection:
                for reply in replies:
                    sent.append(connection.recv(65536))
                    connection.sendall(reply)

        threading.Thread(target=work, daemon=True).start()
        return path, sent

    return serve


def test_replies(server) -> None:  # type: ignore[no-untyped-def]
    path, sent = server(
        b"+OK\r\n", b":7\r\n", b"$-1\r\n", "$4\r\nü\r\n\r\n".encode(), b"*2\r\n$1\r\na\r\n*0\r\n",
        b"-NOPERM no\r\n", b"$9\r\nab",
    )  # fmt: skip
    with Client(Address(path=path)) as client:
        assert client.call("SET", "a b", "ü") == "OK"
        assert client.call("X") == 7
        assert client.call("X") is None
        assert client.call("X") == "ü\r\n"
        assert client.call("X") == ["a", []]
        with pytest.raises(ReplyError, match="NOPERM"):
            client.call("X")
        with pytest.raises(ConnectionResetError):
            client.call("X")
    assert sent[0] == "*3\r\n$3\r\nSET\r\n$3\r\na b\r\n$2\r\nü\r\n".encode()


def test_the_first_credential_that_is_taken(server) -> None:  # type: ignore[no-untyped-def]
    path, sent = server(b"-WRONGPASS no\r\n", b"+OK\r\n", b"*2\r\n$4\r\nport\r\n$1\r\n0\r\n")
    with Client(Address(path=path)) as client:
        taken = client.log_in([Credential("adm", "x"), Credential("", "y"), Credential("z", "z")])
    assert taken == Credential("", "y")
    assert b"default" in sent[1]


def test_passwords_are_not_in_any_text() -> None:
    assert "hidden" not in repr(Credential("a", "hidden"))
    assert "hidden" not in repr(Files("/p", "x", {"/a": "hidden"}))


def test_without_the_program_files_are_told_alone(tmp_path: Path) -> None:
    """Check mode on a bare host."""
    files = Files(str(tmp_path / "r.conf"), "port 1\n", {str(tmp_path / "a"): "x\n"})
    outcome = manage(files, [], str(tmp_path / "nothing"), [], check=True)
    assert [change.kind for change in outcome.changes] == ["created", "created"]
    assert not outcome.restart and not outcome.reached
    assert not list(tmp_path.iterdir())


def test_a_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("nothing")
    with pytest.raises(RedisServerError, match="holds no certificate"):
        _first_certificate(str(tmp_path / "c"))
