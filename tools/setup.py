# SPDX-License-Identifier: GPL-3.0-or-later
"""bin/setup: what bin/demo and bin/test prepare, on its own."""

from __future__ import annotations

from tools.collections import unpack_collections
from tools.common import ToolError, note, say
from tools.engine import docker_engine
from tools.image import SUITES, ensure_image, tag
from tools.python_env import control_environment

USAGE = """\
Usage: bin/setup [PART...]

Prepares what bin/demo and bin/test need, and changes nothing that is there already.

  env          the virtual environment .venv/<version> and the community collections
  engine       a Docker engine that answers
  images       the target images of both Debian releases
  IMAGE        one image: debian12, debian13, debian12-cached, debian13-cached

Without a part: env, engine and images.

Environment:
  GOLIVE_PYTHON=3.11         choose another Python than the newest
  GOLIVE_DEBIAN_MIRROR=URL   the Debian mirror to make images from
"""


def main(arguments: list[str]) -> int:
    if set(arguments) & {"-h", "--help", "help"}:
        print(USAGE, end="")
        return 0
    images = [*SUITES, *(f"{suite}-cached" for suite in SUITES)]
    for argument in arguments:
        if argument not in ("env", "engine", "images", *images):
            raise ToolError(f"bin/setup knows no part '{argument}'. 'bin/setup --help' lists them.")
    parts = arguments or ["env", "engine", "images"]
    if "env" in parts:
        venv = control_environment()
        unpack_collections(venv)
        say(f"Environment: {venv}")
    wanted = [name for name in images if name in parts or "images" in parts]
    if "engine" in parts or wanted:
        docker = docker_engine("test")
        assert docker is not None
        say(f"Docker engine {docker.run('version', '--format', '{{.Server.Version}}')} answers")
        for name in wanted:
            ensure_image(docker, name)
            note(tag(name))
    return 0
