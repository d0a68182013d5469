"""Downloads over real HTTP: resumed where they broke, checked, kept, and never half in their place."""

from __future__ import annotations

import hashlib
import random
import re
import socket
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from roboticks_tasks.errors import BinaryError, Verdict
from roboticks_tasks.lifecycle.support import transfer
from roboticks_tasks.lifecycle.support.download import fetch
from roboticks_tasks.lifecycle.support.transfer import CHUNK
from tests.conditions import until
from tests.contract.bad_server import OK, answer, misbehaving
from tests.contract.http_server import Answer, Request, Server, serving

CONTENT = random.Random(7).randbytes(3 * CHUNK + 12_345)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        running.answer = whole
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def whole(request: Request) -> Answer:
    """Answer with the content, or with the part of it that is asked for."""
    begin = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
    if begin >= len(CONTENT):
        return Answer(416)
    return Answer(206 if "range" in request.headers else 200, CONTENT[begin:])


def without_ranges(request: Request) -> Answer:
    return Answer(200, CONTENT)


def without_room(request: Request) -> Answer:
    return Answer(503)


def cut(request: Request) -> Answer:
    """Promise everything and hang up after two chunks."""
    return Answer(200, CONTENT[: 2 * CHUNK], length=len(CONTENT))


def get(
    server: Server, cache: Path, *, sha256: str | None = SHA256, path: str = "/dm.bin", timeout: float = 30
) -> Path:
    return fetch(server.url + path, sha256=sha256, cache=cache, timeout=timeout)


def names(cache: Path) -> list[str]:
    return [path.name.partition("-")[2] for path in cache.iterdir()]


def test_a_file_arrives_whole(server: Server, cache: Path) -> None:
    path = get(server, cache)
    assert path.read_bytes() == CONTENT
    assert names(cache) == ["dm.bin"]


@pytest.mark.parametrize("sha256", [SHA256, SHA256.upper()], ids=["lower", "upper"])
def test_a_file_whose_checksum_is_known_is_not_asked_for_again(server: Server, cache: Path, sha256: str) -> None:
    first = get(server, cache)
    assert get(server, cache, sha256=sha256) == first
    assert len(server.requests) == 1


def test_a_file_that_was_changed_in_the_cache_is_asked_for_again(server: Server, cache: Path) -> None:
    get(server, cache).write_bytes(b"changed")
    assert get(server, cache).read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_without_a_checksum_the_server_is_always_asked(server: Server, cache: Path) -> None:
    get(server, cache, sha256=None)
    server.answer = lambda request: Answer(200, b"newer")
    assert get(server, cache, sha256=None).read_bytes() == b"newer"


def test_a_download_that_was_cut_off_goes_on_where_it_broke(server: Server, cache: Path) -> None:
    server.answer = cut
    with pytest.raises(BinaryError, match=r"could not be downloaded: .*; run again to resume") as broken:
        get(server, cache)
    assert broken.value.verdict is Verdict.BACKEND_ERROR
    assert names(cache) == ["dm.bin.part"]
    have = next(cache.iterdir()).stat().st_size
    assert have > 0

    server.answer = whole
    assert get(server, cache).read_bytes() == CONTENT
    assert server.requests[-1].headers["range"] == f"bytes={have}-"
    assert names(cache) == ["dm.bin"]


def test_a_server_that_knows_no_ranges_sends_it_afresh(server: Server, cache: Path) -> None:
    server.answer = cut
    with pytest.raises(BinaryError):
        get(server, cache)
    server.answer = without_ranges
    assert get(server, cache).read_bytes() == CONTENT


def test_a_part_that_was_whole_already_is_taken(server: Server, cache: Path) -> None:
    path = get(server, cache)
    path.rename(path.with_name(f"{path.name}.part"))
    assert get(server, cache).read_bytes() == CONTENT


def test_the_time_limit_keeps_what_has_come(server: Server, cache: Path) -> None:
    late = threading.Event()
    server.answer = lambda request: whole(request) if late.wait(30) else Answer(503)
    with pytest.raises(BinaryError, match=r"did not arrive within 0 s \(\d+ bytes are kept\); run again to resume"):
        get(server, cache, timeout=0)
    late.set()
    assert get(server, cache).read_bytes() == CONTENT


def test_a_wrong_checksum_is_shown_with_both_and_keeps_nothing(server: Server, cache: Path) -> None:
    with pytest.raises(BinaryError, match=f"has SHA-256 {SHA256}, expected {'a' * 64}") as wrong:
        get(server, cache, sha256="A" * 64)
    assert wrong.value.verdict is Verdict.CONFIG_ERROR
    assert names(cache) == []


def test_a_wrong_file_does_not_replace_the_right_one(server: Server, cache: Path) -> None:
    path = get(server, cache)
    with pytest.raises(BinaryError):
        get(server, cache, sha256="a" * 64)
    assert path.read_bytes() == CONTENT


def test_a_file_that_is_not_there_is_said_with_the_servers_answer(server: Server, cache: Path) -> None:
    server.answer = lambda request: Answer(404, b"a page that says so")
    with pytest.raises(BinaryError, match=r"/dm\.bin could not be downloaded: 404"):
        get(server, cache)
    assert names(cache) == []


