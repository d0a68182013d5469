"""The answers of ctl: an error nobody thought of is the asker's bad luck, not the device manager's end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from roboticks_tasks.sim.device_manager import ctl, endings
from roboticks_tasks.sim.device_manager.control import Control
from roboticks_tasks.sim.device_manager.deployment import CompositionError
from roboticks_tasks.sim.device_manager.journal import Journal

Asker = Callable[[Exception], tuple[str, list[object]]]


@pytest.fixture
def asked(tmp_path: Path) -> Asker:
    """Return what a request gets whose execution raises an error, and what the event loop hears of it."""
    trouble: list[object] = []

    async def scene(error: Exception) -> str:
        def answer(_arguments: list[str]) -> Awaitable[dict[str, Any]]:
            raise error

        asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context.get("exception")))
        control = Control(tmp_path, Journal(tmp_path / "log"), answer)
        await control.open()
        try:
            return await asyncio.to_thread(ctl.ask, str(tmp_path), ["status"])
        finally:
            control.close()

    return lambda error: (asyncio.run(scene(error)), trouble)


def test_an_unforeseen_error_is_answered_and_logged(asked: Asker, tmp_path: Path) -> None:
    answer, trouble = asked(ZeroDivisionError("of all things"))

    assert answer == "1 status: internal error: ZeroDivisionError('of all things') (the log says more)\n"
    assert trouble == []
    assert "ERROR [control] ZeroDivisionError: of all things\n" in (tmp_path / "log").read_text()


def test_a_name_that_is_no_unicode_is_answered(asked: Asker) -> None:
    answer, trouble = asked(CompositionError("unknown composition (known: \udcff)"))

    assert answer == "1 unknown composition (known: \\udcff)\n"
    assert trouble == []


def test_a_full_disk_still_ends_the_device_manager(asked: Asker) -> None:
    ending = endings.storage("/log", OSError(28, "No space left on device"))

    answer, trouble = asked(ending)

    assert (answer, trouble) == ("", [ending])
