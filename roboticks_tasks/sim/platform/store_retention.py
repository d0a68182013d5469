"""What the store forgets by itself, so that it does not grow for ever: our choice, nothing is documented."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from roboticks_tasks.sim.platform import store_files, store_test_runs
from roboticks_tasks.sim.platform.store import Store

log = logging.getLogger(__name__)

DAYS = 14
"""Ended sessions, logs outside sessions and test runs are kept this long, by the platform's clock."""

DAY = 86_400_000_000
"""Microseconds of a day: a test run that was not heard of for so long is over."""

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
    "DELETE FROM test_runs WHERE status != 'running' AND kept_at < :before",
    "DELETE FROM ingest_tokens WHERE revoked_at < :before",
)


async def tidy(store: Store, files: Path | None = None) -> None:
    """Forget what is too old, also of the folder `files`; trouble is logged, the platform goes on without."""
    now = time.time_ns() // 1000
    try:
        await store.write(store_test_runs.give_up, before=now - DAY)
        while await store.write(forget, before=now - DAYS * DAY):
            pass
        if files is not None:
            await store.write(forget_files, files, before=now - store_files.UNUSED_DAYS * DAY)
    except (sqlite3.Error, OSError) as error:
        log.warning("Could not delete old sessions, logs and test runs: %s", error)


def forget_files(connection: sqlite3.Connection, folder: Path, *, before: int) -> None:
    """Delete the files that no results have named, and those in the folder that nothing is known of."""
    connection.execute("DELETE FROM files WHERE run_id IS NULL AND created_at < ?", (before,))
    known = store_files.all_ids(connection)
    for path in folder.iterdir():
        if path.name not in known and not path.name.startswith("."):
            with suppress(OSError):
                path.unlink()


def forget(connection: sqlite3.Connection, *, before: int) -> bool:
    """Delete one slice of what was kept `before` (microseconds since 1970); tell whether there may be more."""
    values = {"before": before, "slice": SLICE}
    return any(connection.execute(statement, values).rowcount for statement in STATEMENTS)
