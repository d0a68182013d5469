"""Commands and session control: what is done for which message, once, and what is only logged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from roboticks_tasks.sim.device_manager.commands import Commands
from roboticks_tasks.sim.device_manager.journal import Journal
from roboticks_tasks.sim.device_manager.sessions import SessionRefusedError, Sessions


class Recorder:
    """Stands for the sessions: writes down what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.active: dict[str, str] | None = None

    async def start(self, name: str | None) -> None:
        self.asked.append(f"start {name}")

    async def stop(self) -> None:
        self.asked.append("stop")
        raise SessionRefusedError("no session is active")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "log")


@pytest.fixture
def commands(recorder: Recorder, journal: Journal) -> Commands:
    def at_once(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run(work)

    in_background: Callable[[Coroutine[Any, Any, None]], None] = at_once
    return Commands(cast(Sessions, recorder), journal, in_background)


def test_type_3_starts_and_type_4_stops_a_session(commands: Commands, recorder: Recorder, journal: Journal) -> None:
    commands.on_command({"command_id": "a", "type": 3, "payload": {"name": "bench"}})
    commands.on_command({"command_id": "b", "type": 4})

    assert recorder.asked == ["start bench", "stop"]
    assert journal.backlog[-1][1]["message"] == "no session is active"


def test_a_start_that_names_another_session_is_refused_with_a_log_line(
    commands: Commands, recorder: Recorder, journal: Journal
) -> None:
    commands.on_command({"command_id": "a", "type": 3, "payload": {"session_id": "one"}})
    recorder.active = {"id": "one"}
    commands.on_command({"command_id": "b", "type": 3, "payload": {"session_id": "two"}})

    assert recorder.asked == []
    assert journal.backlog[-1][1]["message"] == "refused to start session 'two': it is not the active one"
    commands.on_command({"command_id": "c", "type": 3, "payload": {"session_id": "one"}})
    assert recorder.asked == ["start None"]


def test_a_command_that_comes_twice_is_done_once(commands: Commands, recorder: Recorder) -> None:
    for _ in range(2):
        commands.on_command({"command_id": "a", "type": 3, "payload": None})

    assert recorder.asked == ["start None"]


@pytest.mark.parametrize("document", [None, [], "3", {"type": 3, "payload": "x"}, {"type": "3"}, {"type": 99}, {}])
def test_a_command_that_makes_no_sense_is_only_logged(
    commands: Commands, recorder: Recorder, journal: Journal, document: object
) -> None:
    commands.on_command(document)

    assert recorder.asked == []
    assert journal.backlog[-1][1]["level"] == "WARNING"


def test_a_module_starts_and_stops_sessions(commands: Commands, recorder: Recorder, journal: Journal) -> None:
    for action in ("start", "stop", "pause", None):
        commands.on_session_control({"action": action})

    assert recorder.asked == ["start None", "stop"]
    assert "unknown action: None" in journal.backlog[-1][1]["message"]
