"""A board that is reached over ssh and has no power when the run begins: it boots, or it never does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.sshd import Sshd, running_sshd
from tests.contract.test_ssh import once
from tests.e2e.bench import Bench
from tests.e2e.board_profiles import manager, over_ssh


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """The sshd of a board that has no power."""
    with running_sshd(tmp_path / "sshd") as sshd:
        sshd.stop()
        yield sshd


def write_profile(bench: Bench, sshd: Sshd, *, boot_timeout: int) -> Path:
    """Write a profile of the board and return the file that is there while it has power."""
    powered = bench.folder / "powered"
    power = f"""
[boards.power]
on = ["touch", "{powered}"]
off = ["rm", "-f", "{powered}"]
state = ["sh", "-c", "[ -e {powered} ] && echo on || echo off"]
safe = "off"
boot_timeout = {boot_timeout}
"""
    bench.profile("ssh", over_ssh(sshd, device_manager=power + manager("simulated", bench.folder / "root")))
    return powered


def boot(sshd: Sshd) -> None:
    """Hang up on those who call too early, as a board does whose sshd is not ready; then be there."""
    with socket.create_server(("127.0.0.1", sshd.port)) as too_early:
        too_early.settimeout(30)
        for _ in range(2):
            too_early.accept()[0].close()
    sshd.start()


def test_a_run_waits_for_a_board_that_boots(bench: Bench, sshd: Sshd) -> None:
    powered = write_profile(bench, sshd, boot_timeout=30)
    with once(powered.exists, lambda: boot(sshd)):
        done = bench.run("hil-test", "--profile", "ssh")
    assert done.code == 0, done.err
    assert bench.state(bench.latest_of("ssh"))["board"]["powered"] == "on"
    assert not powered.exists()


def test_a_board_that_never_comes_up_is_the_benchs_fault(bench: Bench, sshd: Sshd) -> None:
    powered = write_profile(bench, sshd, boot_timeout=1)
    done = bench.run("hil-test", "--profile", "ssh")
    result = bench.result(bench.latest_of("ssh"))
    assert (done.code, result["verdict"]) == (22, "bench-error")
    assert "board board-1 has power, but does not answer within 1 s" in result["reason"]
    assert f"refuses connections at port {sshd.port}" in result["reason"]
    assert "power.boot_timeout" in result["reason"]
    assert not powered.exists()  # and is made safe again
