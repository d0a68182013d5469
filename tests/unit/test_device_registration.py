"""When the cached registration is used, and when the device registers again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from roboticks_tasks.sim.device_manager import registration
from roboticks_tasks.sim.device_manager.credentials import Credentials
from roboticks_tasks.sim.device_manager.journal import Journal
from roboticks_tasks.sim.device_manager.registration import Registration
from roboticks_tasks.sim.device_manager.settings import Settings
from roboticks_tasks.sim.device_manager.state import State
from tests.contract.http_server import Answer, Server, serving

ANSWER = {"dsn": "SIM-1", "certificate": "c", "ca_certificate": "a", "mqtt": {"host": "127.0.0.1", "port": 1}}


@pytest.fixture
def platform() -> Iterator[Server]:
    with serving() as server:
        server.answer = lambda _request: Answer(200, json.dumps(ANSWER).encode())
        yield server


@pytest.fixture
def obtain(platform: Server, tmp_path: Path) -> Callable[[bool], Registration]:
    def ask(test_device: bool) -> Registration:
        chosen = Settings(root=tmp_path, name="x", api_url=platform.url, test_device=test_device)
        kept, nothing = Credentials(folder=tmp_path), cast(State, None)
        return asyncio.run(registration.obtain(chosen, kept, cast(Journal, None), status=nothing))

    return ask


def test_a_registration_as_another_kind_of_device_is_not_used(
    platform: Server, obtain: Callable[[bool], Registration]
) -> None:
    found = [obtain(kind).from_cache for kind in (True, True, False, False, True)]

    assert found == [False, True, False, True, False]
    assert platform.methods == ["POST", "GET", "POST", "GET", "POST"]
    assert [json.loads(asked.body)["test_device"] for asked in platform.requests if asked.body] == [True, False, True]
