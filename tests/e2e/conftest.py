"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench on which nothing may be left when the test has passed."""
    one = Bench(tmp_path)
    try:
        yield one
        one.assert_nothing_is_left()
    finally:
        one.kill_everything()


@pytest.fixture(scope="module")
def shared_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A bench for tests that only look at one finished run."""
    one = Bench(tmp_path_factory.mktemp("bench"))
    try:
        yield one
        one.assert_nothing_is_left()
    finally:
        one.kill_everything()
