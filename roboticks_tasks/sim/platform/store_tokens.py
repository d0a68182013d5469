"""Ingest tokens in the store: what CI has instead of a person's key. Every function gets the connection first."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from typing import Any

from roboticks_tasks.sim.platform.parse import iso

PREFIX = "rbtk_ing_"
SHOWN = len(PREFIX) + 6
"""Characters of a token by which people tell it from others."""

MOST = 1000
"""Tokens that may be made (our choice)."""


class TooManyError(ValueError):
    """There are as many tokens as are kept; the message is one sentence."""


class UsedUpError(ValueError):
    """A token may not be used any more; the message is one sentence."""


def create(
    connection: sqlite3.Connection, *, name: str, description: str | None, max_uses: int | None, expires_at: int | None
) -> dict[str, Any]:
    """Make a token and return it: the only time that its raw value is seen; what is kept is its digest."""
    if connection.execute("SELECT count(*) FROM ingest_tokens").fetchone()[0] >= MOST:
        raise TooManyError(f"there are {MOST} ingest tokens, as many as are kept")
    raw = PREFIX + os.urandom(24).hex()
    made = connection.execute(
        """INSERT INTO ingest_tokens (name, description, prefix, digest, max_uses, created_at, expires_at)
        VALUES (?, ?, ?, ?, ?, ?, ?)""",
        (name, description, raw[:SHOWN], _digest(raw), max_uses, _now(), expires_at),
    ).lastrowid
    row = connection.execute("SELECT * FROM ingest_tokens WHERE id = ?", (made,)).fetchone()
    return {**_document(row), "token": raw}


def listing(connection: sqlite3.Connection, *, revoked: bool) -> list[dict[str, Any]]:
    """Return the tokens, the newest first; those that have been revoked only when they are asked for."""
    rows = connection.execute("SELECT * FROM ingest_tokens WHERE revoked_at IS NULL OR ? ORDER BY id DESC", (revoked,))
    return [_document(row) for row in rows]


def revoke(connection: sqlite3.Connection, token: int) -> dict[str, Any] | None:
    """Revoke a token and return it; None when there is none of this id."""
    connection.execute("UPDATE ingest_tokens SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?", (_now(), token))
    row = connection.execute("SELECT * FROM ingest_tokens WHERE id = ?", (token,)).fetchone()
    return _document(row) if row is not None else None


def admit(connection: sqlite3.Connection, raw: str) -> int | str:
    """Return the id of a token that is valid, else one sentence that says why it is none."""
    row = connection.execute("SELECT * FROM ingest_tokens WHERE digest = ?", (_digest(raw),)).fetchone()
    if row is None:
        return "wrong ingest token"
    if row["revoked_at"] is not None:
        return "this ingest token has been revoked"
    if row["expires_at"] is not None and row["expires_at"] <= _now():
        return f"this ingest token expired at {iso(row['expires_at'])}"
    if row["max_uses"] is not None and row["uses"] >= row["max_uses"]:
        return f"this ingest token has been used {row['uses']} times, as often as it may be"
    return int(row["id"])


def use(connection: sqlite3.Connection, token: int) -> None:
    """Count one use of a token; UsedUpError when there are none left, which two at the same time may find out here."""
    used = connection.execute(
        """UPDATE ingest_tokens SET uses = uses + 1, last_used_at = ?
        WHERE id = ? AND uses < coalesce(max_uses, uses + 1)""",
        (_now(), token),
    )
    if not used.rowcount:
        raise UsedUpError("this ingest token has been used as often as it may be")


def _digest(raw: str) -> str:
    return hashlib.sha256(raw.encode("utf-8", "surrogateescape")).hexdigest()


def _document(row: sqlite3.Row) -> dict[str, Any]:
    times = ("created_at", "last_used_at", "expires_at", "revoked_at")
    return {
        "id": row["id"],
        "token_prefix": row["prefix"],
        **{key: row[key] for key in ("name", "description", "max_uses")},
        "uses_count": row["uses"],
        **{key: iso(row[key]) for key in times},
    }


def _now() -> int:
    return time.time_ns() // 1000
