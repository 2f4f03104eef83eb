# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives, wheels and requirements of an index as a folder, as a release is made from one."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shutil
import stat
import tarfile
import zipfile

from .errors import ReleaseError

ARCHIVES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")
_PINNED = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._ -]+\])?\s*===?\s*[A-Za-z0-9.!+_-]+"
)


def sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check(path: str, wanted: str) -> None:
    found = sha256(path)
    if wanted and found != re.sub(r"^sha256:", "", wanted.strip().lower()):
        raise ReleaseError(
            f"{os.path.basename(path)} has the SHA-256 {found}, and gunicorn_app_source_checksum "
            f"is {wanted}. It is another file than meant, or was damaged on its way."
        )


def _clean(archive: str, name: str) -> str:
    clean = posixpath.normpath(name)
    if posixpath.isabs(clean) or clean.split("/")[0] == "..":
        raise ReleaseError(f"{archive} has the path '{name}', which leads out of the release.")
    return "" if clean == "." else clean


def _from_tar(path: str, folder: str) -> None:
    with tarfile.open(path) as tar:
        for member in tar:
            name = _clean(path, member.name)
            target = f"{folder}/{name}"
            if not name:
                continue
            _inside(path, folder, target)
            if member.isdir():
                os.makedirs(target, exist_ok=True)
            elif member.issym():
                os.makedirs(posixpath.dirname(target), exist_ok=True)
                _clean(path, posixpath.join(posixpath.dirname(name), member.linkname))
                os.symlink(member.linkname, target)
            elif member.isfile() or member.islnk():
                source = tar.extractfile(member)
                if source is None:
                    raise ReleaseError(f"{path} has '{member.name}', a link to nothing in it.")
                os.makedirs(posixpath.dirname(target), exist_ok=True)
                with open(target, "wb") as stream:
                    shutil.copyfileobj(source, stream)
                os.chmod(target, 0o755 if member.mode & 0o100 else 0o644)
            else:
                raise ReleaseError(f"{path} has '{member.name}', which is no file, folder or link.")


def _from_zip(path: str, folder: str) -> None:
    with zipfile.ZipFile(path) as packed:
        for member in packed.infolist():
            name = _clean(path, member.filename)
            target = f"{folder}/{name}"
            mode = member.external_attr >> 16
            if not name:
                continue
            _inside(path, folder, target)
            if member.is_dir():
                os.makedirs(target, exist_ok=True)
                continue
            os.makedirs(posixpath.dirname(target), exist_ok=True)
            if stat.S_ISLNK(mode):
                link = packed.read(member).decode()
                _clean(path, posixpath.join(posixpath.dirname(name), link))
                os.symlink(link, target)
                continue
            with packed.open(member) as source, open(target, "wb") as stream:
                shutil.copyfileobj(source, stream)
            os.chmod(target, 0o755 if mode & 0o100 else 0o644)


def _inside(path: str, folder: str, target: str) -> None:
    """No link that came before leads a later path out of the folder."""
    parent = os.path.realpath(posixpath.dirname(target))
    if not (parent + "/").startswith(os.path.realpath(folder) + "/"):
        raise ReleaseError(f"{path} has a link that leads out of the release.")


def unpack(path: str, folder: str) -> str:
    """The archive's content; where all of it is in one folder, that folder's."""
    os.makedirs(folder)
    try:
        if zipfile.is_zipfile(path):
            _from_zip(path, folder)
        elif tarfile.is_tarfile(path):
            _from_tar(path, folder)
        else:
            raise ReleaseError(f"{path} is neither a tar archive nor a zip file.")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise ReleaseError(f"{path} is damaged: {error}.") from error
    names = os.listdir(folder)
    if len(names) == 1 and os.path.isdir(f"{folder}/{names[0]}"):
        return f"{folder}/{names[0]}"
    return folder


def wheel(path: str, folder: str, requirements: str) -> str:
    os.makedirs(folder)
    shutil.copy(path, folder)
    _require(folder, requirements, f"./{os.path.basename(path)}")
    return folder


def index(requirement: str, folder: str, requirements: str) -> str:
    if not _PINNED.fullmatch(requirement.strip()):
        raise ReleaseError(
            f"gunicorn_app_source is '{requirement}'; of an index it takes one version, such as "
            "shop==1.2, so that the same setting is always the same release."
        )
    os.makedirs(folder)
    _require(folder, requirements, requirement.strip())
    return folder


def _require(folder: str, name: str, line: str) -> None:
    os.makedirs(posixpath.dirname(f"{folder}/{name}"), exist_ok=True)
    with open(f"{folder}/{name}", "w", encoding="utf-8") as stream:
        stream.write(f"{line}\n")
