"""Host keys: what a board offers, and what is pinned for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from roboticks_tasks import bench
from roboticks_tasks.errors import BoardError, ConfigError
from roboticks_tasks.targets.host_keys import HostKey, offered, pin, pinned
from roboticks_tasks.targets.ssh import open_ssh
from tests.contract.sshd import ALIAS, Sshd, free_port, make_key, running_sshd


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("ssh") / "sshd") as sshd:
        yield sshd


def other_key(folder: Path) -> HostKey:
    make_key(folder / "other")
    kind, key = (folder / "other.pub").read_text().split()[:2]
    return HostKey(kind, "SHA256:other", f"{ALIAS} {kind} {key}")


def test_a_board_tells_its_key_to_somebody_whom_it_does_not_let_in(sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "foreign")
    (key,) = offered(sshd.profile(identity_file=str(tmp_path / "foreign"), known_hosts=str(tmp_path / "none")))
    listed = subprocess.run(["ssh-keygen", "-lf", sshd.folder / "host_key.pub"], capture_output=True, text=True)
    assert key == HostKey("ssh-ed25519", listed.stdout.split()[1], f"{ALIAS} {sshd.host_key}")
    assert not (tmp_path / "none").exists()
    assert "Accepted" not in sshd.log


def test_a_board_that_is_not_there_offers_no_key(sshd: Sshd) -> None:
    before = set(bench.private_folder().glob("ssh-keys-*"))
    with pytest.raises(BoardError, match="refuses connections"):
        offered(sshd.profile(port=free_port()))
    assert set(bench.private_folder().glob("ssh-keys-*")) <= before


def test_the_offered_key_is_told_even_when_another_one_is_pinned(sshd: Sshd, tmp_path: Path) -> None:
    profile = sshd.profile(known_hosts=str(tmp_path / "known_hosts"))
    pin(profile, [other_key(tmp_path)])
    assert [key.line for key in offered(profile)] == [f"{ALIAS} {sshd.host_key}"]


def test_a_pinned_key_is_trusted_from_then_on(sshd: Sshd, tmp_path: Path) -> None:
    profile = sshd.profile(known_hosts=str(tmp_path / "a folder" / "100% known"))
    assert pinned(profile) == []
    keys = offered(profile)
    pin(profile, keys)
    assert pinned(profile) == keys
    assert (tmp_path / "a folder" / "100% known").stat().st_mode & 0o777 == 0o644
    with open_ssh(profile) as target:
        assert target.run(["true"]).ok


def test_pinning_the_same_key_again_changes_nothing(sshd: Sshd, tmp_path: Path) -> None:
    profile = sshd.profile(known_hosts=str(tmp_path / "known_hosts"))
    keys = offered(profile)
    pin(profile, keys)
    before = (tmp_path / "known_hosts").stat()
    pin(profile, keys)
    after = (tmp_path / "known_hosts").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_another_key_takes_a_pinned_ones_place_only_when_asked_to(sshd: Sshd, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"# of the lab\nboard-2 {sshd.host_key}\n@revoked * {sshd.host_key}\nlast {sshd.host_key}")
    others = file.read_text().splitlines()
    profile = sshd.profile(known_hosts=str(file))
    pin(profile, [other_key(tmp_path)])
    (old,) = pinned(profile)
    with pytest.raises(ConfigError, match="another host key") as caught:
        pin(profile, offered(profile))
    assert old.fingerprint in str(caught.value)
    assert pinned(profile) == [old]
    pin(profile, offered(profile), replace=True)
    assert file.read_text().splitlines() == [*others, f"{ALIAS} {sshd.host_key}"]


def test_the_case_of_a_boards_id_does_not_matter(sshd: Sshd, tmp_path: Path) -> None:
    profile = sshd.profile(board={"id": "Jetson-01"}, known_hosts=str(tmp_path / "known_hosts"))
    pin(profile, offered(profile))
    assert (tmp_path / "known_hosts").read_text() == f"jetson-01 {sshd.host_key}\n"
    with open_ssh(profile) as target:
        assert target.run(["true"]).ok


def test_a_file_that_cannot_be_written_is_named(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot be pinned in .*/file/known_hosts"):
        pin(sshd.profile(known_hosts=str(tmp_path / "file" / "known_hosts")), [other_key(tmp_path)])
    assert list(tmp_path.glob(".known_hosts.*")) == []
