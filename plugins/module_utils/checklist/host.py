# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a check asks a host: programs, PostgreSQL, Redis, HTTP, files. Nothing here changes one."""

from __future__ import annotations

# This part runs without Ansible too, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import glob
import http.client
import json
import os
import pwd
import re
import socket
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.golive.webstack.plugins.module_utils.redis_server import (
    Address,
    Client,
    Credential,
    ReplyError,
)

from .model import Failed, NotApplicable

SHOWN = 600
_USERINFO = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")
_SECRET_NAME = re.compile(r"pass|secret|token|key|url|dsn", re.IGNORECASE)


def shortened(text: str, most: int = SHOWN) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def environment_of(text: str) -> dict[str, str]:
    """Names and values of a systemd environment file."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, is_one, value = line.strip().partition("=")
        if is_one and not name.startswith("#"):
            found[name] = re.sub(r"\\(.)", r"\1", value.strip().strip("\"'"))
    return found


class Answer:
    """An answer over HTTP, its body as it came."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Host:
    """This host, as the context describes it."""

    def __init__(self, context: Mapping[str, Any], timeout: float = 15) -> None:
        self.context = context
        self.timeout = timeout
        self._secrets: set[str] | None = None
        self._kept: dict[str, Any] = {}

    def run(self, argv: Sequence[str], stdin: str = "", user: str = "",
            extra: Mapping[str, str] | None = None) -> tuple[int, str, str]:  # fmt: skip
        """Exit code, output and errors. A program that is missing or hangs is a failure."""
        command = ["runuser", "-u", user, "--", *argv] if user else list(argv)
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8", **(extra or {}),
        }  # fmt: skip
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, text=True, errors="replace",
                timeout=self.timeout, env=environment, cwd="/", check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise Failed(f"{argv[0]} is not installed on this host", " ".join(argv)) from None
        except subprocess.TimeoutExpired:
            raise Failed(f"no end after {self.timeout:g} s", " ".join(argv)) from None
        return done.returncode, done.stdout, done.stderr

    def sql(self, query: str, database: str = "") -> list[list[str]]:
        """Rows as text, asked as postgres in a read-only transaction."""
        wanted = database or str(self.context["database_name"])
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            raise Failed("there is no user postgres on this host", shortened(query)) from None
        code, out, err = self.run(
            ["psql", "-XAtq", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-p",
             str(self.context["database_port"]), "-d", wanted, "-f", "-"],
            stdin=query, user="postgres",
            extra={"PGOPTIONS": "-c default_transaction_read_only=on -c statement_timeout=10s",
                   "PGCONNECT_TIMEOUT": "5"},
        )  # fmt: skip
        if code != 0:
            raise Failed(shortened(err or out), shortened(query))
        return [line.split("\t") for line in out.splitlines()]

    def redis(self) -> dict[str, Client]:
        """A connection to each server here, by name, as the user that the role has made for it."""
        path = str(self.context["redis_access"])
        instances = json.loads(self.read(path))
        if not instances:
            raise Failed(f"{path} names no server")
        found = {}
        for number, instance in enumerate(instances):
            place = Address(**instance["place"])
            name = str(instance.get("name") or ("main" if number == 0 else number))
            try:
                client = Client(place, timeout=5)
                client.log_in([Credential(instance.get("user", ""), instance.get("password", ""))])
            except (OSError, ReplyError) as error:
                raise Failed(f"{name} at {place}: {error}", f"connect to {place}") from None
            found[name] = client
        return found

    def http(self, url: str, headers: Mapping[str, str] | None = None,
             method: str = "GET") -> Answer:  # fmt: skip
        """Ask; 'unix:/path|/request' goes to a socket. Redirects are not followed."""
        if url.startswith("unix:"):
            place, _bar, path = url[5:].partition("|")
            connection: http.client.HTTPConnection = _UnixConnection(place, self.timeout)
        else:
            parts = urlsplit(url)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            host = parts.hostname or ""
            if parts.scheme == "https":
                # Who is asked is this site's own proxy; its certificate has a check of its own.
                tls = ssl.create_default_context()
                tls.check_hostname = False
                tls.verify_mode = ssl.CERT_NONE
                connection = http.client.HTTPSConnection(
                    host, parts.port, timeout=self.timeout, context=tls
                )
            else:
                connection = http.client.HTTPConnection(host, parts.port, timeout=self.timeout)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            body = answer.read(4 << 20)
            return Answer(answer.status, dict(answer.getheaders()), body)
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"no answer: {error}", f"{method} {url}") from None
        finally:
            connection.close()

    def read(self, path: str) -> str:
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError as error:
            raise Failed(f"{path}: {error.strerror}", f"read {path}") from None

    def newest(self, pattern: str) -> list[str]:
        """Files that match, the newest first."""
        return sorted(glob.glob(pattern), key=os.path.getmtime, reverse=True)

    def once(self, name: str, make: Any) -> Any:
        """What several entries ask for is asked once."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def environment(self) -> dict[str, str]:
        return environment_of(self.read(str(self.context["environment_file"])))

    def secrets(self) -> set[str]:
        """Every secret that this host knows, so that none gets into evidence."""
        if self._secrets is None:
            found: set[str] = set()
            name = self.context.get("application", "")
            places = ["/etc/golive/*/secrets/*", f"/etc/{name}/credentials/*"]
            places.append("/etc/prometheus/golive-password")
            for path in [one for place in places for one in glob.glob(place)]:
                try:
                    with open(path, encoding="utf-8", errors="replace") as stream:
                        found.add(stream.read().strip())
                except OSError:
                    continue
            try:
                told = json.loads(self.read(str(self.context.get("redis_access", ""))))
                found |= {str(one.get("password", "")) for one in told}
            except (Failed, ValueError, AttributeError):
                pass
            try:
                for name, value in self.environment().items():
                    if _SECRET_NAME.search(name):
                        found.add(value)
                        found |= set(re.findall(r"://[^/\s:@]*:([^/\s@]+)@", value))
            except (Failed, KeyError):
                pass
            self._secrets = {one for one in found if len(one) >= 6}
        return self._secrets

    def clean(self, text: str) -> str:
        """Evidence without a secret in it."""
        for secret in sorted(self.secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        return _USERINFO.sub(r"\1:***@", text)


def need(host: Host, name: str, reason: str) -> Any:
    """A value of the context, without which the entry is about nothing here."""
    value = host.context.get(name)
    if not value:
        raise NotApplicable(reason)
    return value
