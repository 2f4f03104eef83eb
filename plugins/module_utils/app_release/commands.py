# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of the user, run as the application's user with the application's environment."""

from __future__ import annotations

# This part runs without Ansible too, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import systemd
from .errors import ReleaseError
from .layout import Layout

# They may need more than the application has: the role that owns the tables.
ABOUT_THE_SCHEMA = ("migrate", "migrate-plan", "schema")


@dataclass(frozen=True)
class Done:
    code: int
    output: str
    error: str

    @property
    def told(self) -> str:
        return "\n".join(part for part in (self.output.strip(), self.error.strip()) if part)


def escaped(command: str) -> str:
    """systemd replaces variables itself, without regard to quotes: they are the shell's."""
    return command.replace("$", "$$")


def run(
    layout: Layout,
    suffix: str,
    user: str,
    release_path: str,
    environment_file: str,
    command: str,
    timeout: float = 0,
    variables: Mapping[str, str] | None = None,
    credentials: Sequence[str] = (),
) -> Done:
    unit = f"{layout.name}-{suffix}"
    if systemd.state(f"{unit}.service").runs:
        raise ReleaseError(
            f"{unit}.service of an earlier run is still at work. See `systemctl status {unit}`, "
            f"wait for it or stop it with `systemctl stop {unit}`, and start again."
        )
    path = f"{release_path}/.venv/bin:/usr/local/bin:/usr/bin:/bin"
    argv = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={unit}"]
    argv += [f"--property=User={user}", f"--property=WorkingDirectory={release_path}"]
    argv += [f"--property=EnvironmentFile={environment_file}", f"--setenv=PATH={path}"]
    if suffix in ABOUT_THE_SCHEMA:
        argv.append(f"--property=EnvironmentFile=-{layout.etc}/environment.migrate")
    argv += [f"--setenv={name}={value}" for name, value in (variables or {}).items()]
    argv += [
        f"--property=LoadCredential={name}:{layout.etc}/credentials/{name}" for name in credentials
    ]
    if timeout:
        argv.append(f"--property=RuntimeMaxSec={timeout:g}")
    done = subprocess.run(
        [*argv, "/bin/sh", "-c", escaped(command)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
