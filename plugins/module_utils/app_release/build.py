# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release and its Python environment, built where nobody sees them before they are whole."""

from __future__ import annotations

# This part runs without Ansible too, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import contextlib
import errno
import hashlib
import json
import os
import posixpath
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .errors import ReleaseError
from .layout import (
    ENVIRONMENT_MARK,
    MARK,
    Layout,
    Release,
    read_text,
    remove,
    utc,
    write_atomically,
)

_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(\S.*)")
# A disk with less room than this is called full when something on it fails.
_FULL = 8_000_000
_FACTS = (
    "import json, platform, sys, sysconfig; "
    "print(json.dumps([sys.version, platform.machine(), sysconfig.get_config_var('SOABI'), "
    "sys.implementation.name]))"
)


@dataclass(frozen=True)
class Recipe:
    """What an environment is made from."""

    python: str
    requirements: str = "requirements.txt"
    extra_packages: Sequence[str] = ()
    arguments: Sequence[str] = ()
    installer: str = "auto"
    wheelhouse: str = ""
    wheelhouse_sha256: str = ""
    needs: str = "gunicorn"


@dataclass(frozen=True)
class Requirements:
    """The texts of the requirements files, and whether they name something of the release."""

    texts: tuple[str, ...]
    local: bool


def _is_local(line: str) -> bool:
    words = shlex.split(line, comments=True)
    if not words:
        return False
    if words[0] in ("-e", "--editable") or words[0].startswith("--editable="):
        return "://" not in line or "file:" in line
    if words[0].startswith("-"):
        return False
    target = line.partition(" @ ")[2].strip() or words[0]
    if target.startswith(("file:", ".", "/")):
        return True
    return "://" not in target and target.partition("[")[0].endswith(
        (".whl", ".tar.gz", ".zip", "/")
    )


def requirements(folder: str, name: str) -> Requirements:
    """A requirements file of the source with all that it includes, each once."""
    seen: dict[str, str] = {}
    local = False
    pending = [name]
    while pending:
        path = posixpath.normpath(pending.pop())
        if path in seen:
            continue
        if path.startswith(("..", "/")):
            raise ReleaseError(f"{name} includes {path}, which is outside of the source.")
        text = read_text(f"{folder}/{path}")
        if text is None:
            raise ReleaseError(f"{name} includes {path}, and the source has no such file.")
        seen[path] = text
        for line in text.replace("\\\n", " ").splitlines():
            line = line.strip()
            include = _INCLUDE.match(line)
            if include:
                target = include[1].split(" #")[0].strip()
                pending.append(posixpath.join(posixpath.dirname(path), target))
            else:
                local = local or _is_local(line)
    return Requirements(tuple(f"{path}\n{seen[path]}" for path in sorted(seen)), local)


