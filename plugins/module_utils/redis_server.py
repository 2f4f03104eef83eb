# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis or Valkey server: its files, what they would make of it, and what it is now.

What a file means is asked of the program itself: a server of its own on a socket in a temporary
folder reads the new files, and its CONFIG GET is compared with that of the running one.
"""

from __future__ import annotations

# It runs on the host without Ansible, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import contextlib
import glob
import os
import pwd
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from ansible_collections.golive.webstack.plugins.module_utils.config_files import (
    Change,
    Wanted,
    apply,
)

Reply = Union[str, int, None, list[Any]]

_LOCAL = "127.0.0.1"
# What a server on trial has of its own, so that it says nothing of the file. Compared by the
# file's own text, as far as it matters.
_OF_TRIAL = {
    "port", "tls-port", "bind", "unixsocket", "unixsocketperm", "dir", "aclfile", "requirepass",
    "daemonize", "supervised", "logfile", "pidfile", "maxclients", "replicaof", "slaveof",
    "tls-cert-file", "tls-key-file", "tls-ca-cert-file",
}  # fmt: skip
# By text, with the default of a file that doesn't name them.
_BY_TEXT = {
    "port": "6379", "tls-port": "0", "bind": "* -::*", "unixsocket": "", "unixsocketperm": "0",
    "dir": None, "aclfile": "", "requirepass": "", "logfile": "", "maxclients": None,
    "tls-cert-file": "", "tls-key-file": "", "tls-ca-cert-file": "",
}  # fmt: skip
_NEVER_LIVE = {"dir": "a server keeps its folder", "logfile": "a server keeps its log"}
_TOGETHER = {"port", "bind", "tls-port"}
# What a server says of itself when it starts, and the line of a password.
_NOISE = re.compile(r"^\d+:[CM] [^*#]* \* |oO0Oo|Redis version=|Configuration loaded"
                    r"|overcommit|Server initialized|(?i:requirepass)")  # fmt: skip


class RedisServerError(Exception):
    """What is wrong with a server or its files, where, and what to do."""


class ReplyError(Exception):
    """An error that the server answered."""


@dataclass(frozen=True)
class Address:
    """Where a server listens: a socket's path, or a host and port, maybe with TLS."""

    path: str = ""
    host: str = _LOCAL
    port: int = 0
    tls: bool = False
    ca: str = ""
    certificate: str = ""
    key: str = ""

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}{' (TLS)' if self.tls else ''}"


@dataclass(frozen=True)
class Credential:
    """A user's name and password; without a password nobody in particular."""

    user: str = ""
    password: str = field(default="", repr=False)


class Client:
    """One connection. Errors of the server are ReplyError, of the way to it OSError."""

    def __init__(self, address: Address, timeout: float = 30) -> None:
        self.address = address
        if address.path:
            raw = socket.socket(socket.AF_UNIX)
            raw.settimeout(timeout)
            try:
                raw.connect(address.path)
            except BaseException:
                raw.close()
                raise
        else:
            raw = socket.create_connection((address.host, address.port), timeout)
        try:
            self._socket = _with_tls(raw, address) if address.tls else raw
        except BaseException:
            raw.close()
            raise
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()

    def call(self, *words: str) -> Reply:
        encoded = [word.encode() for word in words]
        parts = [b"*%d\r\n" % len(encoded)]
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
        self._socket.sendall(b"".join(parts))
        return self._reply()

    def _line(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server closed the connection")
        return line[:-2]

    def _reply(self) -> Reply:
        line = self._line()
        kind, rest = line[:1], line[1:].decode("utf-8", "replace")
        if kind == b"-":
            raise ReplyError(rest)
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == "-1":
                return None
            size = int(rest)
            content = self._file.read(size + 2)
            if len(content) != size + 2:
                raise ConnectionResetError("the server closed the connection")
            return content[:-2].decode("utf-8", "replace")
        if kind == b"*":
            return [self._reply() for _unused in range(int(rest))] if rest != "-1" else None
        raise ConnectionResetError(f"no Redis answers at {self.address}")

    def log_in(self, credentials: Sequence[Credential]) -> Credential:
        """As the first who is let in and may look at the settings."""
        said = "it takes none of the passwords that are known"
        for credential in credentials:
            try:
                if credential.password:
                    self.call("AUTH", credential.user or "default", credential.password)
                self.call("CONFIG", "GET", "port")
            except ReplyError as error:
                said = str(error)
                continue
            return credential
        raise ReplyError(said)

    def settings(self) -> dict[str, str]:
        told = self.call("CONFIG", "GET", "*")
        if not isinstance(told, list):
            raise ReplyError("CONFIG GET did not answer with a list")
        words = [str(word) for word in told]
        return dict(zip(words[::2], words[1::2]))

    def acl(self) -> list[str]:
        told = self.call("ACL", "LIST")
        lines = sorted(str(line) for line in told) if isinstance(told, list) else []
        if self.info("server").get("redis_version", "").startswith("7.0."):
            # It tells the rules anew from what they come to, in no order.
            lines = [" ".join(sorted(line.split())) for line in lines]
        return lines

    def info(self, *sections: str) -> dict[str, str]:
        told = self.call("INFO", *sections)
        lines = str(told).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line and line[0] != "#")


