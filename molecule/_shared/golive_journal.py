# SPDX-License-Identifier: GPL-3.0-or-later
"""pytest plugin of the Molecule scenarios: a failed test shows the service's journal.

A test or a module names its units: `pytestmark = pytest.mark.units("nginx.service")`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

LINES = 40


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "units(*names): systemd units whose journal is shown when the test fails"
    )


def _output(host: Any, command: str, *arguments: str) -> str:
    try:
        done = host.run(command, *arguments)
    except Exception as error:  # the host may be what broke
        return f"(no answer: {error})"
    return (str(done.stdout) + str(done.stderr)).strip()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    host = getattr(item, "funcargs", {}).get("host")
    if report.failed and host is not None:
        failed = _output(host, "systemctl --failed --plain --no-legend --no-pager")
        report.sections.append(("systemctl --failed", failed or "none"))
        units = [name for mark in item.iter_markers("units") for name in mark.args]
        for unit in dict.fromkeys(units):
            journal = _output(host, "journalctl --no-pager -u %s -n %s", unit, str(LINES))
            report.sections.append((f"journal of {unit}", journal))
    return report
