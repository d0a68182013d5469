"""Real parts that tests need: found, or honestly missing."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin")
"""Where Debian puts daemons; often not on an ordinary user's PATH."""


def find(program: str) -> str | None:
    """Return the path of `program`, on PATH or in the system folders, or None."""
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(SYSTEM_FOLDERS))


def require(program: str) -> str:
    """Return the path of `program`; without it, skip the test on a laptop and fail it in CI."""
    return find(program) or missing(f"{program} is not installed")


def missing(reason: str) -> NoReturn:
    """End a test whose real part is not here: it is skipped on a laptop, and fails in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}: CI must install it", pytrace=False)
    pytest.skip(reason)
