"""What the store forgets by itself, so that it does not grow for ever: our choice, nothing is documented."""

from __future__ import annotations

import logging
import sqlite3
import time

from roboticks_tasks.sim.platform.store import Store

log = logging.getLogger(__name__)

DAYS = 14
"""Ended sessions and logs outside sessions are kept this long, by the platform's clock."""

SLICE = 5000
"""Log messages that one transaction deletes, so that devices need not wait for long."""

STATEMENTS = (
    # CROSS JOIN has SQLite look at the few sessions first, and not at every log message.
    """DELETE FROM logs WHERE id IN (SELECT l.id FROM sessions s CROSS JOIN logs l ON l.session_id = s.id
        WHERE s.status != 'active' AND s.kept_at < :before LIMIT :slice)""",
    "DELETE FROM sessions WHERE status != 'active' AND kept_at < :before",
    # In the order of ids, which is that of arrival, the search ends at the first one that is young. The plus sign keeps
    # SQLite from an index that would have it look at all of them.
    """DELETE FROM logs WHERE id IN (SELECT id FROM logs WHERE +session_id IS NULL AND kept_at < :before
        AND id < coalesce((SELECT id FROM logs WHERE kept_at >= :before ORDER BY id LIMIT 1), 1 << 62)
        ORDER BY id LIMIT :slice)""",
    "DELETE FROM log_batches WHERE kept_at < :before OR session_id NOT IN (SELECT id FROM sessions)",
)


async def tidy(store: Store) -> None:
    """Forget what is too old; trouble is logged, the platform goes on without."""
    before = time.time_ns() // 1000 - DAYS * 86_400_000_000
    try:
        while await store.write(forget, before=before):
            pass
    except sqlite3.Error as error:
        log.warning("Could not delete old sessions and logs: %s", error)


def forget(connection: sqlite3.Connection, *, before: int) -> bool:
    """Delete one slice of what was kept `before` (microseconds since 1970); tell whether there may be more."""
    values = {"before": before, "slice": SLICE}
    return any(connection.execute(statement, values).rowcount for statement in STATEMENTS)
