"""Importing the package costs next to nothing: what is heavy is loaded by the function that needs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import roboticks_tasks

HEAVY = {
    "argparse", "asyncio", "cryptography", "logging", "msgspec", "paho", "pytest", "requests", "serial", "sh",
    "sqlite3", "starlette", "subprocess", "tenacity", "urllib3", "uvicorn", "yaml", "zmq",
}  # fmt: skip
THIRD_PARTY = HEAVY - sys.stdlib_module_names


def imported_by(statement: str) -> set[str]:
    """Return the top-level names of what a statement imports in a fresh interpreter."""
    program = f"""
import sys
before = set(sys.modules)
{statement}
import json
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    environment = {"PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return set(json.loads(done.stdout))


def test_the_package_alone_imports_nothing_heavy() -> None:
    found = imported_by("import roboticks_tasks")
    assert {name.partition(".")[0] for name in found} & HEAVY == set()
    assert {name for name in found if name.startswith("roboticks_tasks.")} == set()


@pytest.mark.parametrize("module", ["cli", "__main__"])
def test_help_and_usage_errors_need_no_library(module: str) -> None:
    found = imported_by(f"import roboticks_tasks.{module}; roboticks_tasks.arguments.parser().format_help()")
    assert {name.partition(".")[0] for name in found} & THIRD_PARTY == set()
    assert not any(name.startswith("roboticks_tasks.lifecycle") for name in found)


def test_a_run_begins_without_what_only_its_reports_need() -> None:
    found = imported_by("import roboticks_tasks.commands")
    late = {"jinja2", "sqlite3", "urllib.request", "roboticks_tasks.history", "roboticks_tasks.upload"}
    assert found & {*late, "roboticks_tasks.reporting.page", "roboticks_tasks.reporting.timeline"} == set()


def test_the_pytest_plugin_costs_every_pytest_run_nothing_but_itself() -> None:
    found = imported_by("import pytest; before = set(sys.modules); import roboticks_tasks.pytest_plugin")
    assert {name.partition(".")[0] for name in found} & THIRD_PARTY == set()
    assert {name for name in found if name.startswith("roboticks_tasks")} == {
        "roboticks_tasks",
        "roboticks_tasks.pytest_plugin",
    }


def test_loading_a_profile_needs_nothing_of_the_network_and_no_simulation() -> None:
    found = imported_by("import roboticks_tasks; roboticks_tasks.load_profile('sim', environ={})")
    assert {name.partition(".")[0] for name in found} & THIRD_PARTY == {"msgspec"}
    assert not any(name.startswith("roboticks_tasks.sim") for name in found)


@pytest.mark.parametrize("name", roboticks_tasks.__all__)
def test_every_public_name_resolves_and_is_called_so(name: str) -> None:
    found = getattr(roboticks_tasks, name)
    assert found.__name__ == name
    assert found.__doc__


def test_the_public_names_are_sorted_and_complete() -> None:
    assert roboticks_tasks.__all__ == sorted(roboticks_tasks.__all__)
    assert set(roboticks_tasks.__all__) == set(roboticks_tasks._HOMES)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'roboticks_tasks' has no attribute 'lanuch_dm'"):
        _ = roboticks_tasks.lanuch_dm


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert roboticks_tasks.__version__ == version("roboticks-tasks")