def _with_tls(raw: socket.socket, address: Address) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=address.ca or None)
    # A server may be reached by an address that its certificate doesn't name; who issued it counts.
    context.check_hostname = False
    if not address.ca:
        context.verify_mode = ssl.CERT_NONE
    if address.certificate:
        context.load_cert_chain(address.certificate, address.key)
    return context.wrap_socket(raw)


def split_words(line: str) -> list[str]:
    """A line of redis.conf as Redis splits it."""
    words: list[str] = []
    at, end = 0, len(line)
    plain = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a"}
    while at < end:
        if line[at].isspace():
            at += 1
            continue
        word, quote = "", ""
        while at < end:
            sign = line[at]
            if quote == '"' and sign == "\\" and at + 1 < end:
                if line[at + 1] == "x" and len(line) > at + 3:
                    with contextlib.suppress(ValueError):
                        word += chr(int(line[at + 2 : at + 4], 16))
                        at += 4
                        continue
                word += plain.get(line[at + 1], line[at + 1])
                at += 2
            elif quote == "'" and sign == "\\" and line[at + 1 : at + 2] == "'":
                word += "'"
                at += 2
            elif quote:
                if sign == quote:
                    quote = ""
                else:
                    word += sign
                at += 1
            elif sign in "'\"" and not word:
                quote = sign
                at += 1
            elif sign.isspace():
                break
            else:
                word += sign
                at += 1
        words.append(word)
    return words


def read_settings(text: str, follow: bool = True) -> dict[str, str]:
    """The last value of each setting, its words with one space between; includes are read."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = split_words(line)
        name = words[0].lower()
        if name == "include":
            for path in sorted(glob.glob(words[1])) if follow and len(words) > 1 else []:
                with contextlib.suppress(OSError), open(path, encoding="utf-8") as handle:
                    found.update(read_settings(handle.read()))
        else:
            found[name] = " ".join(words[1:])
    return found


def addresses(settings: Mapping[str, str]) -> list[Address]:
    """Where a server with such a file is reached from its own host, the plainest way first."""
    found = []
    if settings.get("unixsocket"):
        found.append(Address(path=settings["unixsocket"]))
    hosts = [host.lstrip("-") for host in settings.get("bind", "").split()]
    host = next((h for h in hosts if h in (_LOCAL, "localhost")), "")
    host = host or next((h for h in hosts if h not in ("*", "0.0.0.0", "::", "::*")), _LOCAL)
    port, tls_port = (int(settings.get(key) or 0) for key in ("port", "tls-port"))
    if "port" not in settings:
        port = 6379
    if port:
        found.append(Address(host=host, port=port))
    if tls_port:
        own = {}
        if settings.get("tls-auth-clients", "yes") == "yes":
            own = {"certificate": settings["tls-cert-file"], "key": settings["tls-key-file"]}
        found.append(Address(host=host, port=tls_port, tls=True, **own))
    return found


def differing(
    running: Mapping[str, str], trial: Mapping[str, str], given: Mapping[str, str]
) -> dict[str, str]:
    """Settings of the running server that its file would have otherwise, and the file's values."""
    found = {
        name: value
        for name, value in trial.items()
        if name not in _OF_TRIAL and name in running and running[name] != value
    }
    for name, default in _BY_TEXT.items():
        wanted = given.get(name, default)
        if wanted is None or name not in running:
            continue
        if name == "unixsocketperm":
            same = int(running[name] or "0", 8) == int(wanted or "0", 8)
        elif name == "requirepass" and given.get("aclfile"):
            same = True
        else:
            same = running[name].split() == wanted.split()
        if not same:
            found[name] = wanted
    return found


