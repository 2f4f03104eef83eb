# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Schemas made by SQLAlchemy, Alembic and Django, each into tables that are made and that exist.

The ORM itself writes the rows into SQLite, reads them from PostgreSQL, and makes the first
insert there.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("psycopg2")
sa = pytest.importorskip("sqlalchemy")
django = pytest.importorskip("django")

import alembic.command  # noqa: E402
import alembic.config  # noqa: E402
from django.conf import settings  # noqa: E402
from sqlalchemy.orm import Session  # noqa: E402

from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration import (  # noqa: E402
    existing,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.errors import (  # noqa: E402
    MigrationError,
)
from ansible_collections.golive.webstack.plugins.module_utils.sqlite_migration.verify import (  # noqa: E402
    VerifyRequest,
    verify,
)
from tests.integration.cases import models  # noqa: E402

if TYPE_CHECKING:
    from tests.integration.conftest import Database

CASES = Path(__file__).parent / "cases"
UTC = datetime.timezone.utc
BOTH = pytest.mark.parametrize("mode", ["create", "existing"], indirect=True)
# The third drops every key, as is done with large tables.
ALL = pytest.mark.parametrize(
    "mode", ["create", "existing", "existing without keys"], indirect=True
)


def prove(database: Database, path: Path) -> None:
    """The verification, which shares no code with the load, finds both sides equal."""
    assert verify(VerifyRequest(str(path), database.target, depth="full")).compared


def engine_for(url: str) -> Any:
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg2://", 1))


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Any]:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    yield engine
    engine.dispose()


@pytest.fixture
def postgres_engine(database: Database) -> Iterator[Any]:
    engine = engine_for(database.url)
    yield engine
    engine.dispose()


def everything(engine: Any) -> dict[str, list[dict[str, Any]]]:
    """Every row of every model as Python values; SQLite forgets that a time is in UTC."""
    found = {}
    with Session(engine) as session:
        for model in models.MODELS:
            columns = [column.key for column in sa.inspect(model).column_attrs]
            keys = sa.inspect(model).primary_key
            rows = []
            for item in session.scalars(sa.select(model).order_by(*keys)):
                row = {name: getattr(item, name) for name in columns}
                if row.get("seen") is not None:
                    seen = row["seen"]
                    row["seen"] = seen.replace(tzinfo=UTC) if seen.tzinfo is None else seen
                rows.append(row)
            found[model.__tablename__] = rows
    return found


@pytest.fixture
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "existing without keys":
        monkeypatch.setattr(existing, "_LARGE", 0)
    return str(request.param).split()[0]


@ALL
def test_sqlalchemy(
    database: Database, sqlite_engine: Any, postgres_engine: Any, tmp_path: Path, mode: str
) -> None:
    models.Base.metadata.create_all(sqlite_engine)
    with Session(sqlite_engine) as session:
        session.add_all(models.rows())
        session.commit()
    written = everything(sqlite_engine)
    assert [len(rows) for rows in written.values()] == [2, 3, 1, 2]
    options: dict[str, Any] = {"type_overrides": models.OVERRIDES}
    if mode == "existing":
        models.Base.metadata.create_all(postgres_engine)
        options = {"target_schema_mode": "existing"}
    constraints = (
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace ORDER BY 1"
    )
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    before = database.query(constraints), database.query(indexes)
    outcome = database.migrate(tmp_path / "app.db", **options)
    assert outcome.changed and outcome.rows_total == 8
    assert everything(postgres_engine) == written
    prove(database, tmp_path / "app.db")
    if mode == "existing":
        assert (database.query(constraints), database.query(indexes)) == before
        with pytest.raises(MigrationError, match="aren't empty: author, book, loan, shelf"):
            database.query("DELETE FROM golive_webstack.migration")
            database.migrate(tmp_path / "app.db", **options)
    with Session(postgres_engine) as session:
        author = models.Author(
            uid=uuid.uuid4(),
            name="new",
            mood=models.Mood.happy,
            balance=decimal.Decimal("0.10"),
            score=1,
            created=datetime.datetime.now(),
            took=datetime.timedelta(seconds=1.5),
            data={"first": "insert"},
        )
        session.add(author)
        session.flush()
        assert author.id == 10
        book = models.Book(id=uuid.uuid4(), title="new", author_id=author.id)
        author.favourite_id = book.id
        loan = models.Loan(book_id=book.id)
        session.add_all([book, loan])
        session.commit()
        assert loan.id == 8
        found = session.scalars(sa.select(models.Author).where(models.Author.uid == author.uid))
        assert found.one().took == datetime.timedelta(seconds=1.5)


