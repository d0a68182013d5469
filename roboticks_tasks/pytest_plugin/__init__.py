"""The pytest plugin: fixtures on the run that has started the tests, or that `--profile` starts as its own process.

No lifecycle in here. Outside a run nothing of the package is imported but what stops pytest in order, until a test asks
for a fixture.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from roboticks_tasks.models import Deployment, Session
    from roboticks_tasks.profiles import Profile
    from roboticks_tasks.pytest_plugin.attachments import Attachments
    from roboticks_tasks.pytest_plugin.bus_assertions import Bus
    from roboticks_tasks.pytest_plugin.console_text import Console
    from roboticks_tasks.pytest_plugin.device_facts import Device
    from roboticks_tasks.pytest_plugin.here import Here
    from roboticks_tasks.pytest_plugin.platform_client import Platform
    from roboticks_tasks.pytest_plugin.power_switch import PowerSwitch
    from roboticks_tasks.pytest_plugin.shell import Shell
    from roboticks_tasks.state import RunState
    from roboticks_tasks.targets import Target

T = TypeVar("T")

RUN_VARIABLE = "ROBOTICKS_RUN"
"""Names the run's folder; `pytest_session` sets it."""

MARKERS = (
    "requires(feature): skip the test on a board that lacks the feature, see `boards.features` of the profile",
    "hil_timeout(seconds): fail the test when it takes longer; the run's --timeout-multiplier scales it",
    "destructive: may wear or wreck the board: skip the test unless --destructive, or the profile's "
    "`tests.destructive`, allows it",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `pytest --profile NAME` bring up, and tear down, what its tests need."""
    from roboticks_tasks.pytest_plugin.short_names import offer

    offer(parser)
    group = parser.getgroup("roboticks")
    group.addoption(
        "--roboticks-profile",
        metavar="NAME",
        help="bring up a board of this profile (a name or a TOML file) for the tests, or use the run that is kept; "
        "--profile will do, and --board and --destructive, unless a plugin or a conftest.py has an option of that name",
    )
    group.addoption(
        "--roboticks-board",
        metavar="ID",
        help="with a profile: one of its boards (default: ROBOTICKS_BOARD, else a free one)",
    )
    text = "run the tests that are marked `destructive`, too"
    group.addoption("--roboticks-destructive", action="store_true", help=text)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(
    config: pytest.Config,
) -> Generator[None, int | pytest.ExitCode | None, int | pytest.ExitCode | None]:
    """Let SIGINT, SIGTERM and SIGHUP stop every session in order, not only that of a run; have a run attended.

    A user's own fixture may have brought the device up, in this process or in a worker of xdist, and nobody wants
    pytest to die without tearing that down. Who has handlers of his own keeps them.
    """
    from roboticks_tasks.pytest_plugin.stopping import stoppable

    if config.getoption("xmlpath", None) or config.getoption("roboticks_profile", None):
        from roboticks_tasks.pytest_plugin.schema import Schema

        config.pluginmanager.register(Schema(config), "roboticks_schema")
    with stoppable(config) as stop:
        named = RUN_VARIABLE in os.environ or config.getoption("roboticks_profile", None)
        if not named:
            return stop.exit_code((yield))
        from roboticks_tasks.pytest_plugin.running import attended

        with attended(config, stop) as code_of:
            return code_of(stop.exit_code((yield)))


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Hand `hil_timeout` to pytest-timeout, where that is installed."""
    if item.get_closest_marker("hil_timeout"):
        from roboticks_tasks.pytest_plugin.markers import hand_over

        hand_over(item)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the board of the run cannot, or may not, be used for; without a run the fixtures say so."""
    if os.environ.get(RUN_VARIABLE) and any(item.get_closest_marker(name) for name in ("requires", "destructive")):
        from roboticks_tasks.pytest_plugin.markers import skip_unless_wanted

        skip_unless_wanted(item, Path(os.environ[RUN_VARIABLE]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Limit the time of a test ourselves, where pytest-timeout does not."""
    if not item.get_closest_marker("hil_timeout"):
        yield
        return
    from roboticks_tasks.pytest_plugin.markers import limited

    with limited(item):
        yield


@pytest.fixture(scope="session")
def roboticks_run() -> RunState:
    """The state of the run that started these tests."""
    folder = os.environ.get(RUN_VARIABLE)
    if not folder:
        pytest.fail(
            f"no run: {RUN_VARIABLE} is not set; start the tests with `pytest --profile NAME` or "
            "`roboticks-tasks hil-test`",
            pytrace=False,
        )
    from roboticks_tasks.errors import ConfigError
    from roboticks_tasks.state import load

    try:
        return load(Path(folder))
    except ConfigError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def device(roboticks_here: Here) -> Device:
    """The device under test: `dsn`, `board_id`, `features`, `certificate` (read on the board when asked for)."""
    from roboticks_tasks.pytest_plugin.device_facts import MOST, Device
    from roboticks_tasks.pytest_plugin.shell import Shell

    spec = roboticks_here.profile.device_manager

    def read_certificate() -> bytes:
        with _shell_of(roboticks_here) as shell:
            return Shell(shell, roboticks_here).get(spec.certificate_file.replace("{root}", spec.root), most=MOST)

    board = roboticks_here.board
    dsn = _given(roboticks_here.run.dsn, "await_dsn").value
    return Device(dsn, board_id=board.id, features=board.features, read_certificate=read_certificate)


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
    from roboticks_tasks.pytest_plugin.platform_client import Platform

    with open_client(_given(roboticks_run.backend, "launch_dm")) as client:
        yield Platform(client)


@pytest.fixture
def bus(roboticks_run: RunState) -> Iterator[Bus]:
    """The messages of the modules since the test began: `expect`, `collect`, `assert_order`, `assert_rate`, `gaps`."""
    endpoint = _given(roboticks_run.deployment, "deploy").bus
    if endpoint is None:
        pytest.skip("the device manager reports no message bus")
    pytest.importorskip("zmq", reason="the message bus needs pyzmq: install roboticks-tasks[sim]")
    from roboticks_tasks.pytest_plugin.bus_assertions import open_bus

    with open_bus(endpoint) as monitor:
        yield monitor


@pytest.fixture(scope="session")
def target(roboticks_here: Here) -> Iterator[Shell]:
    """A shell on the board: `run`, `put`, `get`, `reboot`, `wait`; all that it does is noted in the run's folder."""
    from roboticks_tasks.pytest_plugin.shell import Shell

    with _shell_of(roboticks_here) as shell:
        yield Shell(shell, roboticks_here)


@pytest.fixture(scope="session")
def console(roboticks_here: Here, request: pytest.FixtureRequest) -> Iterator[Console]:
    """The board's serial console, as its capture has it: `expect(pattern, timeout)`, `send`, `send_line`, `seen`."""
    board, profile = roboticks_here.board, roboticks_here.profile
    if board.console is None:
        pytest.skip(f"board {board.id} has no console in profile {profile.name!r}")
    from roboticks_tasks.pytest_plugin.console_text import Beginnings, Console
    from roboticks_tasks.serial_console.registration import find_capture

    capture = find_capture(board.console.port)
    if capture is None:
        pytest.fail(f"the console of board {board.id} is not captured (any more), see console.log", pytrace=False)
    is_shell = profile.target.kind == "serial" and profile.device_manager.kind != "firmware"
    console = Console(board.console, capture, board=board.id, is_shell=is_shell)
    beginnings = Beginnings(console)
    request.config.pluginmanager.register(beginnings)
    yield console
    request.config.pluginmanager.unregister(beginnings)
    console.close()


@pytest.fixture
def power(roboticks_here: Here) -> Iterator[PowerSwitch]:
    """The board's power: `on`, `off`, `cycle`, `state`; after the test it is what it was before."""
    if roboticks_here.board.power is None:
        pytest.skip(f"board {roboticks_here.board.id} has no power in profile {roboticks_here.profile.name!r}")
    from roboticks_tasks.pytest_plugin.power_switch import restoring
    from roboticks_tasks.pytest_plugin.shell import wait_for_board

    with restoring(roboticks_here, lambda: wait_for_board(roboticks_here, lambda: _shell_of(roboticks_here))) as switch:
        yield switch


@pytest.fixture
def artifacts(roboticks_here: Here, request: pytest.FixtureRequest) -> Attachments:
    """Files that belong to the test, kept with the run: `attach(path_or_bytes_or_text, name, media_type)`."""
    from roboticks_tasks.pytest_plugin.attachments import Attachments

    def tell(name: str, value: str) -> None:
        request.node.user_properties.append((name, value))

    return Attachments(roboticks_here.folder, request.node.nodeid, redactor=roboticks_here.redactor, tell=tell)


@pytest.fixture(scope="session")
def roboticks_profile(roboticks_here: Here) -> Profile:
    """The profile of the run, with its one board."""
    return roboticks_here.profile


@pytest.fixture(scope="session")
def roboticks_here(roboticks_run: RunState) -> Here:
    """The run around the tests, for the other fixtures: its folder, state and profile."""
    from roboticks_tasks.errors import ConfigError
    from roboticks_tasks.pytest_plugin.here import here

    try:
        return here(Path(os.environ[RUN_VARIABLE]), roboticks_run)
    except ConfigError as error:
        pytest.fail(str(error), pytrace=False)


def _shell_of(here: Here) -> AbstractContextManager[Target]:
    if here.profile.device_manager.kind == "firmware":
        pytest.skip(f"board {here.board.id} is a microcontroller, which has no shell")
    from roboticks_tasks.targets.lending import open_shared

    return open_shared(here.profile, here.folder)


def _given(value: T | None, step: str) -> T:
    if value is None:
        pytest.fail(f"this run has no result of {step}: it has not run, or has failed", pytrace=False)
    return value
