"""The bus's port: the documented one may move, one that was asked for may not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import zmq

from roboticks_tasks.sim.device_manager import bus
from roboticks_tasks.sim.device_manager.endings import Ending


@pytest.fixture
def taken() -> Iterator[int]:
    with zmq.Context() as context, context.socket(zmq.PUB) as occupant:
        yield occupant.bind_to_random_port("tcp://127.0.0.1")


async def address(port: int | None) -> str:
    opened = bus.Bus(port, {})
    try:
        return opened.subscribe
    finally:
        opened.close()


def test_the_default_port_moves_when_it_is_taken(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "PORT", taken)

    moved = asyncio.run(address(None))

    assert moved.startswith("tcp://127.0.0.1:")
    assert moved != f"tcp://127.0.0.1:{taken}"


def test_a_port_that_was_asked_for_does_not_move(taken: int) -> None:
    with pytest.raises(Ending, match=f"the bus cannot have tcp://127.0.0.1:{taken}: Address already in use") as caught:
        asyncio.run(address(taken))

    assert caught.value.exit_code == 2


def test_only_a_taken_port_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "PORT", "no-port")

    with pytest.raises(Ending, match=r"the bus cannot have tcp://127\.0\.0\.1:no-port: Invalid argument"):
        asyncio.run(address(None))