def environment_key(
    facts: Sequence[Any], recipe: Recipe, wanted: Requirements, private: str
) -> str:
    """The same for what gives the same environment; `private` keeps it for one release."""
    told = asdict(recipe)
    for name in ("installer", "wheelhouse", "requirements", "needs"):
        del told[name]
    text = json.dumps([list(facts), told, wanted.texts, private], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shared_path(path: str) -> str:
    """A path below the release, as it is linked from shared/."""
    clean = posixpath.normpath(path)
    if posixpath.isabs(clean) or clean.split("/")[0] in ("..", ".", "") or clean == MARK:
        raise ReleaseError(
            f"gunicorn_app_shared has '{path}': it takes paths inside of the release, such as "
            "uploads or var/cache."
        )
    return clean


def link_shared(
    folder: str, release_path: str, shared: str, paths: Sequence[str], uid: int
) -> None:
    """Link each path of the release to its place in shared/, where its first content goes."""
    for path in map(shared_path, paths):
        own, common = f"{folder}/{path}", f"{shared}/{path}"
        missing = []
        parent = posixpath.dirname(common)
        while not os.path.isdir(parent):
            missing.append(parent)
            parent = posixpath.dirname(parent)
        for one in reversed(missing):
            os.mkdir(one, 0o755)
            os.chown(one, uid, uid)
        if not os.path.lexists(common):
            if os.path.isdir(own):
                shutil.copytree(own, common, symlinks=True)
            elif os.path.isfile(own):
                shutil.copy2(own, common)
            else:
                os.mkdir(common, 0o750)
            _own(common, uid)
        with contextlib.suppress(FileNotFoundError):
            remove(own)
        os.makedirs(posixpath.dirname(own), exist_ok=True)
        os.symlink(os.path.relpath(common, posixpath.dirname(f"{release_path}/{path}")), own)


def _own(path: str, uid: int) -> None:
    os.chown(path, uid, uid, follow_symlinks=False)
    for folder, folders, files in os.walk(path):
        for name in [*folders, *files]:
            os.chown(f"{folder}/{name}", uid, uid, follow_symlinks=False)


def _is_full(folder: str) -> bool:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < _FULL or (disk.f_files > 0 and disk.f_favail == 0)


def _run(
    argv: Sequence[str], what: str, folder: str, variables: dict[str, str] | None = None
) -> str:
    try:
        done = subprocess.run(
            list(argv),
            cwd=folder,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise ReleaseError(f"{what}: {argv[0]} can't be run: {error.strerror}.") from error
    if done.returncode:
        said = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-20:])
        # venv says nothing of the cause, so the disk is asked too.
        if re.search(r"No space left on device|os error 28|Errno 28", said) or _is_full(folder):
            raise OSError(errno.ENOSPC, said)
        raise ReleaseError(f"{what} failed, exit code {done.returncode}:\n{said}")
    return done.stdout


def _installer(wanted: str) -> str:
    found = shutil.which("uv") or ""
    if wanted == "uv" and not found:
        raise ReleaseError(
            "gunicorn_app_installer is uv, and uv is not on this host. Install it, or set pip."
        )
    return "" if wanted == "pip" else found


def _install(
    recipe: Recipe, uv: str, environment: str, folder: str, source: Requirements | None
) -> None:
    python = f"{environment}/bin/python"
    if uv:
        _run([uv, "venv", "--quiet", "--python", recipe.python, environment], "uv venv", folder)
        install = [uv, "pip", "install", "--quiet", "--python", python]
        # The host's own certificates count, as they do for pip.
        variables = {"UV_NATIVE_TLS": "true", "UV_PYTHON_DOWNLOADS": "never"}
    else:
        _run([recipe.python, "-m", "venv", environment], f"{recipe.python} -m venv", folder)
        install = [python, "-m", "pip", "install", "--quiet", "--no-input"]
        install.append("--disable-pip-version-check")
        variables = {}
    install += recipe.arguments
    if recipe.wheelhouse:
        install += ["--no-index", "--find-links", recipe.wheelhouse]
    if source is not None and source.texts:
        what = f"The installation of {recipe.requirements}"
        _run([*install, "-r", recipe.requirements], what, folder, variables)
    elif source is not None:
        _run([*install, "."], "The installation of the project itself", folder, variables)
    if recipe.extra_packages:
        what = f"The installation of {', '.join(recipe.extra_packages)}"
        _run([*install, *recipe.extra_packages], what, folder, variables)


def _wanted(recipe: Recipe, folder: str) -> Requirements | None:
    """The requirements file; without one the project itself (no texts), or nothing (None)."""
    if os.path.isfile(f"{folder}/{recipe.requirements}"):
        return requirements(folder, recipe.requirements)
    if any(os.path.isfile(f"{folder}/{name}") for name in ("pyproject.toml", "setup.py")):
        return Requirements((), True)
    if recipe.extra_packages:
        return None
    raise ReleaseError(
        f"The source has no {recipe.requirements}, pyproject.toml or setup.py: set "
        "gunicorn_app_requirements or gunicorn_app_extra_packages."
    )


