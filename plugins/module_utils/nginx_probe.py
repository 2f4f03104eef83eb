# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks web sites on this host for an answer."""

from __future__ import annotations

import http.client
import time
from collections.abc import Sequence
from dataclasses import dataclass

# A 500 can be nginx's own, as for a loop of internal redirects; 502 to 504 tell of the application.
REFUSED = (400, 500)


@dataclass(frozen=True)
class Site:
    """What to ask: a path on a port, by a host name."""

    name: str
    port: int
    host: str
    path: str


@dataclass(frozen=True)
class Answer:
    """What came: a status, or the problem in words."""

    name: str
    status: int
    problem: str


def ask(site: Site, timeout: float) -> Answer:
    """One request, over the loopback address."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=timeout)
    where = f"http://127.0.0.1:{site.port}{site.path} (Host: {site.host})"
    try:
        connection.request("GET", site.path, headers={"Host": site.host, "Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return Answer(site.name, 0, f"{where}: {error or type(error).__name__}")
    finally:
        connection.close()
    if status in REFUSED:
        return Answer(site.name, status, f"{where} has status {status}")
    return Answer(site.name, status, "")


def ask_all(
    sites: Sequence[Site], timeout: float = 15, retries: int = 5, delay: float = 1
) -> list[Answer]:
    """Each site, again after a while where there was no good answer."""
    answers = {site.name: ask(site, timeout) for site in sites}
    for _unused in range(retries):
        if not any(answer.problem for answer in answers.values()):
            break
        time.sleep(delay)
        for site in sites:
            if answers[site.name].problem:
                answers[site.name] = ask(site, timeout)
    return list(answers.values())
