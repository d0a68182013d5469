"""Frames on a serial console: found in any noise, never believed when they are damaged."""

from __future__ import annotations

import hashlib
import itertools
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks.targets.serial.framing import (
    CHECKSUMS,
    LONGEST_LINE,
    Frame,
    Reader,
    decode,
    encode,
    encode_lines,
    posix_cksum,
)
from roboticks_tasks.targets.serial.loop import loop_lines, start_line

REPLY = b"<abcd 7 done 0 12 3=done 0 12 3>\r\nYWJj\r\n<abcd 7.>\r\n"
FRAME = Frame(7, ("done", "0", "12", "3"), b"\r\nYWJj\r\n")
NOISE = st.binary(max_size=60).filter(lambda noise: b"<abcd" not in noise)


def read(data: bytes) -> list[Frame]:
    return list(Reader("abcd").feed(data))


@given(before=NOISE, after=NOISE, cuts=st.lists(st.integers(1, 120), max_size=6))
def test_a_reply_is_found_in_any_noise_however_it_is_cut(before: bytes, after: bytes, cuts: list[int]) -> None:
    stream = before + REPLY + after + REPLY
    reader = Reader("abcd")
    edges = sorted({0, *(cut % len(stream) for cut in cuts), len(stream)})
    pieces = [stream[start:stop] for start, stop in itertools.pairwise(edges)]
    assert [frame for piece in pieces for frame in reader.feed(piece)] == [FRAME, FRAME]


@given(position=st.integers(0, REPLY.index(b">")), value=st.integers(0, 255))
def test_a_reply_whose_words_are_damaged_is_none(position: int, value: int) -> None:
    damaged = bytearray(REPLY)
    damaged[position] = value
    assert read(bytes(damaged)) in ([], [FRAME])


def test_a_reply_to_another_conversation_is_noise() -> None:
    assert read(REPLY.replace(b"abcd", b"dcba")) == []


def test_a_reply_without_its_end_can_be_given_up() -> None:
    reader = Reader("abcd")
    assert list(reader.feed(REPLY[:-6])) == []
    assert not reader.is_idle
    reader.give_up()
    assert reader.is_idle
    assert list(reader.feed(REPLY)) == [FRAME]


def test_endless_noise_is_not_kept() -> None:
    reader = Reader("abcd")
    for _ in range(100):
        assert list(reader.feed(b"<noise " * 10_000)) == []
    assert reader.kept < 1000


@pytest.mark.parametrize(
    ("data", "expected"), [(b"", "4294967295"), (b"123456789", "930766865"), (b"a" * 70_000, "3508083167")]
)
def test_the_checksum_is_that_of_cksum(data: bytes, expected: str) -> None:
    assert posix_cksum(data) == expected


def test_every_checksum_is_the_first_word_of_its_tool() -> None:
    for tool, checksum in CHECKSUMS.items():
        printed = subprocess.run([tool], input=b"any bytes\0\xff", check=True, capture_output=True).stdout
        assert printed.split()[0].decode() == checksum(b"any bytes\0\xff")


@given(data=st.binary(max_size=3000), codec=st.sampled_from(["base64", "octal"]))
def test_the_lines_of_an_upload_fit_in_a_terminal_and_hold_everything(data: bytes, codec: str) -> None:
    lines = encode_lines(data, codec)
    assert all(0 < len(line) <= LONGEST_LINE and line.isascii() and " " not in line for line in lines)
    assert "".join(lines) == "".join(encode(data[at : at + 768], codec) for at in range(0, len(data), 768))


def test_a_shell_prints_what_was_encoded_for_a_board_without_base64() -> None:
    data = bytes(range(256))
    done = subprocess.run(["sh", "-c", 'printf "$0"', encode(data, "octal")], check=True, capture_output=True)
    assert done.stdout == data


@pytest.mark.parametrize(
    ("codec", "body"), [("base64", b"\r\nYW\r\nJj\r\n"), ("octal", b" 61 62\r\n 63\r\n")], ids=["base64", "octal"]
)
def test_a_body_is_decoded_however_its_lines_end(codec: str, body: bytes) -> None:
    assert decode(body, codec) == b"abc"


@pytest.mark.parametrize("codec", ["base64", "octal"])
@pytest.mark.parametrize("body", [b"YWJ", b"YWJj\r\n[   12.3] usb\r\n", b"\xff\xff\xff\xff"])
def test_a_body_with_something_else_in_it_is_damaged(codec: str, body: bytes) -> None:
    assert decode(body, codec) is None


@pytest.mark.parametrize("checksum", CHECKSUMS)
def test_the_loop_can_be_typed(checksum: str) -> None:
    lines = loop_lines("abcd", checksum, longest=1000)
    assert all(len(line) <= 1000 and line.isascii() and "\n" not in line and line != "." for line in lines)
    text = "".join(lines).replace("^", "\n")
    assert subprocess.run(["sh", "-n"], input=text.encode()).returncode == 0
    assert hashlib.sha256(text.encode()).digest() != hashlib.sha256("".join(lines).encode()).digest()


def test_the_line_that_starts_it_is_one_short_word_in_quotes_for_any_shell() -> None:
    line = start_line("abcd")
    assert len(line) < 600
    assert line.isascii()
    assert "\n" not in line
    assert line.count("'") == 2
