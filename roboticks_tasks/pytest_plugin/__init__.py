"""The pytest plugin: fixtures that read the state of the run which started the tests. No lifecycle in here.

Nothing of the package but what stops pytest in order is imported until a test asks for a fixture.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from roboticks_tasks.models import Deployment, Session
    from roboticks_tasks.pytest_plugin.bus import Bus
    from roboticks_tasks.pytest_plugin.device import Device
    from roboticks_tasks.pytest_plugin.platform import Platform
    from roboticks_tasks.state import RunState

T = TypeVar("T")

RUN_VARIABLE = "ROBOTICKS_RUN"
"""Names the run's folder; `pytest_session` sets it."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(
    config: pytest.Config,
) -> Generator[None, int | pytest.ExitCode | None, int | pytest.ExitCode | None]:
    """Let SIGINT, SIGTERM and SIGHUP stop every session in order, not only that of a run.

    A user's own fixture may have brought the device up, in this process or in a worker of xdist, and nobody wants
    pytest to die without tearing that down. Who has handlers of his own keeps them.
    """
    from roboticks_tasks.pytest_plugin.stopping import stoppable

    with stoppable(config) as stop:
        return stop.exit_code((yield))


@pytest.fixture(scope="session")
def roboticks_run() -> RunState:
    """The state of the run that started these tests."""
    folder = os.environ.get(RUN_VARIABLE)
    if not folder:
        pytest.fail(
            f"no run: {RUN_VARIABLE} is not set; start the tests with `roboticks-tasks hil-test` or `pytest-session`",
            pytrace=False,
        )
    from roboticks_tasks.errors import ConfigError
    from roboticks_tasks.state import load

    try:
        return load(Path(folder))
    except ConfigError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def device(roboticks_run: RunState) -> Device:
    """The device under test: its `dsn`."""
    from roboticks_tasks.pytest_plugin.device import Device

    return Device(dsn=_given(roboticks_run.dsn, "await_dsn").value)


@pytest.fixture(scope="session")
def session(roboticks_run: RunState) -> Session:
    """The session of this run: `id`, `dsn`."""
    return _given(roboticks_run.session, "await_session")


@pytest.fixture(scope="session")
def deployment(roboticks_run: RunState) -> Deployment:
    """What runs on the device: `compositions` (name, mode, status), `mode`."""
    return _given(roboticks_run.deployment, "deploy")


@pytest.fixture(scope="session")
def platform(roboticks_run: RunState) -> Iterator[Platform]:
    """The platform's REST interface, and `wait_for` for what it will know in a moment."""
    from roboticks_tasks.backend import open_client
    from roboticks_tasks.pytest_plugin.platform import Platform

    with open_client(_given(roboticks_run.backend, "launch_dm")) as client:
        yield Platform(client)


@pytest.fixture
def bus(deployment: Deployment) -> Iterator[Bus]:
    """The messages that the modules publish, from the moment the fixture is made."""
    if deployment.bus is None:
        pytest.skip("the device manager reports no message bus")
    pytest.importorskip("zmq", reason="the message bus needs pyzmq: install roboticks-tasks[sim]")
    from roboticks_tasks.pytest_plugin.bus import open_bus

    with open_bus(deployment.bus) as monitor:
        yield monitor


def _given(value: T | None, step: str) -> T:
    if value is None:
        pytest.fail(f"this run has no result of {step}: it has not run, or has failed", pytrace=False)
    return value
