"""Host keys: what a board offers, and what is pinned for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from roboticks_tasks import bench
from roboticks_tasks.errors import BoardError, ConfigError
from roboticks_tasks.targets.ssh import open_ssh
from roboticks_tasks.targets.ssh.host_keys import HostKey, offered, pin, pinned
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
    profile, other = sshd.profile(known_hosts=str(file)), other_key(tmp_path)
    revoked = "@revoked * ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFXtZ1q4VbFmEwZtJ7z3s4Xc0iWwA1oUjJq3n4m6q0aB"
    file.write_text(f"# of the lab\nboard-2 {sshd.host_key}\n{revoked}\nlast {sshd.host_key}")
    others = file.read_text().splitlines()
    pin(profile, [other])
    (old,) = pinned(profile)
    with pytest.raises(ConfigError, match="another host key") as caught:
        pin(profile, offered(profile))
    assert old.fingerprint in str(caught.value)
    assert pinned(profile) == [old]
    pin(profile, offered(profile), replace=True)
    assert file.read_text().splitlines() == [*others, f"{ALIAS} {sshd.host_key}"]


def test_a_hashed_line_counts_like_any_other(sshd: Sshd, tmp_path: Path) -> None:
    profile, other = sshd.profile(known_hosts=str(tmp_path / "known_hosts")), other_key(tmp_path)
    pin(profile, [other])
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", tmp_path / "known_hosts"], check=True, capture_output=True)
    assert (tmp_path / "known_hosts").read_text().startswith("|1|")
    assert [key.line.split()[1:] for key in pinned(profile)] == [other.line.split()[1:]]
    with pytest.raises(ConfigError, match="another host key"):
        pin(profile, offered(profile))
    pin(profile, offered(profile), replace=True)
    assert (tmp_path / "known_hosts").read_text() == f"{ALIAS} {sshd.host_key}\n"  # the old key is trusted no more


def test_a_line_for_several_boards_stays_that_of_the_others(sshd: Sshd, tmp_path: Path) -> None:
    profile, other = sshd.profile(known_hosts=str(tmp_path / "known_hosts")), other_key(tmp_path)
    key = other.line.partition(" ")[2]
    (tmp_path / "known_hosts").write_bytes(f"board-2,{ALIAS.upper()},board-3\t{key} of the lab\r\n".encode())
    (old,) = pinned(profile)
    assert old.fingerprint.startswith("SHA256:")
    pin(profile, offered(profile), replace=True)
    lines = (tmp_path / "known_hosts").read_text().splitlines()
    assert lines == [f"board-2,board-3 {key} of the lab", f"{ALIAS} {sshd.host_key}"]


def test_what_ssh_takes_for_a_comment_pins_nothing(sshd: Sshd, tmp_path: Path) -> None:
    profile = sshd.profile(known_hosts=str(tmp_path / "known_hosts"))
    text = f"# x\x0c{ALIAS} {sshd.host_key}\n# y\u2028{ALIAS} {sshd.host_key}\n"
    (tmp_path / "known_hosts").write_text(text)
    assert pinned(profile) == []
    pin(profile, [other_key(tmp_path)])
    assert (tmp_path / "known_hosts").read_text().startswith(text)


def test_a_revoked_key_is_neither_pinned_nor_trusted(sshd: Sshd, tmp_path: Path) -> None:
    profile = sshd.profile(known_hosts=str(tmp_path / "known_hosts"))
    revoked = f"@revoked * {sshd.host_key}\n"
    (tmp_path / "known_hosts").write_text(revoked)
    with pytest.raises(ConfigError, match=r"ssh-ed25519 SHA256:.* is marked as @revoked"):
        pin(profile, offered(profile))
    (tmp_path / "known_hosts").write_text(f"{ALIAS} {sshd.host_key}\n{revoked}")
    with pytest.raises(BoardError, match="is marked as @revoked"), open_ssh(profile):
        pass


def test_a_key_that_a_trusted_authority_has_signed_is_trusted(tmp_path: Path) -> None:
    make_key(tmp_path / "authority")
    with running_sshd(tmp_path / "sshd", more=f"HostCertificate {tmp_path}/sshd/host_key-cert.pub\n") as sshd:
        sign = ["ssh-keygen", "-q", "-s", f"{tmp_path}/authority", "-I", "board", "-h", "-n", ALIAS]
        subprocess.run([*sign, f"{sshd.folder}/host_key.pub"], check=True, capture_output=True)
        sshd.stop()
        sshd.start()
        public = (tmp_path / "authority.pub").read_text()
        sshd.known_hosts.write_text(f"@cert-authority {ALIAS} {public}")
        with open_ssh(sshd.profile()) as target:
            assert target.run(["true"]).ok


def test_two_that_enrol_at_the_same_time_keep_each_others_lines(sshd: Sshd, tmp_path: Path) -> None:
    file = str(tmp_path / "known_hosts")
    profiles = [sshd.profile(board={"id": f"board-{number}"}, known_hosts=file) for number in range(8)]
    key = other_key(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda profile: pin(profile, [key]), profiles))
    names = [line.split()[0] for line in (tmp_path / "known_hosts").read_text().splitlines()]
    assert sorted(names) == [f"board-{number}" for number in range(8)]


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