def upgrade(engine: Any, revision: str) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(CASES / "alembic"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, revision)


@pytest.fixture
def players(sqlite_engine: Any) -> dict[str, list[Any]]:
    """Rows written through the tables as Alembic has made them."""
    upgrade(sqlite_engine, "head")
    player, team = _tables(sqlite_engine)
    with sqlite_engine.begin() as connection:
        connection.execute(team.insert(), [{"id": 4, "name": "a"}, {"id": 5, "name": "b"}])
        connection.execute(
            player.insert(),
            [
                {
                    "id": n,
                    "key": uuid.UUID(int=n),
                    "team_id": 4,
                    "boss_id": 3 - n if n < 3 else None,
                    "level": n,
                    "rate": decimal.Decimal("12345.678"),
                    "active": bool(n % 2),
                    "pause": datetime.timedelta(days=n, microseconds=n),
                    "options": {"n": n},
                }
                for n in (1, 2, 3)
            ],
        )
    return _read(sqlite_engine)


def _tables(engine: Any) -> tuple[Any, Any]:
    metadata = sa.MetaData()
    types = [("key", sa.Uuid()), ("pause", sa.Interval()), ("options", sa.JSON())]
    player = sa.Table(
        "player", metadata, *(sa.Column(n, t) for n, t in types), autoload_with=engine
    )
    return player, metadata.tables["team"]


def _read(engine: Any) -> dict[str, list[Any]]:
    with engine.connect() as connection:
        return {
            table.name: [
                dict(row._mapping)
                for row in connection.execute(sa.select(table).order_by(table.c.id))
            ]
            for table in _tables(engine)
        }


@BOTH
def test_alembic(
    database: Database,
    players: dict[str, list[Any]],
    postgres_engine: Any,
    tmp_path: Path,
    mode: str,
) -> None:
    options: dict[str, Any] = {"type_overrides": {"player.key": "uuid", "player.pause": "interval"}}
    if mode == "existing":
        upgrade(postgres_engine, "head")
        options = {"target_schema_mode": "existing"}
    outcome = database.migrate(tmp_path / "app.db", **options)
    assert _read(postgres_engine) == players
    prove(database, tmp_path / "app.db")
    assert database.query("SELECT version_num FROM alembic_version") == [("0002",)]
    kept = [x["reason"] for x in outcome.not_carried if x["name"] == "alembic_version"]
    assert len(kept) == (mode == "existing")
    player, team = _tables(postgres_engine)
    with postgres_engine.begin() as connection:
        made = connection.execute(
            team.insert().values(name="new").returning(team.c.id, team.c.made)
        )
        number, made_at = made.one()
        assert number == 6 and made_at is not None
        values = {"key": uuid.uuid4(), "level": 1, "team_id": 6}
        new = connection.execute(
            player.insert().values(values).returning(player.c.id, player.c.active)
        )
        assert tuple(new.one()) == (4, True)
    # The next migration finds the version where it left it.
    upgrade(postgres_engine, "head")


