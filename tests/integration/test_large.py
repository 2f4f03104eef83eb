# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One bit of two million rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.test_verify import ROWS, MakeSource, differences, prove

if TYPE_CHECKING:
    from tests.integration.conftest import Database


def test_one_bit_in_two_million_rows(database: Database, make_source: MakeSource) -> None:
    source = make_source(
        "CREATE TABLE big (id INTEGER PRIMARY KEY, level VARCHAR(10) NOT NULL, message TEXT, "
        "at DATETIME NOT NULL);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) "
        "INSERT INTO big SELECT i * 3, 'INFO', 'message number ' || i, "
        "datetime(1700000000 + i, 'unixepoch') FROM n;"
    )
    database.migrate(source)
    assert prove(database, source, depth="full")["rows_total"] == 2000000
    # 'm' is 0x6d, 'l' is 0x6c.
    database.query("UPDATE big SET message = 'l' || substr(message, 2) WHERE id = 4500003")
    for depth in ROWS:
        (found,) = differences(database, source, depth=depth)
        assert (found["table"], found["column"], found["key"]) == (
            "big",
            "message",
            {"id": 4500003},
        )