def _environment(layout: Layout, recipe: Recipe, folder: str, release_id: str) -> tuple[str, bool]:
    """The environment's name, and whether it was there before."""
    uv = _installer(recipe.installer)
    told = _run([recipe.python, "-c", _FACTS], f"gunicorn_app_python {recipe.python}", "/")
    source = _wanted(recipe, folder)
    private = release_id if source is not None and source.local else ""
    key = environment_key(json.loads(told), recipe, source or Requirements((), False), private)
    path = f"{layout.environments}/{key}"
    if os.path.isfile(f"{path}/{ENVIRONMENT_MARK}") and os.path.isfile(f"{path}/bin/python"):
        return key, True
    # Scripts hold their environment's path, so it is made in its place; it counts by its mark.
    remove(path)
    wheelhouse = ""
    try:
        if recipe.wheelhouse:
            wheelhouse = tempfile.mkdtemp(prefix=".wheelhouse-", dir=layout.environments)
            _unpack(recipe.wheelhouse, wheelhouse)
            recipe = Recipe(**{**vars(recipe), "wheelhouse": wheelhouse})
        _install(recipe, uv, path, folder, source)
        if recipe.needs and not os.access(f"{path}/bin/{recipe.needs}", os.X_OK):
            raise ReleaseError(
                f"{recipe.needs} is not in this release: add it to {recipe.requirements} or to "
                "gunicorn_app_extra_packages."
            )
        subprocess.run(["sync", "-f", path], check=False)
        write_atomically(f"{path}/{ENVIRONMENT_MARK}", f"{utc(time.time())}\n")
    except BaseException:
        remove(path)
        raise
    finally:
        if wheelhouse:
            remove(wheelhouse)
    return key, False


def _unpack(archive: str, folder: str) -> None:
    with tarfile.open(archive) as tar:
        # Of the kind that release_archive packs: no links out of it, root's own.
        if sys.version_info >= (3, 12):
            tar.extractall(folder, filter="fully_trusted")
        else:
            tar.extractall(folder)


@dataclass(frozen=True)
class Built:
    changed: bool
    release: str
    environment: str
    environment_reused: bool
    seconds: float


def build(
    layout: Layout,
    release_id: str,
    archive: str,
    recipe: Recipe,
    shared: Sequence[str],
    user: str,
) -> Built:
    """Unpack, install, link, and only then give the folder its name."""
    begun = time.time()
    path = layout.release_path(release_id)
    if layout.is_built(release_id):
        return Built(False, release_id, layout.release(release_id).environment, True, 0)
    uid = pwd.getpwnam(user).pw_uid
    for folder in (layout.releases, layout.environments):
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(folder):
            if name.startswith("."):
                remove(f"{folder}/{name}")
    folder = f"{layout.releases}/.new-{release_id}"
    try:
        os.mkdir(folder, 0o755)
        _unpack(archive, folder)
        key, reused = _environment(layout, recipe, folder, release_id)
        os.symlink(f"../../environments/{key}", f"{folder}/.venv")
        link_shared(folder, path, layout.shared, shared, uid)
        python = f"{layout.environments}/{key}/bin/python"
        subprocess.run(
            [
                *(python, "-m", "compileall", "-q", "-x", r"/\.venv/"),
                *("-s", folder, "-p", path, folder),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        subprocess.run(["sync", "-f", folder], check=False)
        note = Release(release_id, built=time.time(), environment=key)
        text = json.dumps(asdict(note), indent=1, sort_keys=True) + "\n"
        write_atomically(f"{folder}/{MARK}", text)
        if os.path.lexists(path):
            # Without its mark or its interpreter: a killed run's, or one of an older Python.
            _replace_incomplete(layout, release_id, path)
        os.rename(folder, path)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise ReleaseError(f"Building release {release_id}: {error}") from error
        free = shutil.disk_usage(layout.home).free // 1_000_000
        raise ReleaseError(
            f"The disk is full: release {release_id} could not be built in {layout.home} "
            f"({free} MB free now). What was begun is removed, the live release is untouched. "
            f"Make room, or lower gunicorn_app_keep_releases.\n{error.strerror}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            remove(folder)
    return Built(True, release_id, key, reused, round(time.time() - begun, 1))


def _replace_incomplete(layout: Layout, release_id: str, path: str) -> None:
    if release_id in (layout.live_release(), *map(layout.slot_release, ("a", "b"))):
        note = read_text(f"{path}/{MARK}")
        if note is not None:
            raise ReleaseError(
                f"Release {release_id} is in use and its environment is broken. Deploy another "
                "release first (any change of the source makes one)."
            )
    remove(path)
