# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes each role's defaults/main.yml and the README's table of variables from its argument spec,
and docs/settings.md from the playbooks' settings.

One text, three places: the spec is what Ansible checks, so it is the one that is written by hand.
``python -m tools.role_docs`` writes, ``--check`` exits with 1 where a file is out of step.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- variables: made from meta/argument_specs.yml by tools/role_docs.py -->"
END = "<!-- end of variables -->"


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, as yamllint's strict setting asks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(description: Any) -> str:
    parts = description if isinstance(description, list) else [description]
    return " ".join(" ".join(str(part).split()) for part in parts)


def _value(name: str, default: Any) -> str:
    return yaml.dump(
        {name: default}, Dumper=_Dumper, width=10_000, allow_unicode=True, sort_keys=False
    )


def defaults(options: dict[str, Any]) -> str:
    """The text of defaults/main.yml; required options have no default and stay out."""
    lines = ["---", "# Made from meta/argument_specs.yml by tools/role_docs.py."]
    for name, option in options.items():
        if option.get("required"):
            continue
        lines.append("")
        lines += textwrap.wrap(
            _text(option["description"]), 118, initial_indent="# ", subsequent_indent="# "
        )
        lines.append(_value(name, option.get("default")).rstrip("\n"))
    return "\n".join(lines) + "\n"


def table(options: dict[str, Any]) -> str:
    """The README's table; the keys of list entries follow their variable."""
    rows = ["| Variable | Type | Default | Meaning |", "|---|---|---|---|"]

    def cell(value: Any) -> str:
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
        text = text.replace("\n...", "").strip()
        return "`" + text.replace("|", "\\|") + "`"

    def add(name: str, option: dict[str, Any], prefix: str) -> None:
        kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
        default = option.get("default_text", "")
        if option.get("required"):
            default = "required"
        elif "default" in option:
            default = cell(option["default"])
        text = _text(option["description"]).replace("|", "\\|")
        if "choices" in option:
            text += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
        rows.append(f"| {prefix}`{name}` | {kind} | {default} | {text} |")
        for key, sub in option.get("options", {}).items():
            add(key, sub, prefix + "&nbsp;&nbsp;")

    for name, option in options.items():
        add(name, option, "")
    return "\n".join(rows)


def readme(current: str, options: dict[str, Any]) -> str:
    """The README with its table made anew between the marks."""
    head, _, rest = current.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{table(options)}\n{END}{tail}"


def settings(options: dict[str, Any]) -> str:
    """The text of docs/settings.md."""
    return f"""# Settings

What the playbooks read, in the inventory or with `-e`. A name that is not here is refused, and so
is a value of another type. Besides, every variable of a role can be given; it wins over what the
playbooks would set: the roles' READMEs have them.

<!-- made from playbooks/vars/settings.yml by tools/role_docs.py -->
{table(options)}

Two variables are there to be read: `webstack_database_url` and `webstack_redis_url`.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, tell what differs")
    check = parser.parse_args().check
    stale = []
    pages = {}
    for spec in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        role = spec.parent.parent
        options = yaml.safe_load(spec.read_text())["argument_specs"]["main"]["options"]
        pages[role / "defaults/main.yml"] = defaults(options)
        pages[role / "README.md"] = readme((role / "README.md").read_text(), options)
    shared = yaml.safe_load((ROOT / "playbooks/vars/settings.yml").read_text())
    pages[ROOT / "docs/settings.md"] = settings(shared["__webstack_settings"])
    for path, text in pages.items():
        if not path.exists() or path.read_text() != text:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
    for path_name in stale:
        print(f"{'out of step' if check else 'written'}: {path_name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
