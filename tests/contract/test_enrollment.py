"""`enroll` against a real sshd: what is pinned is what ssh trusts afterwards, and nothing before."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roboticks_tasks.board_commands.enrollment import enroll
from roboticks_tasks.errors import BoardError, RoboticksError
from roboticks_tasks.profiles import load_profile
from roboticks_tasks.profiles.files import ENVIRONMENT
from roboticks_tasks.targets import open_target
from tests.contract.sshd import Sshd, make_key, running_sshd


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    monkeypatch.chdir(tmp_path)
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    with running_sshd(tmp_path / "sshd") as server:
        server.known_hosts.unlink()
        yield server


def run(sshd: Sshd, **given: Any) -> int:
    text = f"""
        target = {{ kind = "ssh", user = "{sshd.user}", identity_file = "{sshd.key}", known_hosts = "pins" }}
        [[boards]]
        id = "a"
        host = "127.0.0.1"
        port = {sshd.port}
    """
    Path("p.toml").write_text(text)
    options = {"profile": "p.toml", "board": None, "yes": False, "fingerprint": None, "replace": False, **given}
    return enroll(argparse.Namespace(**options))


def fingerprint(sshd: Sshd) -> str:
    """Return what somebody reads on the board's own console."""
    done = subprocess.run(["ssh-keygen", "-lf", sshd.folder / "host_key"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


def answer() -> str:
    with open_target(load_profile("p.toml")) as target:
        return target.run(["echo", "hello"]).text.strip()


def test_a_board_is_trusted_once_its_fingerprint_was_confirmed_and_no_sooner(
    sshd: Sshd, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BoardError, match="offers no host key with the fingerprint SHA256:wrong"):
        run(sshd, fingerprint="SHA256:wrong")
    with pytest.raises(RoboticksError):
        answer()
    assert run(sshd, fingerprint=fingerprint(sshd)) == 0
    assert answer() == "hello"
    assert run(sshd) == 0
    assert "board a is already enrolled" in capsys.readouterr().out


def test_a_board_with_another_key_is_refused_until_that_key_replaces_the_pinned_one(sshd: Sshd) -> None:
    run(sshd, yes=True)
    before = fingerprint(sshd)
    sshd.stop()
    for name in ("host_key", "host_key.pub"):
        (sshd.folder / name).unlink()
    make_key(sshd.folder / "host_key")
    sshd.start()
    with pytest.raises(BoardError) as refused:
        run(sshd, yes=True)
    assert before in str(refused.value)
    assert fingerprint(sshd) in str(refused.value)
    with pytest.raises(RoboticksError):
        answer()
    assert run(sshd, fingerprint=fingerprint(sshd), replace=True) == 0
    assert answer() == "hello"
