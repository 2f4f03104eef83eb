# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each job did last, kept as JSON, and told to Prometheus by node_exporter's text files."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

from .common import Settings, now, read_json, write_json

PROM = "golive_backup.prom"
_FIGURES = {
    "last_success": "golive_backup_last_success_timestamp_seconds",
    "success": "golive_backup_last_run_success",
    "seconds": "golive_backup_duration_seconds",
    "bytes": "golive_backup_size_bytes",
    "last_run": "golive_backup_last_run_timestamp_seconds",
}


def _path(settings: Settings, kind: str, name: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9_.-]", lambda found: f"%{ord(found[0]):x}", name)
    return os.path.join(settings.state, "jobs", f"{kind}-{safe}.json")


def state(settings: Settings, kind: str, name: str) -> dict[str, Any]:
    """What is known of a job; an empty one never ran."""
    return dict(read_json(_path(settings, kind, name)) or {})


def states(settings: Settings) -> list[dict[str, Any]]:
    folder = os.path.join(settings.state, "jobs")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    found = [read_json(os.path.join(folder, name)) for name in names if name.endswith(".json")]
    return [one for one in found if one]


def keep(settings: Settings, kind: str, name: str, **figures: Any) -> None:
    """Change some figures of a job and leave the others."""
    os.makedirs(os.path.join(settings.state, "jobs"), mode=0o750, exist_ok=True)
    told = {"kind": kind, "name": name, **state(settings, kind, name), **figures}
    write_json(_path(settings, kind, name), told)


@contextlib.contextmanager
def job(settings: Settings, kind: str, name: str) -> Iterator[dict[str, Any]]:
    """Measure a run; it succeeds if nothing is raised. The caller adds figures of its own."""
    started, clock = now(), time.monotonic()
    figures: dict[str, Any] = {}
    try:
        yield figures
    except BaseException as error:
        keep(
            settings, kind, name, **figures, last_run=started.timestamp(), success=0,
            seconds=round(time.monotonic() - clock, 3), error=str(error) or type(error).__name__,
        )  # fmt: skip
        raise
    keep(
        settings, kind, name, last_run=started.timestamp(), success=1, error="",
        last_success=now().timestamp(),
        **{"seconds": round(time.monotonic() - clock, 3), **figures},
    )  # fmt: skip


def _label(text: Any) -> str:
    return str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def sample(metric: str, value: float, **labels: Any) -> str:
    inner = ",".join(f'{key}="{_label(value)}"' for key, value in labels.items())
    shown = repr(float(value)).removesuffix(".0") if abs(value) < 1e15 else repr(value)
    return f"{metric}{{{inner}}} {shown}" if inner else f"{metric} {shown}"


def render(jobs: list[dict[str, Any]], extra: Mapping[str, Any]) -> str:
    lines = []
    for key, metric in _FIGURES.items():
        lines += [
            sample(metric, one[key], kind=one["kind"], name=one["name"])
            for one in jobs
            if one.get(key) is not None
        ]
    for one in jobs:
        for figure in ("rto", "rpo"):
            if one["kind"] == "drill" and one.get(figure) is not None:
                lines.append(
                    sample(f"golive_restore_drill_{figure}_seconds", one[figure], name=one["name"])
                )
    for metric, value in sorted(extra.items()):
        if isinstance(value, Mapping):
            lines += [sample(metric, one, name=name) for name, one in sorted(value.items())]
        else:
            lines.append(sample(metric, value))
    return "\n".join(lines) + "\n"


def publish(settings: Settings) -> None:
    """Put all figures into node_exporter's folder; only root may write there."""
    extra = read_json(os.path.join(settings.state, "check.json")) or {}
    text = render(states(settings), extra.get("metrics", {}))
    os.makedirs(settings.metrics_folder, mode=0o755, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f".{PROM}.", dir=settings.metrics_folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(partial, 0o644)
        os.replace(partial, os.path.join(settings.metrics_folder, PROM))
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise
