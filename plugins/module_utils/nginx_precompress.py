# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed files beside the files of a web site, for nginx's gzip_static and brotli_static."""

from __future__ import annotations

# This part runs without Ansible too, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import contextlib
import gzip
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SUFFIXES = (".css", ".html", ".js", ".json", ".map", ".mjs", ".svg", ".txt", ".wasm", ".xml")


class PrecompressError(Exception):
    """A file that can't be compressed; the text names it and the cause."""


@dataclass(frozen=True)
class Job:
    """A file to compress, and where to."""

    source: str
    target: str
    method: str


def _sources(folder: str, suffixes: Sequence[str], minimum: int) -> Iterator[str]:
    for place, _unused, names in os.walk(folder, onerror=_raise):
        for name in sorted(names):
            path = os.path.join(place, name)
            if name.endswith(tuple(suffixes)) and not os.path.islink(path):
                if os.stat(path).st_size >= minimum:
                    yield path


def _raise(error: OSError) -> None:
    raise PrecompressError(f"{error.filename}: {error.strerror}.") from error


def jobs(folder: str, methods: Sequence[str], suffixes: Sequence[str], minimum: int) -> list[Job]:
    """What is not compressed yet, or is in an older state.

    A compressed file has its source's time of change to the second; nginx itself doesn't compare
    them, so one that was left behind would be served for ever.
    """
    found = []
    for source in _sources(folder, suffixes, minimum):
        changed = int(os.stat(source).st_mtime)
        for method in methods:
            target = source + {"gzip": ".gz", "brotli": ".br"}[method]
            try:
                if int(os.stat(target).st_mtime) == changed:
                    continue
            except FileNotFoundError:
                pass
            found.append(Job(source, target, method))
    return found


def _compress(job: Job, target: str) -> None:
    if job.method == "gzip":
        with open(job.source, "rb") as read, open(target, "wb") as raw:
            with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as to:
                shutil.copyfileobj(read, to)
        return
    done = subprocess.run(
        ["brotli", "--best", "--force", f"--output={target}", "--", job.source],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PrecompressError(f"{job.source}: brotli says: {done.stderr.strip()}")


def run(job: Job) -> None:
    """Write the compressed file, with the source's owner, mode and time, and rename it in."""
    status = os.stat(job.source)
    folder, name = os.path.split(job.target)
    handle, candidate = tempfile.mkstemp(prefix=f".{name}.", suffix=".golive", dir=folder)
    os.close(handle)
    try:
        _compress(job, candidate)
        os.chmod(candidate, status.st_mode & 0o777)
        with contextlib.suppress(PermissionError):
            os.chown(candidate, status.st_uid, status.st_gid)
        os.utime(candidate, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.replace(candidate, job.target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(candidate)
        raise
