"""Alembic's entry point; the database is the application's own."""

from __future__ import annotations

from alembic import context
from flask import current_app

from app.extensions import db


def run_offline() -> None:
    """Print SQL instead of running it."""
    url = db.engine.url.render_as_string(hide_password=False)
    context.configure(url=url, target_metadata=db.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    """Apply the migrations in one transaction."""
    options = dict(current_app.extensions["migrate"].configure_args)
    options.setdefault("render_as_batch", db.engine.dialect.name == "sqlite")
    with db.engine.connect() as connection:
        context.configure(connection=connection, target_metadata=db.metadata, **options)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
