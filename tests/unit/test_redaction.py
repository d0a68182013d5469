"""Secrets are taken out of texts, in every form, whole or in pieces; nothing else changes."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import urllib.parse
from collections.abc import Callable
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roboticks_tasks.redaction import LEAST, MARK, NOTHING, Redactor

SECRET = "s3cr\"t/'+<&> ü%\\7=x"

SECRETS = st.lists(st.text("abAB1-+/<&\"'\\ü ", min_size=LEAST, max_size=9), min_size=1, max_size=4)
"""Few letters: secrets overlap, begin and end alike, and hide in one another."""

PEM = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIGJhc2U2NCBvZiBub3RoaW5nIGF0IGFsbC4u
bm90aGluZyBhdCBhbGwsIHJlYWxseQ==
-----END PRIVATE KEY-----
"""

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": json.dumps,
    "JSON with letters": lambda text: json.dumps(text, ensure_ascii=False),
    "XML text": escape,
    "an XML attribute": quoteattr,
    "HTML": html.escape,
    "a URL's part": lambda text: urllib.parse.quote(text, safe=""),
    "a URL's part in lower case": lambda text: re.sub(
        "%..", lambda found: found[0].lower(), urllib.parse.quote(text, safe="")
    ),
    "a URL's path": urllib.parse.quote,
    "a form": urllib.parse.quote_plus,
    "a URL of requests": lambda text: urllib.parse.quote(text, safe="!#$&'()*+,/:;=?@[]~"),
    "repr": repr,
    "repr of bytes": lambda text: repr(text.encode()),
    "repr of a text with both quotes": lambda text: repr(f"\"'{text}"),
    "a shell's word": shlex.quote,
    "repr in XML": lambda text: escape(repr(text)),
    "JSON in an XML attribute": lambda text: quoteattr(json.dumps(text)),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
}


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return `data` cut at `cuts`."""
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[begin:end] for begin, end in pairwise(places)]


def streamed(redactor: Redactor, parts: list[bytes]) -> bytes:
    """Return what a stream makes of `parts`."""
    stream = redactor.stream()
    return b"".join([*map(stream.feed, parts), stream.close()])


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_redacted_in_each_form_in_which_programs_write_it(form: str) -> None:
    redacted = Redactor([SECRET]).text(f"before {FORMS[form](SECRET)} after")
    assert MARK in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")
    assert not re.search("s3|cr|7", redacted)


@pytest.mark.parametrize("user", ["", "u", "us", "use", "robot"])
def test_a_password_within_base64_is_redacted_wherever_it_begins(user: str) -> None:
    text = base64.b64encode(f"{user}:correct-horse:x".encode()).decode()
    redacted = Redactor(["correct-horse"]).text(f"Authorization: Basic {text}")
    assert MARK in redacted
    assert len(redacted) < len(f"Authorization: Basic {text}") - 12


@given(SECRETS, st.lists(st.text("abAB1-+/<&\"'\\ü \n", max_size=9)), st.data(), st.lists(st.integers(0, 1000)))
def test_pieces_give_what_the_whole_gives(
    secrets: list[str], other: list[str], data: st.DataObject, cuts: list[int]
) -> None:
    spelled = [FORMS[data.draw(st.sampled_from(sorted(FORMS)))](secret) for secret in secrets]
    whole = "".join(data.draw(st.permutations([*spelled, *other, *secrets]))).encode()
    redactor = Redactor(secrets)
    redacted = streamed(redactor, pieces(whole, cuts))
    assert redacted == redactor.bytes(whole)
    assert redacted.decode() == redactor.text(whole.decode())
    assert not any(secret.encode() in redacted for secret in redactor.secrets)
    assert not redactor.finds(redacted)


@given(SECRETS, st.lists(st.binary(max_size=12)), st.lists(st.integers(0, 1000)))
def test_what_holds_no_secret_is_unchanged(secrets: list[str], other: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(other)
    redactor = Redactor(["correct-horse", *(f"battery-{secret}" for secret in secrets)])
    assert redactor.bytes(whole) == whole
    assert streamed(redactor, pieces(whole, cuts)) == whole


@given(st.text(), st.binary())
def test_nothing_redacts_nothing(text: str, data: bytes) -> None:
    assert NOTHING.text(text) == text
    assert NOTHING.bytes(data) == data
    assert streamed(NOTHING, [data]) == data


@given(st.text(min_size=LEAST), st.text())
def test_any_text_can_be_a_secret_and_any_can_be_redacted(secret: str, text: str) -> None:
    assert NOTHING.text(text + secret) == text + secret
    redactor = Redactor([secret])
    redacted = redactor.text(f"{text}{secret}{text}")
    assert all(MARK in line or line not in redacted for line in redactor.secrets)


def test_only_the_beginning_of_a_secret_is_held_back() -> None:
    stream = Redactor(["correct-horse", "cooperation"]).stream()
    assert stream.feed(b"a prompt: ") == b"a prompt: "
    assert stream.feed(b"it is co") == b"it is "
    assert stream.feed(b"rrec") == b""
    assert stream.feed(b"tion ") == b"correction "
    assert stream.feed(b"correct-hors") == b""
    assert stream.feed(b"e") == b"***"
    assert stream.feed(b"coop") == b""
    assert stream.close() == b"coop"


def test_of_two_secrets_with_one_beginning_the_longer_is_redacted_whole() -> None:
    assert Redactor(["correct", "correct-horse"]).text("correct-horse correct") == "*** ***"
    assert streamed(Redactor(["correct", "correct-horse"]), [b"correct", b"-horse"]) == b"***"
    assert streamed(Redactor(["correct", "correct-horse"]), [b"correct", b"-house"]) == b"***-house"


def test_a_secret_of_several_lines_is_redacted_line_by_line() -> None:
    log = "".join(f"12:00 {line}\r\n" for line in PEM.splitlines())
    redacted = Redactor([PEM]).text(log)
    assert redacted.splitlines() == [
        "12:00 -----BEGIN PRIVATE KEY-----",
        "12:00 ***",
        "12:00 ***",
        "12:00 -----END PRIVATE KEY-----",
    ]


def test_what_is_too_short_to_be_a_secret_is_left() -> None:
    redactor = Redactor(["", "a", "12345", "123456"])
    assert redactor.secrets == ("123456",)
    assert redactor.text("12345 123456") == "12345 ***"


def test_a_secret_that_is_not_utf8_is_redacted_as_bytes_and_as_text() -> None:
    secret = b"caf\xe9-caf\xe9".decode("utf-8", "surrogateescape")
    redactor = Redactor([secret])
    assert redactor.bytes(b"x caf\xe9-caf\xe9 y") == b"x *** y"
    assert redactor.text(f"x {secret} y") == "x *** y"


def test_a_redactor_does_not_show_its_secrets() -> None:
    assert "correct" not in f"{Redactor(['correct-horse'])!r}"


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_redacted_wherever_it_is_cut(form: str) -> None:
    for secret in (SECRET, "correct-horse"):
        redactor, whole = Redactor([secret]), FORMS[form](secret).encode()
        cuts = range(1, len(whole))
        assert {streamed(redactor, [whole[:cut], whole[cut:]]) for cut in cuts} == {redactor.bytes(whole)}
