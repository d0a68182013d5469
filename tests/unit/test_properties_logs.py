"""What devices and consoles print: any bytes in any pieces, and what is read from them is bounded and complete."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from roboticks_tasks.lifecycle.support import sightings
from roboticks_tasks.lifecycle.support.sightings import Watcher, compile_pattern
from roboticks_tasks.models import BackendRef, DeviceManager
from roboticks_tasks.profiles.values import LogPatterns
from roboticks_tasks.serial_console.records import LINE_LIMIT, Records, escape
from roboticks_tasks.targets import Completed
from roboticks_tasks.targets.serial.framing import Reader

STAMP = len(b"2026-11-22T13:00:00.000000Z ")
ANYTHING = st.one_of(
    st.binary(max_size=60), st.sampled_from([b"\r", b"\n", b"\r\n", b"\xe2", b"\x82", b"\xac", b"\xf0\x9f", b"\x1b[2J"])
)
CHUNKS = st.lists(ANYTHING, max_size=12)


def texts_of(log: bytes) -> list[bytes]:
    """Return what the records say, without their times."""
    return [line.split(b" ", 2)[2] for line in log.split(b"\n")[:-1]]


@given(CHUNKS)
def test_a_console_loses_nothing_however_it_is_cut(chunks: list[bytes]) -> None:
    records = Records()
    log = b"".join([*map(records.take, chunks), records.end()])
    said = b"".join(chunks)
    expected = escape(said.replace(b"\r", b"\n")).split(b"\n")
    # Returns end lines as feeds do, several of them together only one: compared is what stands between them.
    assert [text for text in texts_of(log) if text] == [text for text in expected if text]


@given(st.lists(st.one_of(ANYTHING, st.sampled_from([b"x" * 70_000, b"\xe2\x82\xac" * 30_000])), max_size=5))
@settings(max_examples=30)
def test_a_record_of_a_console_is_never_longer_than_its_limit_as_the_device_said_it(chunks: list[bytes]) -> None:
    records = Records()
    log = b"".join([*map(records.take, chunks), records.end()])
    most = 4 * LINE_LIMIT  # \\xNN for each byte
    assert all(len(text) <= most for text in texts_of(log))
    assert records.end() == b""


HEADS = st.sampled_from(
    [b"<abcd ", b"<abcd 1 ok=ok>", b"<abcd 1.>", b"<abcd 2 ", b"=", b">", b"<", b"<abcd 99999 a=a>"]
)


@given(st.lists(st.one_of(ANYTHING, HEADS), max_size=20))
def test_any_noise_gives_frames_or_none_and_nothing_piles_up_but_a_reply(chunks: list[bytes]) -> None:
    reader = Reader("abcd")
    frames = [frame for chunk in chunks for frame in reader.feed(chunk)]
    assert all(frame.sequence >= 0 for frame in frames)
    assert not reader.is_idle or reader.kept < 300
    reader.give_up()
    assert (reader.kept, reader.is_idle) == (0, True)
    assert list(reader.feed(b"<abcd 1 ok=ok><abcd 1.>"))


class Scripted:
    """A target on which a device manager has written `state`, and logs `chunks`, one at each look."""

    def __init__(self, state: bytes, chunks: list[bytes]) -> None:
        self._state = state.replace(b"\n", b"")
        self._chunks = iter(chunks)
        self._size = 0

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 30.0, repeatable: bool = False
    ) -> Completed:
        """Answer as the script of a look does."""
        chunk = next(self._chunks, b"")
        size = self._size + len(chunk)
        parts = b"1\n" + self._state + f"\n7:{self._size}:{size}:0\n0\n".encode()
        self._size = size
        return Completed(0, parts + chunk + b"1", b"")


DM = DeviceManager(
    pid=1,
    identity="1-b",
    binary="/dm",
    root="/",
    log_path="/l",
    state_path="/s",
    backend=BackendRef(kind="remote", url="http://127.0.0.1:9"),
)
DEEP = [b'{"session":' * 999, b'{"x":' * 2_000, b'{"x":' + b"[" * 5_000, b"[" * 5_000, b"\xff", b'{"phase":1}']


@given(st.one_of(st.binary(), st.sampled_from(DEEP)), CHUNKS)
def test_whatever_a_device_manager_writes_is_looked_at_without_an_exception(state: bytes, chunks: list[bytes]) -> None:
    watcher = Watcher(DM, Scripted(state, chunks))
    looks = [watcher.look(echo=False) for _ in chunks]
    lines = [line for look in looks for line in look.lines]
    whole = b"".join(chunks).split(b"\n")[:-1]
    assert lines == [line.decode("utf-8", "replace").rstrip("\r") for line in whole]
    for pattern in (LogPatterns().dsn, LogPatterns().session):
        name = "dsn" if "dsn" in pattern else "session"
        assert all(match[name] for line in lines if (match := compile_pattern(pattern, name).search(line)))


@given(st.lists(st.integers(1, 3 * sightings.LONGEST_LINE), min_size=1, max_size=4))
@settings(max_examples=15)
def test_a_line_that_never_ends_is_not_kept_for_ever(sizes: list[int]) -> None:
    watcher = Watcher(DM, Scripted(b"", [b"x" * size for size in sizes] + [b"\n"]))
    lines = [line for _ in range(len(sizes) + 1) for line in watcher.look(echo=False).lines]
    assert sum(map(len, lines)) == sum(sizes)
    assert max(map(len, lines)) <= sightings.LONGEST_LINE + max(sizes)
