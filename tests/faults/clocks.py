"""A wall clock that jumps while programs look at it; their monotonic clock goes on as it does."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HOUR = 3600
DAY = 24 * HOUR


class Clock:
    """What programs that are started with `environment` take for the time: the real one, shifted."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._file = folder / "shift"
        self.environment = {**environment, "FAKETIME_TIMESTAMP_FILE": str(self._file)}
        self.shift(0)

    def shift(self, seconds: int) -> None:
        """Set the clock to the real time and `seconds`, for all of them at once."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._file)


@contextmanager
def faked_clock(folder: Path) -> Iterator[Clock]:
    """Lend a clock whose file is in `folder`; without libfaketime skip the test on a laptop and fail it in CI."""
    environment = {
        "LD_PRELOAD": str(_library()),
        # Each program looks at the file each time; the times of files are left as they are, as by a real jump.
        "FAKETIME_NO_CACHE": "1",
        "NO_FAKE_STAT": "1",
        # Under these two names, by version: else waits of Python's never end.
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    # The first of the programs makes shared memory and takes it away at its end, if it ends well: let it be this one.
    with subprocess.Popen(
        ["sh", "-c", 'echo "$FAKETIME_SHARED"; read -r _'],
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as keeper:
        assert keeper.stdin
        assert keeper.stdout
        shared = keeper.stdout.readline().strip()
        assert shared
        try:
            yield Clock(folder, {**environment, "FAKETIME_SHARED": shared})
        finally:
            keeper.stdin.close()
            keeper.wait()
            for name in shared.replace("/faketime_sem", "/sem.faketime_sem").split():  # a shell may end too fast for it
                Path(f"/dev/shm{name}").unlink(missing_ok=True)


def _library() -> Path:
    found = importlib.util.find_spec("libfaketime")
    for folder in found.submodule_search_locations or () if found else ():
        for path in Path(folder).rglob("libfaketime*.so*"):
            return path
    reason = "libfaketime is not installed"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}: CI must install it", pytrace=False)
    pytest.skip(reason)