def test_alembic_at_another_version(
    database: Database, players: dict[str, list[Any]], postgres_engine: Any, tmp_path: Path
) -> None:
    source = tmp_path / "app.db"
    upgrade(postgres_engine, "0001")
    with pytest.raises(MigrationError, match="column active of player is missing.*Run the app"):
        database.migrate(source, target_schema_mode="existing")
    upgrade(postgres_engine, "head")
    database.query("UPDATE alembic_version SET version_num = '0003'")
    with pytest.raises(MigrationError, match="only SQLite has 0002; only PostgreSQL has 0003"):
        database.migrate(source, target_schema_mode="existing")
    assert database.query("SELECT count(*) FROM player") == [(0,)]
    outcome = database.migrate(source, target_schema_mode="existing", exclude=["alembic_version"])
    assert outcome.changed and database.query("SELECT count(*) FROM player") == [(3,)]


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Iterator[Any]:
    """Django, set up once, with the aliases `default` for SQLite and `pg` for the target."""
    if not settings.configured:
        settings.configure(
            USE_TZ=True,
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            INSTALLED_APPS=[
                "django.contrib.contenttypes",
                "django.contrib.auth",
                "tests.integration.cases.shop.apps.ShopConfig",
            ],
            PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        )
        django.setup()
    from django.core.management import call_command
    from django.db import connections

    target = database.target
    given = {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "app.db")},
        "pg": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": target.database,
            "USER": target.user,
            "PASSWORD": target.password,
            "HOST": target.host,
            "PORT": target.port,
        },
    }
    connections.settings = connections.configure_settings(given)
    for alias in given:
        if hasattr(connections._connections, alias):
            del connections[alias]
    call_command("migrate", verbosity=0)
    from tests.integration.cases.shop import models as shop_models

    yield shop_models
    connections.close_all()


def fill_shop(shop: Any) -> None:
    user = shop.User.objects.create_user("ann", "ann@example.com", "secret")
    tags = [shop.Tag.objects.create(name=name) for name in ("a", "b")]
    first = shop.Item.objects.create(
        name="Ünï \\ 'x'",
        slug="x",
        took=datetime.timedelta(days=-1, hours=3, microseconds=5),
        data={"a": [1, None, "ü"], "b": 1.5},
        price=decimal.Decimal("12345678.90"),
        score=0.1,
        maybe=False,
        created=datetime.datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        day=datetime.date(2024, 2, 29),
        at=datetime.time(23, 59, 59, 999999),
        picture=bytes(range(256)),
        address="2001:db8::1",
        count=21,
        small=-100,
        big=2**63 - 1,
        owner=user,
    )
    first.tags.set(tags)
    shop.Item.objects.create(
        name="", slug="y", price=0, created=datetime.datetime(2000, 1, 1, tzinfo=UTC), parent=first
    )


def read_shop(shop: Any, alias: str) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for model in (shop.User, shop.Tag, shop.Item, shop.Item.tags.through):
        rows = [dict(row) for row in model.objects.using(alias).order_by("pk").values()]
        for row in rows:
            if row.get("picture") is not None:
                row["picture"] = bytes(row["picture"])
        found[model.__name__] = rows
    return found


SHOP_TYPES = {
    "auth_user.last_login": "timestamptz",
    "auth_user.date_joined": "timestamptz",
    "django_migrations.applied": "timestamptz",
    "shop_tag.id": "uuid",
    "shop_item.uid": "uuid",
    "shop_item.took": "interval",
    "shop_item.data": "jsonb",
    "shop_item.created": "timestamptz",
    "shop_item.address": "inet",
    "shop_item_tags.tag_id": "uuid",
}


@ALL
def test_django(database: Database, shop: Any, tmp_path: Path, mode: str) -> None:
    from django.core.management import call_command

    fill_shop(shop)
    written = read_shop(shop, "default")
    assert [len(rows) for rows in written.values()] == [1, 2, 2, 2]
    source = tmp_path / "app.db"
    if mode == "create":
        outcome = database.migrate(source, type_overrides=SHOP_TYPES)
    else:
        call_command("migrate", database="pg", verbosity=0)
        with pytest.raises(MigrationError, match="empty: django_content_type, auth_permission"):
            database.migrate(source, target_schema_mode="existing")
        outcome = database.migrate(
            source,
            target_schema_mode="existing",
            replace=["django_content_type", "auth_permission"],
        )
    assert outcome.changed and read_shop(shop, "pg") == written
    prove(database, source)
    assert written["Item"][0]["twice"] == 42
    items = shop.Item.objects.using("pg")
    new = items.create(
        name="new",
        slug="new",
        price=1,
        count=4,
        created=datetime.datetime.now(UTC),
        took=datetime.timedelta(minutes=1),
        data={"k": 1},
    )
    assert new.pk == 3 and items.get(uid=new.uid).twice == 8
    new.tags.add(shop.Tag.objects.using("pg").create(name="new"))
    assert items.filter(data__k=1, took__gt=datetime.timedelta(0)).count() == 1
    user = shop.User.objects.db_manager("pg").create_user("bob")
    assert user.pk == 2
    assert shop.User.objects.using("pg").get(username="ann").check_password("secret")
    call_command("migrate", database="pg", verbosity=0)


