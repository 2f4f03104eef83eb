"""The dashboard page."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, session, url_for
from werkzeug.wrappers import Response

from app.models import LEVELS
from app.security import current_user_id, login_required
from app.services import queries

blueprint = Blueprint("dashboard", __name__)
PAGE_SIZE = 25

TABLES = (
    ("log_entries", "Log entries"),
    ("apps", "Applications"),
    ("validation_rules", "Validation rules"),
    ("users", "Users"),
    ("otps", "One-time codes"),
)


@blueprint.get("/")
@login_required
def index() -> str | Response:
    """Counts and the latest entries."""
    user_id = current_user_id()
    user = queries.get_profile(user_id) if user_id is not None else None
    if user is None:
        session.clear()
        return redirect(url_for("auth.login"))
    items, _ = queries.list_logs(PAGE_SIZE)
    return render_template(
        "dashboard.html",
        user=user,
        tables=TABLES,
        counts=queries.table_counts()["counts"],
        logs=items,
        apps=queries.list_apps(),
        levels=LEVELS,
        page_size=PAGE_SIZE,
    )
