"""Whatever part of a run is killed, and whenever: nothing is left behind, and nothing that was recorded is lost."""

from __future__ import annotations

import pytest

from tests.faults.cases import Case, play, short_folder
from tests.faults.moments import PUBLISHING, Moment

CELLS = {
    ("sim", "SIGKILL of the run"): (
        [
            "ensure_backend",
            "launch_dm",
            "await_dsn",
            "await_session",
            "deploy",
            "pytest_session",
            "teardown",
            PUBLISHING,
        ]
    ),
    ("sim", "SIGKILL of nox"): ["launch_dm"],
    ("sim", "SIGKILL of the guard"): ["launch_dm"],
    ("sim", "SIGKILL of run and guard"): ["launch_dm", "pytest_session"],
    ("sim", "SIGKILL of run and guard, reaped"): ["deploy", PUBLISHING],
    ("sim", "SIGTERM of the run"): [PUBLISHING],
    ("sim", "disk full"): [PUBLISHING],
    ("sim", "SIGKILL of the tests"): ["pytest_session"],
    ("sim", "SIGKILL of the device manager"): ["await_session", "deploy", "pytest_session"],
    ("sim", "SIGKILL of the platform"): ["await_dsn", "await_session", "pytest_session"],
    ("sim", "SIGKILL of run and platform"): ["deploy"],
    ("sim", "SIGKILL of run and device manager"): ["deploy"],
    ("ssh", "SIGKILL of the run"): ["await_dsn", "pytest_session"],
    ("ssh", "SIGKILL of the ssh link"): ["await_session", "pytest_session"],
    ("ssh", "SIGKILL of the ssh connection"): ["deploy"],
}
"""What is killed on which kind of bench, at the start of each of these steps."""

CASES = [Case(kind, fault, Moment(step)) for (kind, fault), steps in CELLS.items() for step in steps]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_is_left_behind_or_lost_when_a_part_is_killed(case: Case) -> None:
    with short_folder() as folder:
        outcome = play(case, folder)
    assert outcome.problems == []
    assert not outcome.missed
