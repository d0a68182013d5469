"""In CI everything that a test needs is installed, so a skipped test is a mistake there."""

from __future__ import annotations

import os

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in CI that has skipped a test; on a laptop a skip with its reason is honest."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("CI does not skip tests: install what they need", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
