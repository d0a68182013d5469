"""The spool: what is in it survives whatever happens to its files."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboticks_tasks.sim.device_manager import spool as module
from roboticks_tasks.sim.device_manager.journal import BACKLOG, Journal
from roboticks_tasks.sim.device_manager.spool import Entry, Spool

unhurried = settings(deadline=None)  # a busy machine is no failure


def put(spool: Spool, *texts: str, session: str | None = None) -> None:
    waiting: deque[Entry] = deque((session, {"message": text}) for text in texts)
    spool.take(waiting)
    assert not waiting


def take_all(spool: Spool) -> list[tuple[str, int, str | None, list[str]]]:
    """Deliver everything; return each batch."""
    found = []
    while (batch := spool.peek()) is not None:
        found.append((*batch[:3], [message["message"] for message in batch.messages]))
        spool.done(batch)
    return found


def texts(spool: Spool) -> list[str]:
    return [text for *_, messages in take_all(spool) for text in messages]


def test_batches_are_of_one_session_and_nothing_is_added_to_one_that_was_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    put(spool, "1", "2")
    put(spool, "3", session="s")
    first = spool.peek()
    put(spool, "4", session="s")
    assert first is not None
    spool.done(first)
    second = spool.peek()
    put(spool, "5", session="s")
    assert second is not None
    spool.done(second)
    assert [message["message"] for message in first.messages] == ["1", "2"]
    assert [message["message"] for message in second.messages] == ["3", "4"]
    assert [(number, session, said) for _, number, session, said in take_all(spool)] == [(3, "s", ["5"])]
    assert spool.empty


def test_a_batch_stays_below_the_documented_message_limit(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    put(spool, *["\x01\U0001f916" * 4096] * 30, *["x"] * 1200)
    sizes = []
    while (batch := spool.peek()) is not None:
        sizes.append((len(batch.messages), len(json.dumps(batch.messages, ensure_ascii=False).encode())))
        spool.done(batch)
    assert sum(count for count, _ in sizes) == 1230
    assert max(count for count, _ in sizes) <= module.BATCH_MESSAGES
    assert 60_000 < max(size for _, size in sizes) < 128_000


def test_what_is_left_is_the_same_batch_for_the_next_start_and_comes_first(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    put(first, "1", "2", session="s")
    sent = first.peek()
    put(first, "3", session="s")  # the process is killed here
    second = Spool(tmp_path)
    put(second, "4")
    assert take_all(second) == [
        (first.boot_id, 1, "s", ["1", "2"]),
        (first.boot_id, 2, "s", ["3"]),
        (second.boot_id, 1, None, ["4"]),
    ]
    assert sent is not None
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_files_are_private_and_a_delivered_one_is_empty(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    put(spool, "1")
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert texts(spool) == ["1"]
    assert path.read_bytes() == b""
    put(spool, "2")
    assert texts(spool) == ["2"]


def test_beyond_its_limit_the_oldest_go_and_a_notice_counts_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=20_000, segment=2_000)
    said = [f"{number:05}" for number in range(1000)]
    for number, text in enumerate(said):
        put(spool, text, session=str(number // 10))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 22_000
    dropped = sum(int(notice.split()[0]) for notice in spool.notices)
    assert all(notice.endswith("were dropped: the platform was away too long") for notice in spool.notices)
    assert texts(spool) == said[dropped:]
    assert 0 < dropped < 1000


def test_a_batch_that_is_dropped_while_it_is_sent_disturbs_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=1_000, segment=500)
    put(spool, "first")
    batch = spool.peek()
    for number in range(100):
        put(spool, str(number), session=str(number))
    assert batch is not None
    spool.done(batch)
    assert texts(spool)[-1] == "99"


def test_a_full_disk_keeps_messages_in_memory_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spool").mkdir()
    spool = Spool(tmp_path / "spool")
    journal = Journal(tmp_path / "log", spool)
    journal.info("m", "on disk")
    write, full = os.write, [True]

    def short(descriptor: int, data: bytes) -> int:
        if full[0] and descriptor == spool._file:
            write(descriptor, data[:7])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", short)
    journal.info("m", "in memory 1")
    journal.info("m", "in memory 2")
    assert [entry["message"] for _, entry in journal.backlog if entry["module"] == "m"] == [
        "in memory 1",
        "in memory 2",
    ]
    full[0] = False
    journal.info("m", "on disk again")
    assert not journal.backlog
    said = texts(spool)
    assert [text for text in said if text.startswith("cannot write")] == [
        f"cannot write {tmp_path / 'spool'}: No space left on device; messages for the platform stay in memory"
    ]
    assert [text for text in said if "memory " in text or text.startswith("on")][:1] == ["on disk"]
    assert said[-2:] == ["on disk again", "messages for the platform are kept on disk again"]
    assert capfd.readouterr().err == (tmp_path / "log").read_text()


def test_memory_is_bounded_when_there_is_no_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path / "log", Spool(tmp_path / "nowhere"))
    for number in range(BACKLOG + 5):
        journal.info("m", str(number))
    assert len(journal.backlog) == BACKLOG
    assert journal.dropped > 0
    assert "stay in memory" in capfd.readouterr().err


def test_a_file_that_can_no_longer_be_written_shares_no_batch_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform would take the second part for what it has already."""
    spool = Spool(tmp_path)
    put(spool, "before")
    with monkeypatch.context() as broken:

        def refuse(*_: object) -> int:
            raise OSError(errno.EIO, "Input/output error")

        broken.setattr(os, "write", refuse)
        broken.setattr(os, "ftruncate", refuse)
        spool.take(deque([(None, {"message": "refused"})]))
    put(spool, "after")
    found = take_all(spool)
    assert [messages for *_, messages in found] == [["before"], ["after"]]
    assert len({number for _, number, *_ in found}) == 2


