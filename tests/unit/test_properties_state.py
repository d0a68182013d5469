"""A run's state on disk: it comes back as it was, or as it was before, or a sentence says that it is damaged."""

from __future__ import annotations

import errno
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboticks_tasks import state
from roboticks_tasks.errors import ConfigError
from roboticks_tasks.profiles import Profile
from roboticks_tasks.state import RunState

st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(int, st.integers(-(1 << 63), (1 << 63) - 1))
STATES = st.from_type(RunState)
"""Any state, with all the values of its steps."""


DEEP = [b"[" * 5_000, b'{"steps":[' * 999, b'{"board":' * 999, b"9" * 5000]


@contextmanager
def folder_with(content: bytes) -> Iterator[Path]:
    """Lend a run folder whose state file has this content."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / state.STATE_FILE).write_bytes(content)
        yield Path(name)


def written(run: RunState) -> bytes:
    """Return what a state's file holds."""
    with tempfile.TemporaryDirectory() as name:
        state.save(Path(name), run, durable=False)
        return (Path(name) / state.STATE_FILE).read_bytes()


@settings(max_examples=40)
@given(STATES)
def test_any_state_comes_back_as_it_was(run: RunState) -> None:
    with folder_with(written(run)) as folder:
        assert state.load(folder) == run


def assert_whole_or_damaged(content: bytes) -> RunState | None:
    """Load a state with this content: a value, or ConfigError with a sentence."""
    with folder_with(content) as folder:
        try:
            return state.load(folder)
        except ConfigError as error:
            said = str(error)
        assert said.startswith(f"{folder / state.STATE_FILE} is damaged or of another version: ")
        return None


@pytest.fixture(scope="module")
def usual() -> bytes:
    """The state of a new run."""
    with tempfile.TemporaryDirectory() as name:
        state.create(Path(name), Profile(name="sim"))
        return (Path(name) / state.STATE_FILE).read_bytes()


@given(data=st.data())
def test_a_state_that_is_cut_off_is_called_damaged(usual: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(usual.rstrip()) - 1))
    assert assert_whole_or_damaged(usual[:cut]) is None


@given(data=st.data())
def test_a_state_that_is_overwritten_anywhere_is_a_state_or_damaged(usual: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(usual)))
    patch = data.draw(st.binary(min_size=1, max_size=8))
    assert_whole_or_damaged(usual[:at] + patch + usual[at + len(patch) :])


@given(st.one_of(st.binary(), st.sampled_from(DEEP)))
def test_any_file_is_a_state_or_damaged(content: bytes) -> None:
    assert_whole_or_damaged(content)


CALLS = ("builtins.open", "io.open", "os.open", "os.write", "os.fsync", "os.rename", "os.replace", "os.unlink")
PATH_CALLS = ("open", "replace", "rename", "unlink", "write_bytes")
ERRORS = (OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "Input/output error"))


class Killed(BaseException):
    """Nothing that comes after this happens; what a signal's handler raises is like it."""


@contextmanager
def file_with(content: bytes | None) -> Iterator[Path]:
    """Lend the path of a file with this content, or of none."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "file"
        if content is not None:
            path.write_bytes(content)
        yield path


def content_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.strerror)
@pytest.mark.parametrize("call", [*CALLS, *(f"pathlib.Path.{name}" for name in PATH_CALLS)])
@pytest.mark.parametrize("before", [None, b"", b"before"])
def test_a_write_of_which_any_call_fails_leaves_the_old_content_or_has_the_new(
    call: str, error: OSError, before: bytes | None
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    said = None
    with file_with(before) as path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(call, fail)
            try:
                state.write_atomically(path, b"after")
            except ConfigError as raised:
                said = str(raised)
        assert content_of(path) == (before if said else b"after")
        assert said is None or (f"{path.parent} cannot be written" in said and str(error.strerror) in said)


@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("before", [None, b"before"])
def test_a_write_that_is_killed_between_any_two_lines_leaves_the_old_or_the_new_content(before: bytes | None) -> None:
    seen = set()
    for lines in itertools.count(1):
        with file_with(before) as path:
            survived = _killed_after(lines, partial(state.write_atomically, path, b"after"))
            seen.add(content_of(path))
            assert content_of(path) in (before, b"after")
            if survived:
                break
    assert lines > 5
    assert seen == {before, b"after"}


def _killed_after(lines: int, function: Callable[[], None]) -> bool:
    """Call the function, which is killed before the line of ours that comes after `lines`; tell whether it survived."""
    left = lines

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal left
        if "roboticks_tasks" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                raise Killed
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except Killed:
        return False
    finally:
        sys.settrace(before)
    return True
