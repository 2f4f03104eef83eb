# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the tables of docs/checklist.md from playbooks/vars/checklist.yml and from the checks.

``python -m tools.checklist_docs`` writes, ``--check`` exits with 1 where the page is out of step.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "checklist.md"
CATALOGUE = ROOT / "playbooks" / "vars" / "checklist.yml"
BEGIN = "<!-- {}: made by tools/checklist_docs.py -->"
END = "<!-- end of {} -->"


def entries() -> list[dict[str, Any]]:
    return list(yaml.safe_load(CATALOGUE.read_text())["__webstack_checklist"])


def entry_table() -> str:
    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    rows = [
        "| Id | Hosts | What has to be so | Who decides | Asked for by |",
        "|---|---|---|---|---|",
    ]
    for one in entries():
        checks = ", ".join(dict.fromkeys(f"`{check['check']}`" for check in one.get("checks", [])))
        who = f"people: {one['person']}" if "person" in one else ""
        decides = "; else ".join(filter(None, [checks, who]))
        rows.append(
            f"| `{one['id']}` | {one.get('hosts', 'all')} | {cell(one['text'])} | {cell(decides)}"
            f" | {cell(one['source'])} |"
        )
    return "\n".join(rows)


def check_table() -> str:
    sys.path.insert(0, str(ROOT / "collections"))
    from ansible_collections.golive.webstack.plugins.module_utils.checklist.checks import CHECKS

    rows = ["| Check | What it proves |", "|---|---|"]
    for name, function in sorted(CHECKS.items()):
        text = " ".join((function.__doc__ or "").split()).replace("|", "\\|")
        rows.append(f"| `{name}` | {text} |")
    return "\n".join(rows)


def made(current: str) -> str:
    """The page with its tables made anew between the marks."""
    for name, table in (("entries", entry_table()), ("checks", check_table())):
        begin, end = BEGIN.format(name), END.format(name)
        head, _, rest = current.partition(begin)
        _, _, tail = rest.partition(end)
        current = f"{head}{begin}\n{table}\n{end}{tail}"
    return current


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, tell what differs")
    check = parser.parse_args().check
    current = PAGE.read_text()
    wanted = made(current)
    if wanted == current:
        return 0
    if not check:
        PAGE.write_text(wanted)
    print(f"{'out of step' if check else 'written'}: {PAGE.relative_to(ROOT)}")
    return int(check)


if __name__ == "__main__":
    sys.exit(main())
