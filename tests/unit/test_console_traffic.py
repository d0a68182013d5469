"""The answers of a serial target are not in a console's log; whatever else the board says is, and at once."""

from __future__ import annotations

import base64
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roboticks_tasks.serial_console.traffic import Traffic

BODY = base64.encodebytes(bytes(range(200))).replace(b"\n", b"\r\n")
ANSWER = b"<0fa139c4 7 done 0 12 3=done 0 12 3>\r\n" + BODY + b"<0fa139c4 7.>\r\n"
OCTAL = b"<0fa139c4 8 data 1 2=data 1 2>\r\n" + b" 61" * 16 + b"\r\n 62 63\r\n<0fa139c4 8.>\r\n"
EMPTY = b"<0fa139c4 9 ready=ready>\r\n<0fa139c4 9.>\r\n"
SAID = st.sampled_from(
    [b"[ 1.2] usb\r\n", b"ok\r\n", b"a < b\r\n", b"<deadbeef\r\n", b"\r\n", b"QUJD\r\n", b"\xff<\r\n"]
)


def logged(*chunks: bytes) -> bytes:
    traffic = Traffic()
    return b"".join([*map(traffic.take, chunks), traffic.end()])


@settings(deadline=None)
@given(st.lists(st.one_of(SAID, st.sampled_from([ANSWER, OCTAL, EMPTY]))), st.lists(st.integers(0, 4000), max_size=12))
def test_however_the_bytes_are_cut_the_answers_alone_are_missing(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    places = sorted({0, *(cut % (len(stream) + 1) for cut in cuts), len(stream)})
    expected = b"".join(part for part in parts if not part.startswith(b"<0fa1"))
    assert logged(*(stream[start:stop] for start, stop in itertools.pairwise(places))) == expected


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(1, 50))
def test_what_holds_no_answer_is_not_changed(said: bytes, size: int) -> None:
    assert logged(*(said[at : at + size] for at in range(0, len(said), size))) == said


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_message_in_the_middle_of_an_answer_stays(size: int) -> None:
    first, rest = BODY[:30], BODY[30:]
    message = b"[   12.3] usb 1-1: new device <0> = x\r\n"
    stream = ANSWER.replace(BODY, first + message + rest)
    found = logged(*(stream[at : at + size] for at in range(0, len(stream), size)))
    assert message in found
    assert b"0fa139c4" not in found
    assert b"Welcome" in logged(stream, b"Welcome\r\n")


def test_a_board_that_goes_down_in_an_answer_is_shown_all_the_same() -> None:
    traffic = Traffic()
    said = b"U-Boot 2024.01\r\nok\r\nWelcome\r\nboard login: "
    assert traffic.take(ANSWER[:-16] + b"\r\n" + said).endswith(said)
    assert traffic.take(b"root\r\n") == b"root\r\n"


def test_a_prompt_is_not_held_back() -> None:
    for prompt in (b"board login: ", b"# ", b"uart:~$ ", b"=> "):
        assert Traffic().take(prompt) == prompt
    traffic = Traffic()
    assert traffic.take(EMPTY + b"# ") == b"# "
    assert traffic.take(ANSWER[:60] + b"\r\nlogin: ").endswith(b"login: ")


def test_a_message_before_an_answer_keeps_its_line() -> None:
    assert logged(b"[ 1.2] usb" + ANSWER + b"# ") == b"[ 1.2] usb\r\n# "
    assert logged(b"[ 1.2] usb", ANSWER, b"# ") == b"[ 1.2] usb\r\n# "
