# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what Python makes of Ansible's modules, in the test hosts of the scenarios.

A task's module comes as an archive of sources, which Python compiles anew each time: a third of
what a short task costs the host. Here the code of a source that was seen before is taken from a
folder. bin/demo's host is without it.
"""

# Every Python of the host loads this first, so that it asks for no module that isn't there anyway.
import _imp
import marshal
import os
import sys
import zipimport

FOLDER = "/var/cache/golive-compiled"
_compile = zipimport._compile_source  # type: ignore[attr-defined]


def compile_source(path: str, source: bytes) -> object:
    """The code of a file in an archive."""
    if "/ansible_" not in path:
        return _compile(path, source)
    name = f"{sys.implementation.cache_tag}-{len(source)}-{_imp.source_hash(0, source).hex()}"
    kept = f"{FOLDER}/{name}"
    try:
        with open(kept, "rb") as stream:
            return marshal.loads(stream.read())
    except (OSError, ValueError, EOFError, TypeError):
        code = _compile(path, source)
    try:
        with open(f"{kept}.{os.getpid()}", "wb") as new:
            new.write(marshal.dumps(code))
        os.replace(new.name, kept)
    except OSError:
        # Only root may write there, and a full disk is no reason to fail.
        pass
    return code


zipimport._compile_source = compile_source  # type: ignore[attr-defined]
