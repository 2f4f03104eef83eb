# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules of pg_hba.conf: what can't work in them, and how they are written.

A bare keyword (``all``, ``sameuser``, ``replication``) means what it means to PostgreSQL; the same
word in double quotes is the name of a database or role.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

Entry = Mapping[str, Any]

DATABASE_KEYWORDS = ("all", "sameuser", "samerole", "replication")
USER_KEYWORDS = ("all",)
ADDRESS_KEYWORDS = ("all", "samehost", "samenet")
TYPES = ("local", "host", "hostssl", "hostnossl")
# What each kind of connection may ask of a client. Passwords in the clear are let through by
# neither: scram-sha-256 does all that they do.
LOCAL_METHODS = ("peer", "scram-sha-256", "md5", "pam", "ldap", "radius", "reject", "trust")
NETWORK_METHODS = ("scram-sha-256", "md5", "cert", "gss", "pam", "ldap", "radius", "reject")
_HOST_NAME = re.compile(r"\.?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*")


def _plain(name: str) -> str:
    """A name without the double quotes that make a keyword a name."""
    quoted = len(name) > 2 and name[0] == name[-1] == '"'
    return name[1:-1] if quoted else name


def _is_group(name: str) -> bool:
    return len(name) > 1 and name[0] == "+"


def _word(name: str, keywords: Collection[str]) -> str:
    if name in keywords:
        return name
    if _is_group(name):
        # PostgreSQL looks for the plus sign in front of the quotes.
        return '+"' + _plain(name[1:]).replace('"', '""') + '"'
    return '"' + _plain(name).replace('"', '""') + '"'


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_network(address, strict=False).is_loopback
    except ValueError:
        return address in ("localhost", "samehost")


def kind(entry: Entry, tls: bool) -> str:
    """The type as it is written: with TLS the network comes in encrypted or not at all."""
    given = str(entry.get("type") or "host")
    if given == "host" and tls and not is_loopback(str(entry.get("address") or "")):
        return "hostssl"
    return given


def line(entry: Entry, tls: bool) -> str:
    """One rule as PostgreSQL reads it."""
    words = [
        kind(entry, tls),
        _word(str(entry["database"]), DATABASE_KEYWORDS),
        _word(str(entry["user"]), USER_KEYWORDS),
    ]
    if words[0] != "local":
        words.append(str(entry.get("address") or ""))
    words.append(str(entry.get("method") or "scram-sha-256"))
    if entry.get("options"):
        words.append(str(entry["options"]))
    return " ".join(words)


def _address_problem(address: str) -> str:
    if not address:
        return "has no address; give one such as 10.0.0.5/32"
    if address in ADDRESS_KEYWORDS:
        return ""
    looks_numeric = re.fullmatch(r"[0-9.]+(/.*)?", address) or ":" in address
    if "/" not in address:
        if looks_numeric:
            mask = 128 if ":" in address else 32
            return f"has the address {address} without a mask; for one host write {address}/{mask}"
        if _HOST_NAME.fullmatch(address):
            return ""
        return f"has the address '{address}', which is neither a network nor a host name"
    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError as error:
        return f"has the address {address}, which is no network: {error}"
    if str(network.network_address) != address.partition("/")[0] and "." in address:
        return f"has the address {address}; the network with that mask is {network}"
    return ""


def _name_problem(name: str, what: str, known: Collection[str] | None) -> str:
    plain = _plain(name[1:] if what == "user" and _is_group(name) else name)
    if not plain:
        return f"has no {what}"
    if re.search(r"[\n\r\0]", plain) or '"' in plain:
        return f"has a {what} with a double quote, line break or NUL in it"
    if plain[0] == "/":
        return f"has the {what} {plain}, which PostgreSQL would take for a regular expression"
    if known is not None and plain not in known:
        setting = "postgres_users" if what == "user" else "postgres_databases"
        kind_of = "role" if what == "user" else "database"
        return (
            f"names the {kind_of} {plain}, which is neither in {setting} nor on the server"
            f" (for all of them write {what}: all)"
        )
    return ""


def _method_problem(entry: Entry, tls: bool) -> str:
    method = str(entry.get("method") or "scram-sha-256")
    local = kind(entry, tls) == "local"
    allowed = LOCAL_METHODS if local else NETWORK_METHODS
    if method == "trust" and not local:
        return "has the method trust, which lets anybody on that network in as that role"
    if method == "password":
        return "has the method password, which sends it in the clear; scram-sha-256 does not"
    if method == "cert" and kind(entry, tls) != "hostssl":
        return "has the method cert, which needs type: hostssl and postgres_tls_ca"
    if method not in allowed:
        return f"has the method {method}; known here: {', '.join(allowed)}"
    return ""


def problems(
    entries: Sequence[Entry],
    roles: Collection[str] | None = None,
    databases: Collection[str] | None = None,
    tls: bool = False,
) -> list[str]:
    """What can't work, one text each. ``roles`` and ``databases`` are those known; None: all."""
    found = []
    for number, entry in enumerate(entries, 1):
        given = str(entry.get("type") or "host")
        database, user = str(entry.get("database") or ""), str(entry.get("user") or "")
        said = []
        if given not in TYPES:
            said.append(f"has the type {given}; known: {', '.join(TYPES)}")
        if database not in DATABASE_KEYWORDS:
            said.append(_name_problem(database, "database", databases))
        if user not in USER_KEYWORDS:
            said.append(_name_problem(user, "user", roles))
        if given == "local":
            if entry.get("address"):
                said.append("is local and has an address; leave one of both out")
        else:
            address = str(entry.get("address") or "")
            said.append(_address_problem(address))
            if given == "hostnossl" and tls and not is_loopback(address):
                said.append("is hostnossl, and with postgres_tls_certificate the network uses TLS")
            if given == "hostssl" and not tls:
                said.append("is hostssl, which needs postgres_tls_certificate and postgres_tls_key")
        said.append(_method_problem(entry, tls))
        if re.search(r"[\n\r\0]", str(entry.get("options") or "")):
            said.append("has a line break in its options")
        where = f"postgres_hba_entries, entry {number} (database {database}, user {user})"
        found += [f"{where} {text}." for text in said if text]
    return found