def test_a_file_that_somebody_removes_costs_only_what_was_in_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    put(spool, "lost")
    next(tmp_path.iterdir()).unlink()
    assert spool.peek() is None
    put(spool, "kept")
    assert texts(spool) == ["kept"]


lines = st.lists(st.tuples(st.sampled_from([None, "s", "t"]), st.text(max_size=20)), max_size=30)


@unhurried
@given(lines, st.data())
def test_whatever_is_cut_off_the_whole_messages_before_it_are_there(said: list[Any], data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = Spool(folder)
        for session, text in said:
            put(first, text, session=session)
        files = sorted(folder.iterdir())
        whole = files[0].read_bytes() if files else b""
        cut = data.draw(st.integers(0, len(whole)))
        if files:
            files[0].write_bytes(whole[:cut])
        second = Spool(folder)
        put(second, "new")
        found = take_all(second)
        count = whole[:cut].count(b"\n")
        expected = [(session, text.encode("utf-8", "replace").decode()) for session, text in said[:count]]
        *old, new = found
        assert [(session, text) for _, _, session, messages in old for text in messages] == expected
        numbers = [number for _, number, _, _ in old]
        assert numbers == sorted(set(numbers))
        assert {boot for boot, *_ in old} <= {first.boot_id}
        assert new == (second.boot_id, 1, None, ["new"])
        assert second.boot_id != first.boot_id


@unhurried
@given(st.lists(st.binary(max_size=30) | st.just(b'{"boot_id": "b", "sequence": 1}'), max_size=8))
def test_files_of_garbage_are_passed_over(chunks: list[bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "00000007.jsonl")
        path.write_bytes(
            b"\n".join([*chunks, b'{"boot_id": "b", "sequence": 9, "session_id": null, "message": "x"}\n'])
        )
        Path(name, "notes.txt").write_text("not ours")
        spool = Spool(Path(name))
        put(spool, "new")
        found = []
        while (batch := spool.peek()) is not None:
            found += [message.get("message") for message in batch.messages]
            spool.done(batch)
        assert [text for text in found if text is not None] == ["x", "new"]
        assert not path.exists()
        assert Path(name, "notes.txt").exists()
