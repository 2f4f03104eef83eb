# Copyright (c) golive.webstack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs entries on this host. ``python -m ...checklist.runner FILE [ID ...]`` does it by hand."""

from __future__ import annotations

# It runs without a module too.
# pylint: disable=ansible-bad-function
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .checks import CHECKS
from .host import Host, shortened
from .model import (
    FAILED,
    NOT_APPLICABLE,
    PEOPLE,
    PROVED,
    Failed,
    Found,
    NotApplicable,
    Result,
    Undecided,
    resolved,
)


def _state(entry: Mapping[str, Any], host: Host) -> tuple[str, str, list[Found]]:
    for name, reason in dict(entry.get("applies", {})).items():
        if not host.context.get(name):
            return NOT_APPLICABLE, str(reason), []
    if not entry.get("checks"):
        return PEOPLE, str(entry["person"]), []
    found: list[Found] = []
    for check in entry["checks"]:
        try:
            params = resolved({key: value for key, value in check.items() if key != "check"},
                              host.context)  # fmt: skip
            found += CHECKS[check["check"]](host, params)
        except NotApplicable as nothing:
            return NOT_APPLICABLE, str(nothing), found
        except Undecided as nothing:
            if entry.get("person"):
                return PEOPLE, f"{nothing}. {entry['person']}", found
            found.append(Found(check["check"], "", str(nothing)))
        except Failed as error:
            found.append(Found(error.asked or check["check"], "", str(error)))
        except Exception as error:
            # Whatever it is that can't be read or understood, it is not proved.
            found.append(Found(check["check"], "", f"{type(error).__name__}: {error}"))
    problems = [one.problem for one in found if one.problem]
    if problems:
        return FAILED, "; ".join(problems), found
    if not found:
        return FAILED, "nothing was found to look at", found
    return PROVED, "", found


def run(entries: Sequence[Mapping[str, Any]], context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A result for each entry, whatever happens."""
    host = Host(context)
    results = []
    for entry in entries:
        began = time.time()
        state, reason, found = _state(entry, host)
        evidence = [
            {"asked": host.clean(one.asked), "said": host.clean(shortened(one.said))}
            for one in found
        ]
        results.append(
            Result(
                id=entry["id"], state=state, reason=host.clean(shortened(reason)),
                evidence=evidence, seconds=round(time.time() - began, 3),
                when=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            ).told()
        )  # fmt: skip
    return results


def main(words: Sequence[str]) -> int:
    with open(words[0], encoding="utf-8") as stream:
        given = json.load(stream)
    wanted = set(words[1:])
    entries = [one for one in given["entries"] if not wanted or one["id"] in wanted]
    json.dump(run(entries, given["context"]), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
