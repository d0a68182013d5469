"""Runs and the workers of pytest-xdist: one worker per board."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

WORKERS_RUN = "roboticks_run"
"""The key under which a worker gets the folder of its run."""

TOLD = "roboticks_told"
"""The key under which a worker gets the name of a file with what its run tells its tests by their environment."""

HIL_TESTS = "roboticks_hil_tests"
"""The key under which a worker gets the name of a file, in which it names the tests that use the board."""

GROUP = "roboticks-board"


class SharedBoard:
    """A plugin for the controller whose workers have one board: the tests that use it are run by one worker.

    Marks for `--dist loadgroup` would do if they reached the controller; with pytest 9.2 those of xdist 3.8 do not.
    """

    def __init__(self, scratch: Path) -> None:
        self._file = scratch

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to name its tests; all of them have the same."""
        node.workerinput[HIL_TESTS] = str(self._file)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> object:
        """Return a scheduler that keeps these tests together, unless the user wants another distribution."""
        return scheduler(config, log, self._file) if config.option.dist in {"load", "loadgroup"} else None

    def pytest_unconfigure(self) -> None:
        """Remove the file."""
        self._file.unlink(missing_ok=True)


def scheduler(config: pytest.Config, log: Any, file: Path) -> object:
    """Return a scheduler for xdist that sends all tests which `file` names to one worker, as one group."""
    from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]

    class Scheduling(LoadGroupScheduling):  # type: ignore[misc]
        together: frozenset[str] | None = None

        def _split_scope(self, nodeid: str) -> str:
            if self.together is None:  # asked for when every worker has collected
                self.together = frozenset(read_names(file))
            return GROUP if nodeid in self.together else str(super()._split_scope(nodeid))

        def remove_node(self, node: Any) -> str | None:
            """Return the test that the worker died of, which xdist would give to the next worker, and so on."""
            units = self.assigned_work[node].values()
            culprit = next(((unit, name) for unit in units for name, is_done in unit.items() if not is_done), None)
            if culprit is not None:
                culprit[0][culprit[1]] = True
            super().remove_node(node)
            return culprit[1] if culprit is not None else None

    return Scheduling(config, log)


def read_names(file: Path) -> list[str]:
    """Return the names of tests in a file, none where there is no file."""
    try:
        names: list[str] = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return []
    return names


class Names:
    """A plugin for a worker that names the tests which use the board, before xdist says that it has collected."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write the names."""
        names = [item.nodeid for item in session.items if uses_fixtures_of_ours(item)]
        new = self._file.with_suffix(f".{os.getpid()}")
        with suppress(OSError):  # then they are like other tests
            new.write_text(json.dumps(names), encoding="utf-8")
            new.replace(self._file)


def uses_fixtures_of_ours(item: pytest.Item) -> bool:
    """Tell whether a test, or a fixture that it asks for, asks for one of this plugin's that nobody has overridden."""
    info = getattr(item, "_fixtureinfo", None)
    return any(map(_is_ours, info.name2fixturedefs.values())) if info is not None else False


def _is_ours(definitions: Sequence[pytest.FixtureDef[Any]]) -> bool:
    """Tell whether the last definition of a fixture, or the one that it asks for by its own name, is ours."""
    for each in reversed(definitions):
        if str(each.func.__module__).startswith(__package__):
            return True
        if each.argname not in each.argnames:
            return False
    return False


def write_part(junit: Path, part: Path, cases: Collection[tuple[str, str]]) -> bool:
    """Write the cases of a JUnit file that one of several runs has had; return whether one of them has failed."""
    tree = ElementTree.parse(junit)  # noqa: S314 - written by this very process
    failed = False
    for suite in tree.getroot().iter("testsuite"):
        kept = []
        for case in suite.findall("testcase"):
            if (case.get("classname"), case.get("name")) in cases:
                kept.append(case)
            else:
                suite.remove(case)
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            count = sum(case.find(tag) is not None for case in kept)
            suite.set(attribute, str(count))
            failed |= count > 0 and tag != "skipped"
        suite.set("tests", str(len(kept)))
    tree.write(part, encoding="utf-8", xml_declaration=True)
    return failed
