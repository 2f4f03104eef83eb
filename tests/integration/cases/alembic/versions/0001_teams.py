# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "team",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(40), nullable=False, unique=True),
        sa.Column("made", sa.DateTime, server_default=sa.func.now(), nullable=False),
    )
    op.create_table(
        "player",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("key", sa.Uuid, nullable=False),
        sa.Column("team_id", sa.Integer, sa.ForeignKey("team.id", name="fk_player_team")),
        sa.Column("boss_id", sa.Integer, sa.ForeignKey("player.id", name="fk_player_boss")),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column("rate", sa.Numeric(8, 3)),
    )


def downgrade() -> None:
    op.drop_table("player")
    op.drop_table("team")
