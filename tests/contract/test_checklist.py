# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/checklist.md lists what the catalogue and the checks are."""

from __future__ import annotations

from tools import checklist_docs


def test_the_page_is_in_step() -> None:
    page = checklist_docs.PAGE.read_text()
    assert checklist_docs.made(page) == page
    assert all(f"| `{one['id']}` |" in page for one in checklist_docs.entries())