def test_django_at_another_migration(database: Database, shop: Any, tmp_path: Path) -> None:
    from django.core.management import call_command

    call_command("migrate", database="pg", verbosity=0)
    database.query("DELETE FROM django_migrations WHERE app = 'shop'")
    with pytest.raises(MigrationError, match="only SQLite has shop.0001_initial"):
        database.migrate(tmp_path / "app.db", target_schema_mode="existing", replace=["*"])


MakeSource = Callable[[str], Path]

TARGET = """
CREATE DOMAIN public.positive AS integer CHECK (VALUE > 0);
CREATE TYPE public.mood AS ENUM ('happy', 'sad');
CREATE TABLE "Big" (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name varchar(20) CONSTRAINT uq_name UNIQUE DEFERRABLE INITIALLY DEFERRED,
    n positive, m mood, ip inet, code char(4), small smallint, r real,
    half integer GENERATED ALWAYS AS (small / 2) STORED,
    made timestamptz NOT NULL DEFAULT now(),
    parent integer REFERENCES "Big" DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ix_partial ON "Big" (name DESC NULLS LAST) INCLUDE (n) WHERE n > 5;
COMMENT ON INDEX ix_partial IS 'it''s kept';
COMMENT ON CONSTRAINT uq_name ON "Big" IS 'and this';
CREATE VIEW grouped AS SELECT id, name FROM "Big" GROUP BY id;
CREATE TABLE side (id serial PRIMARY KEY, big integer REFERENCES "Big");
CREATE SEQUENCE own_numbers;
CREATE TABLE counted (id bigint PRIMARY KEY DEFAULT nextval('own_numbers'), what text);
CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'fired'; END $$;
CREATE TRIGGER stops BEFORE INSERT ON counted FOR EACH ROW EXECUTE FUNCTION stop();
ALTER TABLE counted ENABLE ALWAYS TRIGGER stops;
"""
SOURCE = """
CREATE TABLE big (id INTEGER PRIMARY KEY AUTOINCREMENT, name VARCHAR(20), n INTEGER, m TEXT,
    ip TEXT, code CHAR(4), small INTEGER, r REAL, parent INTEGER REFERENCES big (id));
CREATE TABLE Counted (id INTEGER PRIMARY KEY, what INTEGER);
INSERT INTO counted VALUES (7, 12);
WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 20001)
INSERT INTO big SELECT i, 'n' || i, i, iif(i % 2, 'sad', 'happy'), '10.0.0.' || (i % 256), 'abcd',
    i % 100, i / 4.0, 20002 - i FROM c;
INSERT INTO big (id) VALUES (30000);
DELETE FROM big WHERE id = 30000;
"""


def test_keys_are_set_aside_and_made_again(database: Database, make_source: MakeSource) -> None:
    database.query(TARGET)
    state = (
        "SELECT conname, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint') "
        "FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1",
        "SELECT indexname, indexdef, obj_description(quote_ident(indexname)::regclass) "
        "FROM pg_indexes "
        "WHERE schemaname = 'public' ORDER BY 1",
        "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal",
    )
    before = [database.query(sql) for sql in state]
    source = make_source(SOURCE)
    outcome = database.migrate(source, target_schema_mode="existing")
    prove(database, source)
    assert [database.query(sql) for sql in state] == before
    assert any("stops of counted is off during the load" in w for w in outcome.warnings)
    assert database.query('SELECT id, name, n, m, ip, code, small, r, half, parent FROM "Big" '
                          "WHERE id = 2") == [
        (2, "n2", 2, "happy", "10.0.0.2", "abcd", 2, 0.5, 1, 20000)
    ]  # fmt: skip
    assert database.query('SELECT count(*), count(made) FROM "Big"') == [(20001, 20001)]
    assert database.query("SELECT * FROM counted") == [(7, "12")]
    assert database.query("""INSERT INTO "Big" (n) VALUES (1) RETURNING id""") == [(30001,)]
    assert database.query("SELECT nextval('own_numbers')") == [(8,)]
    assert [x["name"] for x in outcome.plan["tables"]] == ["big", "Counted"]


