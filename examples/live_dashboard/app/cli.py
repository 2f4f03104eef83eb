"""Commands: `flask --app app:create_app create-app`, `purge-otps` and `purge-load-test`."""

from __future__ import annotations

import secrets
from datetime import timedelta

import click
from flask import Flask
from sqlalchemy import CursorResult, delete, select
from sqlalchemy.exc import IntegrityError

from app.extensions import db
from app.models import App, LogEntry, Otp, User, utcnow
from app.security import hash_api_key
from app.services.sessions import GuardedRedisSessions

# Nobody can receive mail there: the ending is reserved for examples.
LOAD_TEST_USERS = "load-%@load-test.example"


def init_cli(app: Flask) -> None:
    """Register the commands."""

    @app.cli.command("create-app")
    @click.argument("name")
    @click.option("--owner", required=True, help="E-mail address of the owner.")
    @click.option("--environment", default="production", show_default=True)
    def create_application(name: str, owner: str, environment: str) -> None:
        """Add an application and print its API key, which is shown only once."""
        user_id = db.session.scalar(select(User.id).where(User.email == owner.lower()))
        if user_id is None:
            raise click.ClickException(f"there is no user {owner}")
        key = secrets.token_urlsafe(32)
        db.session.add(
            App(
                owner_id=user_id,
                name=name,
                environment=environment,
                api_key_hash=hash_api_key(key),
            )
        )
        try:
            db.session.commit()
        except IntegrityError:
            raise click.ClickException(f"there is already an application {name}") from None
        app.extensions["cache"].delete("apps")
        click.echo(key)

    @app.cli.command("purge-otps")
    @click.option("--days", default=7, show_default=True, type=click.IntRange(min=0))
    def purge_otps(days: int) -> None:
        """Delete one-time codes that expired more than DAYS days ago."""
        limit = utcnow() - timedelta(days=days)
        result = db.session.execute(delete(Otp).where(Otp.expires_at < limit))
        db.session.commit()
        click.echo(f"{result.rowcount if isinstance(result, CursorResult) else 0} deleted")

    @app.cli.command("purge-load-test")
    def purge_load_test() -> None:
        """Delete the users load-*@load-test.example and all that is theirs."""
        theirs = select(User.id).where(User.email.like(LOAD_TEST_USERS))
        users = set(db.session.scalars(theirs))
        sessions = app.session_interface
        # First, as nobody knows whose they are once the users are gone.
        if isinstance(sessions, GuardedRedisSessions) and users and not sessions.end_of(users):
            raise click.ClickException(
                "Redis does not answer, so their sessions would stay; nothing was deleted"
            )
        app.extensions["cache"].delete(*(f"profile:{number}" for number in users))
        db.session.execute(delete(LogEntry).where(LogEntry.user_id.in_(theirs)))
        db.session.execute(delete(App).where(App.owner_id.in_(theirs)))
        # With their one-time codes, by the foreign key.
        result = db.session.execute(delete(User).where(User.email.like(LOAD_TEST_USERS)))
        db.session.commit()
        app.extensions["cache"].delete("apps")
        click.echo(f"{result.rowcount if isinstance(result, CursorResult) else 0} deleted")
