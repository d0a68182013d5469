"""The markers: which board a test needs, how long it may take, and whether it may do harm."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from roboticks_tasks.profiles import Profile

MULTIPLIER_VARIABLE = "ROBOTICKS_TIMEOUT_MULTIPLIER"
"""What the run multiplies its timeouts with."""

ALARM = signal.SIGRTMIN + 7
"""Ends a test that takes too long. Of the signals for everyone's own use that programs hardly ever do use."""


def skip_unless_wanted(item: pytest.Item, run: Path) -> None:
    """Skip a test whose board lacks what it `requires`, and a `destructive` one that nobody has allowed."""
    from roboticks_tasks.errors import ConfigError
    from roboticks_tasks.profiles import board_of

    try:
        profile = _profile_in(run)
    except ConfigError as error:
        pytest.fail(str(error), pytrace=False)
    board = board_of(profile)
    missing = [each for each in _required(item) if each not in board.features]
    if missing:
        has = ", ".join(board.features) or "none"
        _skip(f"board {board.id} has no {' and no '.join(missing)}; its features: {has}")
    allowed = item.config.getoption("roboticks_destructive", False) or profile.tests.destructive
    if item.get_closest_marker("destructive") and not allowed:
        _skip(f"destructive: neither --destructive nor `tests.destructive` of profile {profile.name!r} allows it")


def hand_over(item: pytest.Item) -> None:
    """Let pytest-timeout, where it is there, do what `hil_timeout` says; a wrong limit is told when the test runs."""
    if _has_timeout(item.config):
        with suppress(ValueError):
            item.add_marker(pytest.mark.timeout(_limit(item)))


@contextmanager
def limited(item: pytest.Item) -> Iterator[None]:
    """Fail the block when it takes longer than `hil_timeout` allows, where pytest-timeout does not do it.

    A signal breaks off what blocks, but SIGALRM stays the tests' own. Only the main thread can be limited.
    """
    try:
        seconds = _limit(item)
    except ValueError as error:
        pytest.fail(str(error), pytrace=False)
    is_main = threading.current_thread() is threading.main_thread()
    if _has_timeout(item.config) or not is_main:
        yield
        return
    main = threading.get_ident()
    is_over = False

    def end(_number: int, _frame: FrameType | None) -> None:
        if not is_over:
            pytest.fail(f"the test took more than {seconds:g} s (hil_timeout)")

    previous = signal.signal(ALARM, end)
    timer = threading.Timer(seconds, lambda: signal.pthread_kill(main, ALARM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        is_over = True
        timer.cancel()
        timer.join()
        signal.signal(ALARM, previous)


def _skip(reason: str) -> NoReturn:
    """Skip the test as pytest's own marker does: the report names the test's line, not this one."""
    raise pytest.skip.Exception(reason, _use_item_location=True)


def _has_timeout(config: pytest.Config) -> bool:
    return any(map(config.pluginmanager.hasplugin, ("timeout", "pytest_timeout")))


def _limit(item: pytest.Item) -> float:
    """Return the seconds that a test may take, scaled as the run's timeouts are; ValueError when that is no time."""
    marker = item.get_closest_marker("hil_timeout")
    assert marker is not None
    seconds = marker.args[0] if marker.args else marker.kwargs.get("seconds")
    if not isinstance(seconds, int | float) or not 0 < seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"hil_timeout takes seconds, a number above 0, not {seconds!r}")
    return seconds * _multiplier(item.config)


@lru_cache(maxsize=1)
def _profile_in(run: Path) -> Profile:
    from roboticks_tasks.pytest_plugin.here import here
    from roboticks_tasks.state import load

    return here(run, load(run)).profile


def _required(item: pytest.Item) -> Iterator[str]:
    for marker in item.iter_markers("requires"):
        wanted = marker.kwargs.get("feature", marker.args)
        features = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        if not features or not all(isinstance(each, str) for each in features):
            pytest.fail('requires takes a feature of the board: requires(feature="gpu")', pytrace=False)
        yield from features


def _multiplier(config: pytest.Config) -> float:
    given = config.getoption("timeout_multiplier", None) or os.environ.get(MULTIPLIER_VARIABLE)
    try:
        factor = float(given or 1.0)
    except ValueError:
        return 1.0
    return factor if 0 < factor < float("inf") else 1.0