@dataclass(frozen=True)
class Files:
    """What a server reads. ``conf`` names the paths of ``secrets``; ``acl`` is one of them."""

    path: str
    content: str
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    acl: str = ""
    owner: str = "redis"
    group: str = "redis"


class Trial:
    """A server on a socket of its own that reads files which are not in their places yet."""

    def __init__(self, program: str, files: Files) -> None:
        self.program, self.files = program, files
        self.folder = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Trial:
        account = pwd.getpwnam(self.files.owner)
        self.folder = tempfile.mkdtemp(prefix="golive-redis-")
        try:
            os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._start(account)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def socket(self) -> str:
        return os.path.join(self.folder, "s")

    def _write(self, name: str, text: str, account: pwd.struct_passwd) -> str:
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as handle:
            os.fchmod(handle.fileno(), 0o600)
            os.fchown(handle.fileno(), account.pw_uid, account.pw_gid)
            handle.write(text)
        return path

    def _start(self, account: pwd.struct_passwd) -> None:
        text = self.files.content
        for number, (path, content) in enumerate(self.files.secrets.items()):
            text = text.replace(path, self._write(f"secret{number}.conf", content, account))
        settings = read_settings(text)
        own = {
            "port": "0", "tls-port": "0", "unixsocket": self.socket, "unixsocketperm": "700",
            "daemonize": "no", "supervised": "no", "dir": self.folder, "bind": _LOCAL,
            "logfile": os.path.join(self.folder, "log"), "pidfile": "",
        }  # fmt: skip
        if int(settings.get("tls-port") or 0):
            with socket.socket() as free:
                free.bind((_LOCAL, 0))
                own["tls-port"] = str(free.getsockname()[1])
        text += "".join(f'\n{name} "{value}"' for name, value in own.items()) + "\n"
        conf = self._write("server.conf", text, account)
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        try:
            self._process = subprocess.Popen(
                [self.program, conf],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                **as_user,
            )
        except OSError as error:
            raise RedisServerError(f"{self.program} can't be run: {error.strerror}.") from error
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RedisServerError(
                    f"{self.files.path} was refused and stays as it was. "
                    f"{os.path.basename(self.program)} says: {self._said()}"
                )
            # It listens before it has read its users, and may still refuse them.
            with contextlib.suppress(OSError):
                with Client(Address(path=self.socket)) as client:
                    with contextlib.suppress(ReplyError):
                        client.call("PING")
                    return
            time.sleep(0.02)
        raise RedisServerError(
            f"{self.program} did not start within 30 s with what {self.files.path} is to be. "
            f"Nothing was changed. It says: {self._said()}"
        )

    def _said(self) -> str:
        said = b""
        if self._process is not None and self._process.poll() is not None and self._process.stdout:
            said = self._process.stdout.read()
        with contextlib.suppress(OSError), open(os.path.join(self.folder, "log"), "rb") as log:
            said += log.read()
        names = {"server.conf": self.files.path}
        names.update({f"secret{n}.conf": path for n, path in enumerate(self.files.secrets)})
        text = said.decode("utf-8", "replace")
        for name, path in names.items():
            text = text.replace(os.path.join(self.folder, name), path)
        lines = [line for line in text.splitlines() if line.strip() and not _NOISE.search(line)]
        return " ".join(" ".join(lines[-8:]).split())


@dataclass
class Outcome:
    """What was changed, applied to the running server, and what it takes only by a restart."""

    changes: list[Change] = field(default_factory=list)
    applied: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)
    reached: bool = False

    @property
    def changed(self) -> bool:
        return bool(self.changes or self.applied)


@contextlib.contextmanager
def reach(
    places: Sequence[Address], credentials: Sequence[Credential]
) -> Iterator[tuple[Client | None, str]]:
    """The running server, or None and why not."""
    said = "nothing listens"
    for place in places:
        try:
            client = Client(place)
        except (OSError, ValueError) as error:
            said = f"{place}: {error}"
            continue
        try:
            client.log_in(credentials)
        except (OSError, ReplyError) as error:
            said = f"{place}: {error}"
            client.close()
            continue
        try:
            yield client, ""
        finally:
            client.close()
        return
    yield None, said


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except OSError:
        return ""


