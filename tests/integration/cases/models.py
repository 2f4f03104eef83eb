# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models with every type that SQLAlchemy stores in SQLite otherwise than in PostgreSQL."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Date,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Identity,
    Index,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Text,
    Time,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Mood(enum.Enum):
    happy = 1
    sad = 2


class Author(Base):
    __tablename__ = "author"
    __table_args__ = (
        CheckConstraint("length(name) > 0", name="ck_author_name"),
        Index("ix_author_active", "active", "name"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[uuid.UUID] = mapped_column(Uuid, unique=True)
    name: Mapped[str] = mapped_column(String(50))
    active: Mapped[bool] = mapped_column(Boolean, default=True)
    mood: Mapped[Mood | None] = mapped_column(Enum(Mood, name="mood"))
    balance: Mapped[decimal.Decimal] = mapped_column(Numeric(12, 2))
    score: Mapped[float] = mapped_column(Float)
    born: Mapped[datetime.date | None] = mapped_column(Date)
    wakes: Mapped[datetime.time | None] = mapped_column(Time)
    created: Mapped[datetime.datetime] = mapped_column(DateTime)
    seen: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
    took: Mapped[datetime.timedelta | None] = mapped_column(Interval)
    data: Mapped[Any] = mapped_column(JSON)
    picture: Mapped[bytes | None] = mapped_column(LargeBinary)
    notes: Mapped[str | None] = mapped_column(Text)
    favourite_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey(
            "book.id",
            use_alter=True,
            name="fk_author_favourite",
            deferrable=True,
            initially="DEFERRED",
        )
    )


class Book(Base):
    __tablename__ = "book"
    __table_args__ = (UniqueConstraint("author_id", "title", name="uq_book_title"),)

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    title: Mapped[str] = mapped_column(String(80))
    author_id: Mapped[int] = mapped_column(
        ForeignKey("author.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED")
    )


class Loan(Base):
    __tablename__ = "loan"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    book_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("book.id"))
    returned: Mapped[bool | None]


class Shelf(Base):
    __tablename__ = "shelf"

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    place: Mapped[str] = mapped_column(String(5), primary_key=True)
    book_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("book.id"))


MODELS: tuple[type[Base], ...] = (Author, Book, Loan, Shelf)
# What create mode needs to be told, as SQLite's declared types don't say it.
OVERRIDES = {
    "author.uid": "uuid",
    "author.favourite_id": "uuid",
    "author.seen": "timestamptz",
    "author.took": "interval",
    "book.id": "uuid",
    "loan.book_id": "uuid",
    "shelf.book_id": "uuid",
}


def rows() -> list[Base]:
    """Two authors and three books that refer to each other in a circle."""
    utc = datetime.timezone.utc
    books = [uuid.UUID(int=n * 0x1234567890ABCDEF1234567890) for n in (1, 2, 3)]
    return [
        Author(
            id=3,
            uid=uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
            name="Ægir \\ Ö'Brien",
            active=True,
            mood=Mood.sad,
            balance=decimal.Decimal("1234567890.12"),
            score=0.1,
            born=datetime.date(1969, 12, 31),
            wakes=datetime.time(6, 30, 0, 1),
            created=datetime.datetime(2024, 2, 29, 23, 59, 59, 999999),
            seen=datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=utc),
            took=datetime.timedelta(days=400, hours=5, microseconds=7),
            data={"a": [1, 2.5, None, "ü"], "nested": {"b": True}},
            picture=bytes(range(256)),
            notes="line\nline\t\\N",
            favourite_id=books[2],
        ),
        Author(
            id=9,
            uid=uuid.UUID("00000000-0000-0000-0000-000000000000"),
            name="n",
            active=False,
            balance=decimal.Decimal("-0.01"),
            score=-1e300,
            created=datetime.datetime(1, 1, 1),
            took=datetime.timedelta(days=-3, microseconds=1),
            data=[],
            picture=b"",
            notes="",
        ),
        *(Book(id=b, title=f"t{n}", author_id=(3, 3, 9)[n]) for n, b in enumerate(books)),
        Loan(id=7, book_id=books[0], returned=False),
        Shelf(row=-1, place="a", book_id=books[1]),
        Shelf(row=0, place="", book_id=None),
    ]
