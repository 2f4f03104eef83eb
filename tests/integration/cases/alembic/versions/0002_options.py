# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("player") as batch:
        batch.add_column(sa.Column("active", sa.Boolean, nullable=False, server_default=sa.true()))
        batch.add_column(sa.Column("pause", sa.Interval))
        batch.add_column(sa.Column("options", sa.JSON))
        batch.create_index("ix_player_level", ["level"])
        batch.create_unique_constraint("uq_player_key", ["key"])


def downgrade() -> None:
    with op.batch_alter_table("player") as batch:
        batch.drop_constraint("uq_player_key")
        batch.drop_index("ix_player_level")
        for name in ("options", "pause", "active"):
            batch.drop_column(name)
