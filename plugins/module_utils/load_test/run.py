# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the program that sends the load, and passes on how far it has come."""

from __future__ import annotations

# This part runs without Ansible too, so there is no module to run commands or to log.
# pylint: disable=ansible-bad-function
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import Any

# What a request in flight may take after the last one was sent.
_PATIENCE = 120
_DEFAULTS: dict[str, Any] = {
    "host": "", "verify": True, "users": 5, "spawn_rate": 100, "requests": 0, "seconds": 600,
    "think": [0, 0], "rate": 0, "timeout": 30, "warm_up": 0, "endpoints": [{"path": "/"}],
    "flow": [],
}  # fmt: skip
# What a step that is a command may have, and how long it is tried again if it does not say.
_COMMAND = {"name", "command", "capture", "wait"}
_WAIT = 10
# What a kept run tells of a step: not what was sent, as a password may be in it.
_TOLD = ("name", "method", "path", "weight", "status", "wait")


class LoadTestError(Exception):
    """What can't work in a profile, or what went wrong with a run."""


def complete(profile: Mapping[str, Any]) -> dict[str, Any]:
    """A profile with its defaults; what can't work is an error."""
    unknown = set(profile) - set(_DEFAULTS) - {"base_url", "name"}
    if unknown:
        raise LoadTestError(f"A profile has no {', '.join(sorted(unknown))}.")
    made = {**_DEFAULTS, **profile}
    for name, least in (("users", 1), ("spawn_rate", 1), ("seconds", 1), ("requests", 0),
                        ("rate", 0), ("timeout", 1), ("warm_up", 0)):  # fmt: skip
        try:
            made[name] = int(made[name])
        except (TypeError, ValueError):
            raise LoadTestError(f"{name} is {made[name]!r}; it takes a whole number.") from None
        if made[name] < least:
            raise LoadTestError(f"{name} is {made[name]}; it is at least {least}.")
    think = [float(one) for one in made["think"]]
    if len(think) != 2 or not 0 <= think[0] <= think[1]:
        raise LoadTestError(f"think is {made['think']}; it takes the least and the most seconds.")
    if not made["endpoints"]:
        raise LoadTestError("A profile needs at least one endpoint.")
    for where, number, step in [
        *(("endpoint", number, one) for number, one in enumerate(made["endpoints"], 1)),
        *(("step of the flow", number, one) for number, one in enumerate(made["flow"], 1)),
    ]:
        fault = _fault(step, where)
        if fault:
            named = next((f" ({step[name]})" for name in ("name", "path") if step.get(name)), "")
            raise LoadTestError(f"{where.capitalize()}, number {number}{named}: it {fault}")
    flow = [
        {"name": one["command"][0], **one, "wait": int(one.get("wait", _WAIT))}
        if "command" in one
        else one
        for one in made["flow"]
    ]
    return {**made, "think": think, "flow": flow}


def _fault(step: Mapping[str, Any], where: str) -> str:
    """Why a step can't work, or nothing. No value of it is told, as it may be a secret."""
    if "command" in step and where == "endpoint":
        return "has a command, which only a step of the flow can have."
    if "command" in step and "path" in step:
        return "has both a path and a command; it takes one of them."
    if "command" in step:
        command = step["command"]
        if not isinstance(command, list) or not command or not all(
            isinstance(one, str) and one for one in command
        ):  # fmt: skip
            return "has a command that is no list of texts: the program and each of its arguments."
        unknown = sorted(set(step) - _COMMAND)
        if unknown:
            return f"has a command and so no {', '.join(unknown)}."
        try:
            bad = int(step.get("wait", _WAIT)) < 0
        except (TypeError, ValueError):
            bad = True
        if bad:
            return f"waits for {step['wait']!r} seconds; it takes a whole number from 0."
    elif not str(step.get("path", "")).startswith("/"):
        return (
            "has no path that begins with a slash."
            if where == "endpoint" or "path" in step
            else "has neither a path nor a command; it takes one of them."
        )
    elif "wait" in step:
        return "waits, which only a command can."
    for name, told in (step.get("capture") or {}).items():
        if not str(told).startswith("regex:"):
            continue
        try:
            groups = re.compile(told[len("regex:") :]).groups
        except re.error as error:
            return f"captures {name} by an expression that can't be read: {error}."
        if not groups:
            return f"captures {name} by an expression without a group in parentheses."
    return ""


def told(profile: Mapping[str, Any]) -> dict[str, Any]:
    """A profile as it may be kept and shown: without what is sent, and without arguments."""
    made = dict(profile)
    for part in ("endpoints", "flow"):
        made[part] = [
            {
                **{name: one[name] for name in _TOLD if name in one},
                **({"command": one["command"][:1]} if "command" in one else {}),
            }
            for one in profile.get(part) or []
        ]
    return made


def run(
    python: str, program: str, profile: Mapping[str, Any], progress_file: str = ""
) -> dict[str, Any]:
    """Send the load; what the program wrote."""
    with tempfile.TemporaryDirectory(prefix="golive-load-") as folder:
        given, result = os.path.join(folder, "profile.json"), os.path.join(folder, "result.json")
        with open(given, "w", encoding="utf-8") as stream:
            json.dump(profile, stream)
        with open(os.path.join(folder, "log"), "w+", encoding="utf-8") as log:
            with subprocess.Popen(
                [python, program, given, result],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
            ) as process:
                end = time.monotonic() + profile["seconds"] + _PATIENCE
                while process.poll() is None:
                    time.sleep(0.2)
                    if progress_file:
                        _pass_on(result, progress_file, profile)
                    if time.monotonic() > end:
                        process.kill()
                        raise LoadTestError(f"The load did not end {_PATIENCE} s after its time.")
            log.seek(0)
            said = log.read()[-2000:]
        if process.returncode != 0:
            raise LoadTestError(f"locust ended with {process.returncode}: {said}")
        told = _read(result)
        if "requests" not in told:
            raise LoadTestError(f"locust wrote no result: {said}")
        return told


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            return dict(json.load(stream))
    except (OSError, ValueError):
        return {}


def _pass_on(result: str, progress_file: str, profile: Mapping[str, Any]) -> None:
    told = _read(result)
    if not told or "requests" in told:
        return
    done, seconds = told["done"], max(told["seconds"], 0.1)
    figures = {
        "phase": "load", "unit": "requests",
        "note": f"p95 {told['recent_p95'] or 0:.0f} ms, {told['failed']} failed",
        "rows_done": done, "rows_total": profile["requests"],
        "seconds": seconds, "rows_per_second": done / seconds,
    }  # fmt: skip
    partial = f"{progress_file}.partial"
    with open(partial, "w", encoding="utf-8") as stream:
        json.dump(figures, stream)
    os.replace(partial, progress_file)