def switch_append_only_on(client: Client, timeout: float) -> None:
    """Let the running server write its keys into an append-only file, and wait until it has.

    Only then may the file say so: a server that starts with it and finds no such file is empty.
    """
    client.call("CONFIG", "SET", "appendonly", "yes")
    end = time.monotonic() + timeout
    while True:
        told = client.info("persistence")
        busy = (
            told.get("aof_rewrite_in_progress") == "1" or told.get("aof_rewrite_scheduled") == "1"
        )
        if not busy:
            break
        if time.monotonic() > end:
            raise RedisServerError(
                f"The append-only file was not written within {timeout:.0f} s; the server goes on "
                "with it, and its settings file is as it was. Look at its log, and run again."
            )
        time.sleep(0.1)
    if told.get("aof_last_bgrewrite_status") != "ok" or told.get("aof_enabled") != "1":
        client.call("CONFIG", "SET", "appendonly", "no")
        raise RedisServerError(
            "The server could not write its append-only file, so its settings file stays as it "
            "was. Mostly the disk is full or memory too short for a fork: look at its log."
        )


def _set(client: Client, wanted: Mapping[str, str], outcome: Outcome) -> None:
    """Each setting at once where the server takes it, else a reason for a restart."""
    tls = {name for name in wanted if name.startswith("tls-")}
    joint = (tls | _TOGETHER) & set(wanted) if tls else set()
    groups = [[name] for name in sorted(set(wanted) - joint - _TOGETHER)]
    groups += [sorted(joint)] if joint else [[name] for name in sorted(set(wanted) & _TOGETHER)]
    for names in groups:
        if set(names) & set(_NEVER_LIVE):
            outcome.restart += [f"{name}: {_NEVER_LIVE[name]}" for name in names]
            continue
        words = [word for name in names for word in (name, wanted[name])]
        try:
            client.call("CONFIG", "SET", *words)
        except ReplyError as error:
            said = str(error) if "requirepass" not in names else "refused"
            outcome.restart.append(f"{', '.join(names)}: {said}")
        else:
            outcome.applied += names


