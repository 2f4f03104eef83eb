# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fingerprint of an OpenPGP key, computed without a keyring or a program."""

from __future__ import annotations

import base64
import binascii
import hashlib

from .errors import PostgresError

_BEGIN, _END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
_PUBLIC_KEY = 6


def _dearmored(text: str) -> bytes:
    if text.count(_BEGIN) != 1 or _END not in text:
        raise PostgresError("This is not one OpenPGP public key in ASCII armour.")
    body = text.partition(_BEGIN)[2].partition(_END)[0]
    # Headers end with an empty line; the checksum's line begins with '='.
    lines = [line.strip() for line in body.strip("\r\n").splitlines()]
    if "" in lines:
        lines = lines[lines.index("") + 1 :]
    try:
        return base64.b64decode("".join(x for x in lines if not x.startswith("=")), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PostgresError("The OpenPGP key's armour is damaged.") from error


def _packets(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise PostgresError("The OpenPGP key has a packet that is none.")
        if head & 0x40:
            tag, first = head & 0x3F, data[at + 1]
            if first < 192:
                size, at = first, at + 2
            elif first < 224:
                size, at = ((first - 192) << 8) + data[at + 2] + 192, at + 3
            elif first == 255:
                size, at = int.from_bytes(data[at + 2 : at + 6], "big"), at + 6
            else:
                raise PostgresError("The OpenPGP key has a packet of unknown length.")
        else:
            tag, width = (head & 0x3C) >> 2, head & 0x03
            if width == 3:
                raise PostgresError("The OpenPGP key has a packet of unknown length.")
            octets = 1 << width
            size = int.from_bytes(data[at + 1 : at + 1 + octets], "big")
            at += 1 + octets
        found.append((tag, data[at : at + size]))
        at += size
    return found


def fingerprint(text: str) -> str:
    """The primary key's fingerprint in capitals; a block with several keys is refused."""
    try:
        keys = [body for tag, body in _packets(_dearmored(text)) if tag == _PUBLIC_KEY]
    except IndexError as error:
        raise PostgresError("The OpenPGP key is cut short.") from error
    if len(keys) != 1:
        raise PostgresError(f"The key block holds {len(keys)} primary keys; one is expected.")
    body = keys[0]
    if not body:
        raise PostgresError("The OpenPGP key is cut short.")
    if body[0] == 4:
        framed = b"\x99" + len(body).to_bytes(2, "big") + body
        return hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper()
    if body[0] in (5, 6):
        mark = b"\x9a" if body[0] == 5 else b"\x9b"
        return hashlib.sha256(mark + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    raise PostgresError(f"The OpenPGP key has version {body[0]}, which is too old to be trusted.")
