"""The version of the platform's properties in pytest's JUnit file, which its SDK means to write and does not.

`roboticks-sdk` 0.3.0 asks the plugin called junitxml for `add_global_property`; pytest keeps that elsewhere.
"""

from __future__ import annotations

import pytest

NAME = "roboticks_schema_version"
VERSION = "2"
"""Documented: the version that has `roboticks.nodeid` and `roboticks.attach.*`."""

SDK = "roboticks.pytest_plugin"


class Schema:
    """A plugin that adds the version once, if the SDK is there or any test has a property of its."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_due = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look for properties."""
        if not self._is_due and report.user_properties:
            self._is_due = any(str(name).startswith("roboticks.") for name, _ in report.user_properties)

    @pytest.hookimpl(tryfirst=True)  # before the file is written
    def pytest_sessionfinish(self) -> None:
        """Add it, unless somebody has."""
        from _pytest.junitxml import xml_key

        xml = self._config.stash.get(xml_key, None)
        if xml is None or any(name == NAME for name, _ in xml.global_properties):
            return
        plugins = self._config.pluginmanager.get_plugins()
        if self._is_due or any(getattr(each, "__name__", "") == SDK for each in plugins):
            xml.add_global_property(NAME, VERSION)
