"""One-time codes: made, sent, checked; only a keyed hash is stored."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import sys
from datetime import timedelta
from typing import Protocol

from flask import current_app
from sqlalchemy import CursorResult, select, update

from app.extensions import db
from app.models import Otp, User, utcnow

logger = logging.getLogger(__name__)
PURPOSE_VERIFY = "verify_email"


class OtpSender(Protocol):
    """Delivers a code; an e-mail or SMS sender only has to implement this."""

    def send(self, email: str, code: str) -> None:
        """Deliver the code to the address."""


class LogSender:
    """Writes the code to the application log."""

    def send(self, email: str, code: str) -> None:
        logger.info("one-time code", extra={"email": email, "code": code})


class ConsoleSender:
    """Prints the code to standard error."""

    def send(self, email: str, code: str) -> None:
        print(f"One-time code for {email}: {code}", file=sys.stderr, flush=True)


def make_sender(name: str) -> OtpSender:
    """The sender chosen by OTP_SENDER."""
    return ConsoleSender() if name == "console" else LogSender()


def hash_code(user_id: int, code: str) -> str:
    """Keyed, because six digits could be guessed from a plain digest."""
    key = current_app.secret_key
    secret = key if isinstance(key, bytes) else str(key).encode()
    return hmac.new(secret, f"otp:{user_id}:{code}".encode(), hashlib.sha256).hexdigest()


def _latest_open(user_id: int) -> Otp | None:
    return db.session.scalar(
        select(Otp)
        .where(Otp.user_id == user_id, Otp.purpose == PURPOSE_VERIFY, Otp.consumed_at.is_(None))
        .order_by(Otp.id.desc())
        .limit(1)
    )


def issue_code(user: User) -> str | None:
    """Store a new code and send it; None when the last one is too recent."""
    config = current_app.config
    now = utcnow()
    latest = _latest_open(user.id)
    if latest and latest.created_at > now - timedelta(seconds=config["OTP_RESEND_SECONDS"]):
        return None
    code = f"{secrets.randbelow(1_000_000):06d}"
    db.session.add(
        Otp(
            user_id=user.id,
            purpose=PURPOSE_VERIFY,
            code_hash=hash_code(user.id, code),
            expires_at=now + timedelta(seconds=config["OTP_TTL_SECONDS"]),
        )
    )
    db.session.commit()
    current_app.extensions["otp_sender"].send(user.email, code)
    return code


def check_code(user: User, code: str) -> bool:
    """True once for the latest code, if right, unexpired and not tried too often."""
    now = utcnow()
    otp = _latest_open(user.id)
    if otp is None or otp.expires_at <= now:
        return False
    # Counted before comparing and in one statement, so parallel guesses can't pass the limit.
    counted = db.session.execute(
        update(Otp)
        .where(Otp.id == otp.id, Otp.attempts < current_app.config["OTP_MAX_ATTEMPTS"])
        .values(attempts=Otp.attempts + 1)
    )
    db.session.commit()
    if not isinstance(counted, CursorResult) or counted.rowcount != 1:
        return False
    if not hmac.compare_digest(otp.code_hash, hash_code(user.id, code)):
        return False
    consumed = db.session.execute(
        update(Otp).where(Otp.id == otp.id, Otp.consumed_at.is_(None)).values(consumed_at=now)
    )
    db.session.commit()
    return isinstance(consumed, CursorResult) and consumed.rowcount == 1
