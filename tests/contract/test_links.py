"""Tunnels between this machine and the board."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roboticks_tasks import processes
from roboticks_tasks.errors import BoardError, TargetError
from roboticks_tasks.models import Link
from roboticks_tasks.targets.ssh.links import check_link, close_link, open_link, reach_device, reach_from_device
from tests.conditions import until
from tests.contract.sshd import Sshd, free_port, running_sshd
from tests.contract.test_ssh import command_lines


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("ssh") / "sshd") as sshd:
        yield sshd


@pytest.fixture
def link(sshd: Sshd) -> Iterator[Link]:
    link = open_link(sshd.profile())
    yield link
    close_link(link)


def said_by(port: int) -> bytes:
    """Return what comes from this port of the loopback until it is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return b"".join(iter(lambda: connection.recv(100), b""))


def test_the_device_reaches_a_port_of_ours(link: Link) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = reach_from_device(link, server.getsockname()[1])
        assert port != server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as device:
            ours, _ = server.accept()
            with ours:
                device.sendall(b"from the device")
                assert ours.recv(100) == b"from the device"
                ours.sendall(b"from us")
                assert device.recv(100) == b"from us"


def test_zeromq_speaks_through_the_link(link: Link) -> None:
    zmq = pytest.importorskip("zmq")
    with zmq.Context() as context, context.socket(zmq.XPUB) as device, context.socket(zmq.SUB) as ours:
        for each in (device, ours):
            each.linger = 0
            each.rcvtimeo = 10_000
        port = device.bind_to_random_port("tcp://127.0.0.1")
        endpoint = reach_device(link, f"tcp://127.0.0.1:{port}")
        assert endpoint.startswith("ipc:///")
        assert len(endpoint) < 100
        ours.connect(endpoint)
        ours.subscribe(b"topic")
        assert device.recv() == b"\x01topic"
        device.send(b"topic of the device")
        assert ours.recv() == b"topic of the device"
        assert reach_device(link, f"tcp://127.0.0.1:{port}") == endpoint


@pytest.mark.parametrize("endpoint", ["ipc:///run/bus", "inproc://bus"])
def test_an_endpoint_that_is_not_tcp_is_left_as_it_is(link: Link, endpoint: str) -> None:
    assert reach_device(link, endpoint) == endpoint


def test_a_device_that_does_not_listen_yet_is_reached_once_it_does(link: Link) -> None:
    port = free_port()
    path = reach_device(link, f"tcp://127.0.0.1:{port}").removeprefix("ipc://")
    with (
        socket.create_server(("127.0.0.1", port)) as server,
        socket.socket(socket.AF_UNIX) as ours,
    ):
        ours.connect(path)
        device, _ = server.accept()
        with device:
            device.sendall(b"late")
            ours.settimeout(10)
            assert ours.recv(100) == b"late"


def test_the_link_outlives_the_process_that_opened_it(sshd: Sshd) -> None:
    import msgspec

    program = (
        "import sys, msgspec; from roboticks_tasks.profiles.values import Profile; "
        "from roboticks_tasks.targets.ssh.links import open_link; "
        "link = open_link(msgspec.json.decode(sys.argv[1], type=Profile)); "
        "print(msgspec.json.encode(link).decode())"
    )
    profile = msgspec.json.encode(sshd.profile()).decode()
    done = subprocess.run([sys.executable, "-c", program, profile], capture_output=True, check=True, timeout=60)
    link = msgspec.json.decode(done.stdout, type=Link)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            assert reach_from_device(link, server.getsockname()[1]) > 0
        assert os.getsid(link.process.pid) == link.process.pid
    finally:
        assert close_link(link) == "stopped"


def test_a_closed_link_leaves_nothing_and_can_be_closed_again(sshd: Sshd) -> None:
    link = open_link(sshd.profile())
    reach_device(link, "tcp://127.0.0.1:1")
    folder = Path(link.control).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [close_link(link), close_link(link)] == ["stopped", "gone"]
    assert not folder.exists()
    until(lambda: not command_lines(str(folder)), "no ssh is left")
    with pytest.raises(BoardError, match="was closed"):
        reach_from_device(link, 1)


