# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that are made on the host, with the real openssl."""

from __future__ import annotations

import contextlib
import datetime
import ssl
import stat
import threading
from pathlib import Path
from socket import create_server

import pytest

from ansible_collections.golive.webstack.plugins.module_utils.nginx_certificate import (
    UTC,
    CertificateError,
    acme_due,
    is_served,
    make_self_made,
    needs_self_made,
    read,
)

NOW = datetime.datetime.now(UTC)
NAMES = ["shop.example", "*.shop.example", "192.0.2.7"]


@pytest.fixture
def made(tmp_path: Path) -> tuple[str, str]:
    files = (str(tmp_path / "shop.pem"), str(tmp_path / "shop.key"))
    make_self_made(*files, NAMES, 90)
    return files


def test_it_is_for_all_its_names_and_its_key_is_private(made: tuple[str, str]) -> None:
    told = read(made[0])
    assert sorted(told.names) == sorted(NAMES)
    assert told.self_made
    assert told.days_left(NOW) in (89, 90)
    assert stat.S_IMODE(Path(made[1]).stat().st_mode) == 0o600
    assert not needs_self_made(*made, NAMES, 90, NOW)
    assert list(Path(made[0]).parent.iterdir()).__len__() == 2


@pytest.mark.parametrize(
    ("names", "days_on", "due"),
    [
        (list(reversed(NAMES)), 0, False),
        (["SHOP.example", *NAMES[1:]], 0, False),
        (NAMES[:1], 0, True),
        (NAMES, 59, False),
        (NAMES, 61, True),
        (NAMES, 500, True),
    ],
)
def test_it_is_made_again_for_other_names_or_near_its_end(
    made: tuple[str, str], names: list[str], days_on: int, due: bool
) -> None:
    later = NOW + datetime.timedelta(days=days_on)
    assert needs_self_made(*made, names, 90, later) is due


def test_a_key_of_another_certificate_is_replaced(made: tuple[str, str], tmp_path: Path) -> None:
    make_self_made(str(tmp_path / "b.pem"), str(tmp_path / "b.key"), NAMES, 90)
    (tmp_path / "b.key").rename(made[1])
    assert needs_self_made(*made, NAMES, 90, NOW)
    Path(made[1]).unlink()
    assert needs_self_made(*made, NAMES, 90, NOW)


def test_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("not one")
    with pytest.raises(CertificateError, match="x: openssl says"):
        read(str(tmp_path / "x"))


def test_certbots_own_files_tell_what_is_due(made: tuple[str, str], tmp_path: Path) -> None:
    server = "https://acme.example/directory"
    folder = str(tmp_path)
    assert acme_due("shop", NAMES, server, folder)
    (tmp_path / "renewal").mkdir()
    (tmp_path / "renewal/shop.conf").write_text(f"[renewalparams]\nserver = {server}\n")
    assert acme_due("shop", NAMES, server, folder)
    (tmp_path / "live/shop").mkdir(parents=True)
    (tmp_path / "live/shop/fullchain.pem").write_text(Path(made[0]).read_text())
    assert not acme_due("shop", NAMES, server, folder)
    assert acme_due("shop", NAMES[:2], server, folder)
    assert acme_due("shop", NAMES, "https://other.example/directory", folder)


def test_the_served_certificate_is_compared(made: tuple[str, str], tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*made)
    make_self_made(str(tmp_path / "b.pem"), str(tmp_path / "b.key"), NAMES, 90)
    with create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            for _unused in range(2):
                link, _unused = listener.accept()
                with contextlib.suppress(OSError):
                    with context.wrap_socket(link, server_side=True) as tls:
                        tls.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert is_served(made[0], port, "shop.example")
        assert not is_served(str(tmp_path / "b.pem"), port, "shop.example")
        thread.join(20)
    with pytest.raises(CertificateError, match="does not answer to shop.example"):
        is_served(made[0], port, "shop.example")
