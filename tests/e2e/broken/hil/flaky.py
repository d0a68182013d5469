"""A test that is wrong now and then, whatever the product does: on each odd call in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_that_comes_and_goes(device: Any) -> None:
    calls = Path("calls")
    number = int(calls.read_text()) + 1 if calls.exists() else 1
    calls.write_text(str(number))

    assert number % 2 == 0, "the answer came too late"


def test_the_device_has_a_session(device: Any, session: Any) -> None:
    assert session.dsn == device.dsn
