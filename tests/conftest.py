"""In CI everything that a test needs is installed, so a skipped test is a mistake there."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from roboticks_tasks import bench
from tests.terminal import heed_signals


@pytest.fixture(scope="session", autouse=True)
def own_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep leases, quarantine, ledger and history of the tests apart from those of this machine's real boards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(bench.VARIABLE, str(tmp_path_factory.mktemp("bench")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("ROBOTICKS_HISTORY", str(tmp_path_factory.mktemp("history") / "history.sqlite3"))
        patch.delenv("GITHUB_STEP_SUMMARY", raising=False)
        yield


def pytest_configure() -> None:
    """Have signals do what they do at a terminal."""
    heed_signals()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in CI that has skipped a test; on a laptop a skip with its reason is honest."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("CI does not skip tests: install what they need", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