@pytest.mark.parametrize(
    ("target", "source", "options", "match"),
    [
        ("CREATE TABLE a (x int)", "CREATE TABLE b (x)", {}, "table b is missing"),
        ("CREATE TABLE a (x int)", "CREATE TABLE a (x, y)", {}, "column y of a is missing"),
        (
            "CREATE TABLE a (x int, y int NOT NULL)",
            "CREATE TABLE a (x)",
            {},
            "y of a is NOT NULL without a default",
        ),
        (
            "CREATE TABLE a (x int); INSERT INTO a VALUES (1)",
            "CREATE TABLE a (x)",
            {"check_mode": True},
            "aren't empty: a.*Set replace",
        ),
        ("CREATE TABLE a (x int)", "CREATE TABLE a (x)", {"on_bad_value": "text"}, "can't change"),
        (
            "CREATE TABLE a (x int)",
            "CREATE TABLE a (x)",
            {"bad_value_columns": {"a.x": "text"}},
            "a.x: the policy text can't",
        ),
        (
            "CREATE TABLE a (x int)",
            "CREATE TABLE a (x)",
            {"type_overrides": {"a.x": "bigint"}},
            "existing column is integer, and its type stands",
        ),
        (
            "CREATE TABLE a (x int); CREATE TABLE b (x int)",
            "CREATE TABLE a (x); CREATE TABLE b (x)",
            {"rename": {"a": "b"}},
            "a and b both lead to table b",
        ),
    ],
)
def test_existing_that_does_not_fit(
    database: Database,
    make_source: MakeSource,
    target: str,
    source: str,
    options: dict[str, Any],
    match: str,
) -> None:
    database.query(target)
    with pytest.raises(MigrationError, match=match):
        database.migrate(make_source(source), target_schema_mode="existing", **options)
    assert database.relations("golive_webstack") == []


def test_existing_under_other_names(database: Database, make_source: MakeSource) -> None:
    database.query("CREATE TABLE people (id int PRIMARY KEY, born timestamptz)")
    source = make_source("CREATE TABLE p (id INTEGER PRIMARY KEY, b INTEGER);"
                         "INSERT INTO p VALUES (1, 86400000)")  # fmt: skip
    database.migrate(
        source,
        target_schema_mode="existing",
        rename={"p": "people", "p.b": "born"},
        type_overrides={"p.b": "timestamptz using epoch_ms"},
    )
    assert database.query("SELECT * FROM people") == [
        (1, datetime.datetime(1970, 1, 2, tzinfo=UTC))
    ]


def test_foreign_key_of_the_target_that_the_rows_break(
    database: Database, make_source: MakeSource
) -> None:
    database.query("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (p int REFERENCES p)")
    source = make_source("CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (p INTEGER);"
                         "INSERT INTO c VALUES (5)")  # fmt: skip
    with pytest.raises(MigrationError, match="foreign key c: c_p_fkey of c can't be made"):
        database.migrate(source, target_schema_mode="existing")
    assert database.query("SELECT count(*) FROM c") == [(0,)]
    assert database.query("SELECT conname FROM pg_constraint WHERE contype = 'f'") == [
        ("c_p_fkey",)
    ]


