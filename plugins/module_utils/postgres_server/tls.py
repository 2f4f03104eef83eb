# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's certificate and key: proved by a handshake in memory before PostgreSQL gets them."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import tempfile
from collections.abc import Iterator

from .errors import PostgresError

# ssl.VERIFY_X509_PARTIAL_CHAIN, which Python 3.9 has no name for.
_PARTIAL_CHAIN = 0x80000
FILES = {"certificate": "server.crt", "key": "server.key", "ca": "root.crt"}


def is_content(text: str) -> bool:
    return text.lstrip().startswith("-----BEGIN ")


def read(given: str, setting: str) -> bytes:
    """What a setting stands for: its text, or the file at its path."""
    if is_content(given):
        return given.strip().encode() + b"\n"
    try:
        with open(given, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise PostgresError(f"{setting}: {given} can't be read: {error.strerror}.") from error


@contextlib.contextmanager
def _kept(content: bytes) -> Iterator[str]:
    handle, path = tempfile.mkstemp(prefix="golive-tls-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        yield path
    finally:
        os.unlink(path)


def _no_password() -> str:
    raise PostgresError("the key has a passphrase; PostgreSQL starts unattended and needs it bare")


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_side=False),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _turn in range(8):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
        if all(end.version() for end in ends):
            return
    raise PostgresError("no TLS handshake is possible with it")


def check(certificate: bytes, key: bytes, ca: bytes | None, names: dict[str, str]) -> None:
    """Refuse a pair that PostgreSQL can't use. ``names`` says where each came from."""
    pair = f"{names['certificate']} with {names['key']}"
    with _kept(certificate) as certificate_file, _kept(key) as key_file:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            server.load_cert_chain(certificate_file, key_file, password=_no_password)
        except ssl.SSLError as error:
            reason = str(error.reason or error)
            if "MISMATCH" in reason:
                reason = "the key is not this certificate's"
            raise PostgresError(
                f"{pair}: {reason}. Give the certificate and its own key."
            ) from None
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_flags |= _PARTIAL_CHAIN
        client.load_verify_locations(certificate_file)
        try:
            _shake_hands(server, client)
        except ssl.SSLCertVerificationError as error:
            raise PostgresError(
                f"{names['certificate']}: {error.verify_message}. Renew it, then run again."
            ) from None
        except ssl.SSLError as error:
            raise PostgresError(f"{pair}: {error.reason}.") from None
    if ca is not None:
        with _kept(ca) as ca_file:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
            except ssl.SSLError as error:
                raise PostgresError(
                    f"{names['ca']}: no certificate of an authority is in it ({error.reason})."
                ) from None


def prepare(
    given: dict[str, str], missing_ok: bool = False, setting: str = "postgres_tls"
) -> dict[str, bytes]:
    """File names and contents for the server; nothing if a file isn't there and may be missing."""
    if missing_ok and any(
        text and not is_content(text) and not os.path.exists(text) for text in given.values()
    ):
        return {}
    parts, names = {}, {}
    for part, text in given.items():
        if not text:
            continue
        name = f"{setting}_{part}"
        names[part] = f"{name} (its text)" if is_content(text) else f"{name} ({text})"
        parts[part] = read(text, name)
    for part in ("certificate", "key"):
        if part not in parts:
            raise PostgresError(f"{setting}_{part} is not set; TLS needs a certificate and key.")
    if not re.search(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----", parts["key"]):
        raise PostgresError(f"{names['key']}: there is no private key in PEM form in it.")
    check(parts["certificate"], parts["key"], parts.get("ca"), names)
    return {FILES[part]: content for part, content in parts.items()}