def test_no_server_is_said_at_once(cache: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # taken, and nobody listens
        with pytest.raises(BinaryError, match="could not be downloaded"):
            fetch(f"http://127.0.0.1:{reserved.getsockname()[1]}/dm", sha256=None, cache=cache, timeout=5)


def test_two_addresses_with_the_same_file_name_do_not_meet(server: Server, cache: Path) -> None:
    assert get(server, cache, path="/a/dm") != get(server, cache, path="/b/dm")


@pytest.mark.parametrize("path", ["/", "", "/dm?signature=" + "x" * 400, "/" + "d" * 300, "/folder/?a=/b/../../c"])
def test_any_address_makes_a_file_name_in_the_cache(server: Server, cache: Path, path: str) -> None:
    found = get(server, cache, path=path)
    assert found.parent == cache
    assert found.read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_no_bug_of_ours(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BinaryError, match=r"/dm\.bin could not be kept in .*/file/cache: Not a directory") as wrong:
        get(server, tmp_path / "file" / "cache")
    assert wrong.value.verdict is Verdict.CONFIG_ERROR


def test_without_a_folder_it_is_kept_where_the_user_keeps_caches(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert fetch(f"{server.url}/dm", sha256=None, timeout=30).parent == tmp_path / "xdg" / "roboticks-tasks"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = fetch(f"{server.url}/dm", sha256=None, timeout=30)
    assert found.parent == tmp_path / "home" / ".cache" / "roboticks-tasks"


def test_what_a_signed_address_holds_is_in_no_error(server: Server, cache: Path) -> None:
    server.answer = lambda request: Answer(404)
    address = server.url.replace("//", "//somebody:password@") + "/dm?signature=secret"
    for url in (address, "http://somebody:password@127.0.0.1:1/dm?signature=secret"):
        with pytest.raises(BinaryError, match="/dm could not be downloaded: ") as wrong:
            fetch(url, sha256=None, cache=cache, timeout=5)
        assert not re.search("secret|password", "".join(traceback.format_exception(wrong.value)))


def test_what_was_left_behind_does_not_write_into_the_next_ones_part(cache: Path) -> None:
    """The first transfer hangs beyond its time, and goes on when the file is there already."""
    release = threading.Event()

    def late(connection: socket.socket, ends: threading.Event) -> None:
        connection.sendall(OK + b"Content-Length: 1000\r\n\r\n")
        sent = 0
        while not (release.is_set() or ends.wait(0.02)):
            connection.sendall(b"-")
            sent += 1
        connection.sendall(b"-" * (1000 - sent))

    with misbehaving(late) as server:
        with pytest.raises(BinaryError, match="did not arrive within"):
            fetch(f"{server.url}/dm.bin", sha256=None, cache=cache, timeout=0.3)
        server.behave = answer("200 OK", CONTENT)
        assert fetch(f"{server.url}/dm.bin", sha256=SHA256, cache=cache, timeout=30).read_bytes() == CONTENT
        release.set()
        until(lambda: all(thread.name != "http-call" for thread in threading.enumerate()), "the first one has ended")
    assert names(cache) == ["dm.bin"]


def test_a_busy_server_is_asked_again_and_a_cut_download_goes_on_by_itself(server: Server, cache: Path) -> None:
    kinds = [without_room, cut, whole]

    def in_turn(request: Request) -> Answer:
        return kinds[len(server.requests) - 1](request)

    server.answer = in_turn
    assert get(server, cache).read_bytes() == CONTENT
    assert "range" in server.requests[-1].headers


def test_a_file_that_the_disk_has_no_room_for_is_refused_before_it_fills_it(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer.Part, "room", lambda part: 1000)
    with pytest.raises(BinaryError, match=rf"it has {len(CONTENT)} bytes more, and the disk has room for 1000"):
        get(server, cache)
    assert names(cache) == []


def test_a_redirect_is_followed_and_never_out_of_tls_or_in_a_circle(server: Server, cache: Path) -> None:
    server.answer = lambda request: (
        Answer(302, headers={"Location": "/there"}) if request.path == "/dm.bin" else whole(request)
    )
    assert get(server, cache).read_bytes() == CONTENT
    server.answer = lambda request: Answer(302, headers={"Location": "/dm.bin"})
    with pytest.raises(BinaryError, match="redirects in a circle"):
        get(server, cache, sha256=None)


def test_two_who_need_the_same_file_do_not_write_to_the_same_part(server: Server, cache: Path) -> None:
    def slow(request: Request) -> Answer:
        until(lambda: len(waiting) == 1, "the other one waits")
        return whole(request)

    server.answer = slow
    waiting: list[Path] = []
    with ThreadPoolExecutor(2) as both:
        one = both.submit(get, server, cache, sha256=None)
        until(lambda: server.requests, "the download has begun")
        with pytest.raises(BinaryError, match=r"/dm\.bin is still being downloaded by another run after 0\.3 s; "):
            get(server, cache, sha256=None, timeout=0.3)
        other = both.submit(get, server, cache)
        waiting.append(cache)
        assert one.result().read_bytes() == other.result().read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert names(cache) == ["dm.bin"]