def _presented(address: Address) -> bytes:
    """The certificate that a server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((address.host, address.port), 10) as raw:
        with context.wrap_socket(raw) as secure:
            return secure.getpeercert(binary_form=True) or b""


def _first_certificate(path: str) -> bytes:
    text = _text(path)
    end = "-----END CERTIFICATE-----"
    begin = text.find("-----BEGIN CERTIFICATE-----")
    if begin < 0 or end not in text:
        raise RedisServerError(f"{path} holds no certificate in PEM form.")
    return ssl.PEM_cert_to_DER_cert(text[begin : text.index(end) + len(end)])


def _renew_tls(client: Client, given: Mapping[str, str], check: bool, outcome: Outcome) -> None:
    """Read the certificates again: a renewed one has the same name."""
    names = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")
    old = False
    for address in addresses(given):
        if address.tls:
            with contextlib.suppress(OSError):
                old = _presented(address) != _first_certificate(given["tls-cert-file"])
    if not check:
        words = [word for name in names if given.get(name) for word in (name, given[name])]
        try:
            client.call("CONFIG", "SET", *words)
        except ReplyError as error:
            raise RedisServerError(
                f"The server refuses the renewed {given['tls-cert-file']} and goes on with the old "
                f"one: {error}. Look whether its key, {given['tls-key-file']}, belongs to it."
            ) from error
    if old:
        outcome.applied.append("certificate")


def manage(
    files: Files,
    copies: Sequence[Wanted],
    program: str,
    credentials: Sequence[Credential],
    check: bool = False,
    timeout: float = 600,
) -> Outcome:
    """Bring files and running server to what ``files`` say. Starts and restarts nothing."""
    outcome = Outcome()
    wanted = [Wanted(path=files.path, content=files.content, owner=files.owner, group=files.group,
                     mode="0640")]  # fmt: skip
    secret = [Wanted(path=path, content=content, owner=files.owner, group=files.group, mode="0640",
                     secret=True) for path, content in files.secrets.items()]  # fmt: skip
    before = read_settings(_text(files.path))
    given = read_settings(files.content, follow=False)
    for content in files.secrets.values():
        given.update({k: v for k, v in read_settings(content, follow=False).items() if k != "user"})
    outcome.changes += apply(list(copies), check)
    if not os.path.exists(program):
        outcome.changes += apply([*secret, *wanted], check)
        return outcome
    tls_ready = all(os.path.exists(given[name]) for name in given if name.endswith("cert-file"))
    if check and not tls_ready:
        outcome.changes += apply([*secret, *wanted], check)
        return outcome
    known = [*credentials, Credential("", before.get("requirepass", "")), Credential()]
    with Trial(program, files) as trial, Client(Address(path=trial.socket)) as asked:
        try:
            asked.log_in(known)
            trial_settings, trial_acl = asked.settings(), asked.acl()
        except ReplyError:
            # CONFIG has another name or is off: it started, and that is all that can be said.
            trial_settings, trial_acl = {}, []
    places = list(dict.fromkeys([*addresses(before), *addresses(given)])) if before else []
    with reach(places, known) as (client, said):
        if client is None or not trial_settings:
            outcome.changes += apply([*secret, *wanted], check)
            if places and trial_settings:
                outcome.restart.append(f"the server can't be asked ({said})")
            return outcome
        outcome.reached = True
        running = client.settings()
        differs = differing(running, trial_settings, given)
        if differs.get("appendonly") == "yes" and not check:
            switch_append_only_on(client, timeout)
            outcome.applied.append("appendonly")
            del differs["appendonly"]
        outcome.changes += apply([*secret, *wanted], check)
        if check:
            outcome.applied += sorted(differs)
        elif differs:
            _set(client, differs, outcome)
        if given.get("tls-cert-file") and not set(differs) & {"tls-port", "tls-cert-file"}:
            _renew_tls(client, given, check, outcome)
        if files.acl and client.acl() != trial_acl:
            if running.get("aclfile") != files.acl:
                outcome.restart.append("its users stand in a file of their own from now on")
            elif check:
                outcome.applied.append("users")
            else:
                with contextlib.suppress(ConnectionResetError):
                    client.call("ACL", "LOAD")
                outcome.applied.append("users")
    return outcome


@dataclass(frozen=True)
class Probe:
    """A server to look at, who asks, and who else must be let in."""

    name: str
    places: tuple[Address, ...]
    credential: Credential
    users: tuple[Credential, ...] = ()


def _huge_pages(pid: str) -> bool:
    """Whether the kernel gives the process huge pages that it didn't ask for."""
    always = "[always]" in _text("/sys/kernel/mm/transparent_hugepage/enabled")
    return always and "\nTHP_enabled:\t1\n" in _text(f"/proc/{pid}/status")


def probe(wanted: Probe, timeout: float) -> dict[str, Any]:
    """Write, read and delete a value at each place; the first place's INFO is the answer."""
    answer: dict[str, Any] = {}
    end = time.monotonic() + timeout
    for place in wanted.places:
        while True:
            try:
                told = _probe_one(place, wanted)
                break
            except (OSError, ReplyError) as error:
                final = isinstance(error, ReplyError) and not str(error).startswith("LOADING")
                if final or time.monotonic() > end:
                    raise RedisServerError(
                        f"The instance {wanted.name} at {place} does not work: {error}"
                    ) from error
                time.sleep(0.3)
        answer = answer or told
    answer["huge_pages"] = _huge_pages(answer.get("process_id", ""))
    return {"name": wanted.name, "reached": [str(place) for place in wanted.places], **answer}


def _probe_one(place: Address, wanted: Probe) -> dict[str, Any]:
    with Client(place, 10) as client:
        if wanted.credential.password:
            client.call("AUTH", wanted.credential.user or "default", wanted.credential.password)
        client.call("SET", "golive:probe", "kept", "EX", "60")
        if client.call("GET", "golive:probe") != "kept":
            raise ReplyError("what was written was not read back")
        client.call("DEL", "golive:probe")
        told: dict[str, Any] = dict(client.info())
        for user in wanted.users:
            try:
                client.call("AUTH", user.user, user.password)
            except ReplyError as error:
                raise ReplyError(f"the user {user.user} is not let in: {error}") from error
    return told
