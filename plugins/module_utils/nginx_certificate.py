# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of web sites: made on the host, looked at, and compared with what is served."""

from __future__ import annotations

# This part runs without Ansible too, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import contextlib
import datetime
import ipaddress
import os
import re
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

UTC = datetime.timezone.utc


class CertificateError(Exception):
    """A certificate that can't be made or read; the text names the file and the cause."""


@dataclass(frozen=True)
class Certificate:
    """What a certificate file says of its first certificate."""

    not_after: datetime.datetime
    names: tuple[str, ...]
    issuer: str
    subject: str

    @property
    def self_made(self) -> bool:
        return self.issuer == self.subject

    def days_left(self, now: datetime.datetime) -> int:
        return (self.not_after - now) // datetime.timedelta(days=1)


def _openssl(arguments: Sequence[str], path: str) -> str:
    try:
        done = subprocess.run(
            ["openssl", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise CertificateError(f"openssl can't be run: {error.strerror}.") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise CertificateError(f"{path}: openssl says: {said[-1] if said else 'nothing'}")
    return done.stdout


def read(path: str) -> Certificate:
    """The first certificate of a file."""
    told = _openssl(
        ["x509", "-in", path, "-noout", "-enddate", "-subject", "-issuer"]
        + ["-nameopt", "RFC2253", "-ext", "subjectAltName"],
        path,
    )
    fields = dict(line.split("=", 1) for line in told.splitlines() if re.match(r"\w+=", line))
    end = datetime.datetime.strptime(fields["notAfter"].strip(), "%b %d %H:%M:%S %Y %Z")
    found = re.findall(r"(?:DNS|IP Address):([^,\s]+)", told)
    return Certificate(
        not_after=end.replace(tzinfo=UTC),
        names=tuple(sorted(name.lower() for name in found)),
        issuer=fields.get("issuer", "").strip(),
        subject=fields.get("subject", "").strip(),
    )


def _fits(certificate: str, key: str) -> bool:
    """Whether the key is the certificate's: a run may have been killed between the two files."""
    try:
        ours = _openssl(["x509", "-in", certificate, "-noout", "-pubkey"], certificate)
        return ours == _openssl(["pkey", "-in", key, "-pubout"], key)
    except CertificateError:
        return False


def _san(name: str) -> str:
    try:
        ipaddress.ip_address(name)
        return f"IP:{name}"
    except ValueError:
        return f"DNS:{name}"


def needs_self_made(
    certificate: str, key: str, names: Sequence[str], days: int, now: datetime.datetime
) -> bool:
    """Whether there is none yet, or not for these names, or not for much longer."""
    if not os.path.exists(certificate) or not os.path.exists(key) or not _fits(certificate, key):
        return True
    told = read(certificate)
    return told.names != tuple(sorted(name.lower() for name in names)) or told.days_left(now) < min(
        30, days // 3
    )


def make_self_made(certificate: str, key: str, names: Sequence[str], days: int) -> None:
    """A key and a certificate that it signs itself, the key readable by its owner only."""
    folder = os.path.dirname(certificate)
    with tempfile.TemporaryDirectory(prefix=".golive-", dir=folder) as place:
        new_key, new = os.path.join(place, "key"), os.path.join(place, "pem")
        _openssl(
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-days", str(days), "-subj", f"/CN={names[0][:64]}"]
            + ["-addext", "subjectAltName=" + ",".join(_san(name) for name in names)]
            + ["-keyout", new_key, "-out", new],
            certificate,
        )
        os.chmod(new_key, 0o600)
        os.chmod(new, 0o644)
        os.replace(new_key, key)
        os.replace(new, certificate)


def acme_due(
    name: str, names: Sequence[str], server: str, folder: str = "/etc/letsencrypt"
) -> bool:
    """Whether certbot has yet to fetch this certificate, or for other names or elsewhere."""
    try:
        with open(f"{folder}/renewal/{name}.conf", encoding="utf-8") as stream:
            settings = stream.read()
    except FileNotFoundError:
        return True
    found = re.search(r"^server\s*=\s*(\S+)\s*$", settings, re.M)
    if found is None or found[1] != server:
        return True
    path = f"{folder}/live/{name}/fullchain.pem"
    if not os.path.exists(path):
        return True
    return read(path).names != tuple(sorted(one.lower() for one in names))


def is_served(certificate: str, port: int, server_name: str, address: str = "127.0.0.1") -> bool:
    """Whether a TLS server here answers to the name with this very certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with open(certificate, encoding="ascii", errors="replace") as stream:
        text = stream.read()
    end = "-----END CERTIFICATE-----"
    first = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)]
    with contextlib.ExitStack() as stack:
        try:
            link = stack.enter_context(socket.create_connection((address, port), timeout=10))
            tls = stack.enter_context(context.wrap_socket(link, server_hostname=server_name))
            shown = tls.getpeercert(binary_form=True)
        except OSError as error:
            raise CertificateError(
                f"{address}:{port} does not answer to {server_name} by TLS: {error}."
            ) from error
    return shown == ssl.PEM_cert_to_DER_cert(first)