def test_a_link_that_is_closed_before_it_is_up_is_ended(sshd: Sshd) -> None:
    link = open_link(sshd.profile())
    assert close_link(link) == "stopped"
    assert not processes.is_alive(link.process.pid, link.process.start_time)


def test_a_link_that_died_says_so_in_one_sentence(sshd: Sshd) -> None:
    link = open_link(sshd.profile())
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            reach_from_device(link, server.getsockname()[1])
        check_link(link)
        os.kill(link.process.pid, signal.SIGKILL)
        until(lambda: not processes.is_alive(link.process.pid, link.process.start_time), "it is dead")
        with pytest.raises(TargetError, match="that carried the run's tunnels has ended: its ssh was closed or killed"):
            check_link(link)
        with pytest.raises(TargetError, match="that carried the run's tunnels has ended: its ssh was closed or killed"):
            reach_device(link, "tcp://127.0.0.1:1")
    finally:
        assert close_link(link) == "gone"


def test_a_link_that_the_board_ended_says_so_in_sshs_words(tmp_path: Path) -> None:
    with running_sshd(tmp_path / "sshd") as sshd:
        link = open_link(sshd.profile())
        try:
            reach_device(link, "tcp://127.0.0.1:1")
            sshd.kill_sessions()
            until(lambda: not processes.is_alive(link.process.pid, link.process.start_time), "it has noticed")
            with pytest.raises(TargetError, match=r"has ended: Connection to 127\.0\.0\.1 closed by remote host"):
                check_link(link)
        finally:
            close_link(link)


def test_the_link_of_a_killed_run_is_closed_by_the_next_one_on_that_board_alone(tmp_path: Path) -> None:
    with running_sshd(tmp_path / "one") as one, running_sshd(tmp_path / "other") as other:
        left, foreign = open_link(one.profile()), open_link(other.profile())
        one.known_hosts.write_text(f"{one.known_hosts.read_text()}same-by-another-name {one.host_key}\n")
        next_one = open_link(one.profile(board={"id": "same-by-another-name"}))
        try:
            assert not processes.is_alive(left.process.pid, left.process.start_time)
            assert not Path(left.control).parent.exists()
            reach_device(next_one, "tcp://127.0.0.1:1")
            reach_device(foreign, "tcp://127.0.0.1:1")
        finally:
            outcomes = [close_link(each) for each in (left, foreign, next_one)]
    assert outcomes == ["gone", "stopped", "stopped"]


def test_a_link_to_nobody_says_so_when_it_is_used(sshd: Sshd) -> None:
    port = free_port()
    link = open_link(sshd.profile(port=port))
    try:
        with pytest.raises(BoardError, match=f"refuses connections at port {port}"):
            reach_from_device(link, 1)
        with pytest.raises(BoardError, match=f"refuses connections at port {port}"):
            reach_device(link, "tcp://127.0.0.1:1")
    finally:
        assert close_link(link) == "gone"


def test_a_link_without_pinned_key_is_not_opened(sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="no host key is pinned"):
        open_link(sshd.profile(known_hosts=str(tmp_path / "none")))


def test_sshd_that_allows_no_tunnels_is_told_with_the_remedy(tmp_path: Path) -> None:
    with running_sshd(tmp_path / "sshd", more="AllowTcpForwarding no\n") as sshd:
        link = open_link(sshd.profile())
        try:
            with pytest.raises(TargetError, match="AllowTcpForwarding yes"):
                reach_from_device(link, free_port())
            for _ in range(2):
                with pytest.raises(TargetError, match="AllowTcpForwarding yes"):
                    reach_device(link, f"tcp://127.0.0.1:{sshd.port}")
        finally:
            close_link(link)
