"""What a run says of its board's health, for the quarantine."""

from __future__ import annotations

from roboticks_tasks.errors import BoardError
from roboticks_tasks.profiles import Profile
from roboticks_tasks.state import RunState

SAFE_STATE = "safe state"
"""The part of teardown that switches the board to what the profile calls safe."""


def note_health(profile: Profile, run: RunState) -> None:
    """Count a run whose board failed its preflight or its safe state; one that came further clears the count.

    The preflight is power, console, connection and identity. A run that was cancelled, which has little time for its
    teardown, says nothing against the board.
    """
    from roboticks_tasks.boards import quarantine

    reason = _failure(run)
    if reason is not None and run.signal is None:
        quarantine.note_failure(profile, reason)
    elif reason is None and any(step.name == "ensure_binary" for step in run.steps):
        quarantine.note_success(profile)


def _failure(run: RunState) -> str | None:
    for step in run.steps:
        if step.outcome == "failed" and step.exit_code == BoardError.exit_code:
            return step.error or step.name
    parts = run.teardown.parts if run.teardown is not None else ()
    return next((f"safe state: {part.detail}" for part in parts if part.name == SAFE_STATE and not part.ok), None)