def test_table_in_use(
    database: Database, make_source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg2

    monkeypatch.setattr(existing, "_LOCK_WAIT", "200ms")
    database.query("CREATE TABLE p (id int PRIMARY KEY REFERENCES p)")
    source = make_source("CREATE TABLE p (id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1)")
    holder = psycopg2.connect(database.url)
    try:
        holder.cursor().execute("LOCK TABLE p IN ACCESS SHARE MODE")
        with pytest.raises(MigrationError, match="lock timeout. Everything was rolled back"):
            database.migrate(source, target_schema_mode="existing")
    finally:
        holder.close()
    assert database.migrate(source, target_schema_mode="existing").rows_total == 1


def test_existing_before_the_target_is_there(database: Database, make_source: MakeSource) -> None:
    source = make_source("CREATE TABLE t (a INTEGER); INSERT INTO t VALUES ('x')")
    options: dict[str, Any] = {"target_schema_mode": "existing"}
    away = replace(database, target=replace(database.target, port=1))
    outcome = away.migrate(source, check_mode=True, **options)
    assert outcome.plan["tables"][0]["source_rows"] == 1 and outcome.notes
    with pytest.raises(MigrationError, match="No PostgreSQL server answers"):
        away.migrate(source, **options)


def test_domains(database: Database, make_source: MakeSource) -> None:
    database.query(
        "CREATE DOMAIN short AS varchar(3); CREATE DOMAIN price AS numeric(6, 2) NOT NULL;"
        "CREATE DOMAIN even AS integer CHECK (VALUE % 2 = 0); CREATE DOMAIN second AS timestamp(0);"
        "CREATE TABLE t (id int PRIMARY KEY, s short, p price, e even);"
        "CREATE TABLE u (a second)"
    )
    script = "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT, p NUMERIC, e INTEGER);"
    good = "INSERT INTO t VALUES (1, 'abc', 1234.56, 4);"
    bad = "INSERT INTO t VALUES (2, 'abcd', 1.005, 4), (3, 'a', NULL, 5);"
    with pytest.raises(MigrationError) as caught:
        database.migrate(make_source(script + good + bad), target_schema_mode="existing")
    found = {(b["column"], b["rows"][0]["rowid"]) for b in caught.value.details["bad_values"]}
    assert found == {("s", 2), ("p", 2), ("p", 3), ("e", 3)}
    source = make_source(
        "DROP TABLE t; CREATE TABLE u (a DATETIME); INSERT INTO u VALUES ('2024-01-01 00:00:00.5')"
    )
    with pytest.raises(MigrationError, match=r"would round times in .*: u\.a \(public\.second\)"):
        database.migrate(source, target_schema_mode="existing")
    source.unlink()
    database.migrate(make_source(script + good), target_schema_mode="existing", exclude=[])
    assert database.query("SELECT * FROM t") == [(1, "abc", decimal.Decimal("1234.56"), 4)]


BREACHES = """
CREATE TABLE accounts (
    id integer PRIMARY KEY, email text, tenant integer, active boolean, balance numeric,
    CONSTRAINT ck_balance CHECK (balance >= 0), UNIQUE (tenant, email),
    CONSTRAINT ck_name CHECK (email LIKE '%@%')
);
CREATE UNIQUE INDEX ux_lower ON accounts (lower(email)) WHERE active;
"""


@pytest.mark.parametrize("rows", [10, 25_000])
def test_every_row_that_breaks_a_constraint_is_listed(
    database: Database, make_source: MakeSource, rows: int
) -> None:
    """Above 20,000 rows keys and indexes are made after the load."""
    database.query(BREACHES)
    source = make_source(
        "CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT, tenant INTEGER,"
        " active BOOLEAN, balance NUMERIC);"
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
        " INSERT INTO accounts SELECT i, 'u' || i || '@example.org', 1, 1, i FROM n;"
        "UPDATE accounts SET email = 'u1@example.org' WHERE id = 4;"
        "UPDATE accounts SET email = 'U2@example.org' WHERE id = 5;"
        "UPDATE accounts SET email = NULL WHERE id IN (6, 7);"
    )

    def broken(**options: Any) -> dict[str, tuple[int, list[int]]]:
        with pytest.raises(MigrationError, match="break constraints of PostgreSQL's") as caught:
            database.migrate(source, target_schema_mode="existing", **options)
        problems = caught.value.details["problems"]
        assert all(p["table"] == "accounts" and p["action"] for p in problems)
        return {p["constraint"]: (p["count"], [r["rowid"] for r in p["rows"]]) for p in problems}

    unique = {
        "accounts_tenant_email_key": (2, [1, 4]),
        "ux_lower": (4, [1, 2, 4, 5]),
    }
    assert broken() == unique
    with contextlib.closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("UPDATE accounts SET balance = -1 WHERE id IN (3, 9)")
        connection.execute("UPDATE accounts SET email = 'nobody' WHERE id = 8")
    every = {"ck_balance": (2, [3, 9]), "ck_name": (1, [8]), **unique}
    assert broken() == broken(check_mode=True) == every
    # The rows that go to the quarantine take no number away.
    with contextlib.closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("UPDATE accounts SET active = 'perhaps' WHERE id = 2")
    del unique["ux_lower"]
    options = {"on_bad_value": "quarantine"}
    assert broken(**options) == {**every, "ux_lower": (2, [1, 4])}
    assert database.query("SELECT count(*) FROM accounts") == [(0,)]
    with contextlib.closing(sqlite3.connect(source)) as connection, connection:
        connection.execute("DELETE FROM accounts WHERE id IN (3, 4, 5, 8, 9)")
    database.migrate(source, target_schema_mode="existing", **options)
    assert database.query("SELECT count(*) FROM accounts") == [(rows - 5,)]


def test_replace_in_create_mode(database: Database, make_source: MakeSource) -> None:
    database.query("CREATE TABLE old (id serial); CREATE VIEW v AS SELECT * FROM old")
    source = make_source("CREATE TABLE t (a)")
    with pytest.raises(MigrationError, match=r"isn't empty.*: view v\. Nothing.*Set replace"):
        database.migrate(source, replace=["old"])
    assert database.relations() == ["old", "old_id_seq", "v"]
    planned = database.migrate(source, replace=["old", "v"], check_mode=True)
    assert planned.plan["dropped"] == ['"public"."v"', '"public"."old"']
    assert 'DROP TABLE "public"."old";' in planned.plan_text
    assert database.relations() == ["old", "old_id_seq", "v"]
    database.migrate(source, replace=["old", "v"])
    assert database.relations() == ["t"]


def test_types_and_names_that_the_caller_sets(database: Database, make_source: MakeSource) -> None:
    database.query("CREATE TYPE mood AS ENUM ('happy', 'sad')")
    source = make_source(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER, m TEXT, ctid TEXT, ip TEXT,"
        f"{'x' * 70} TEXT, a INTEGER[], g INTEGER AS (id * 3));"
        "INSERT INTO t VALUES (1, 1700000000, 'sad', 'c', '10.0.0.0/8', 'long', '{1,2}')"
    )
    options = {
        "rename": {"t": "Table", "t.at": "happened"},
        "type_overrides": {
            "t.at": "timestamptz",
            "t.m": "public.mood",
            "t.ip": "inet",
            "t.a": "integer[]",
            "t.id": "integer",
        },
    }
    with pytest.raises(MigrationError, match="t.m: PostgreSQL has no such type.*public.citext"):
        database.migrate(source, type_overrides={"t.m": "mood"})
    database.migrate(source, **options)
    found = database.query('SELECT id, happened, m, ctid_, ip, a, g FROM "Table"')
    at = datetime.datetime.fromtimestamp(1700000000, UTC)
    assert found == [(1, at, "sad", "c", "10.0.0.0/8", [1, 2], 3)]
    assert database.query('INSERT INTO "Table" (m) VALUES (NULL) RETURNING id, g') == [(2, 6)]


def test_unique_keys_that_ignore_case(database: Database, make_source: MakeSource) -> None:
    import psycopg2

    source = make_source(
        "CREATE TABLE t (a TEXT COLLATE NOCASE UNIQUE, b TEXT);"
        "CREATE UNIQUE INDEX u ON t (b COLLATE NOCASE);"
        "INSERT INTO t VALUES ('Ab', 'x'), ('Ä', 'Ü'), ('ä', 'ü')"
    )
    database.migrate(source)
    for sql in ("INSERT INTO t (a) VALUES ('aB')", "INSERT INTO t (b) VALUES ('X')"):
        with pytest.raises(psycopg2.errors.UniqueViolation):
            database.query(sql)


def test_source_is_not_touched_by_a_plan(database: Database, make_source: MakeSource) -> None:
    source = make_source(SOURCE)
    content = source.read_bytes()
    database.query(TARGET)
    outcome = database.migrate(source, target_schema_mode="existing", check_mode=True)
    assert outcome.plan["mode"] == "existing" and outcome.plan["tables"][0]["source_bytes"]
    assert source.read_bytes() == content and sqlite3.connect(source).execute(
        "SELECT count(*) FROM big"
    ).fetchone() == (20001,)
    assert database.query('SELECT count(*) FROM "Big"') == [(0,)]
