"""Commands: `flask --app app:create_app create-app` and `purge-otps`."""

from __future__ import annotations

import secrets
from datetime import timedelta

import click
from flask import Flask
from sqlalchemy import CursorResult, delete, select
from sqlalchemy.exc import IntegrityError

from app.extensions import db
from app.models import App, Otp, User, utcnow
from app.security import hash_api_key


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
