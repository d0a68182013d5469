"""`roboticks-tasks history`, as people and programs use it."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from roboticks_tasks.cli import run
from roboticks_tasks.history import History
from tests.unit.made_history import finished, make

HOSTILE = "<script>alert(1)</script>\x1b[31m$\\frac{1}$ & ]]> 🤖"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOTICKS_HISTORY", str(tmp_path / "history.sqlite3"))
    return tmp_path / "history.sqlite3"


@pytest.fixture
def full(path: Path) -> Path:
    made = make(5, runs=300, tests=8, boards=4, runs_per_commit=12, flaky_tests={2: 0.2}, flaky_boards={1: 0.2})
    with History.open(path) as history:
        begin = datetime.now(UTC) - timedelta(days=30)
        history.record(*(finished(each, number, begin=begin) for number, each in enumerate(made)))
    return path


def junit(path: Path, name: str = "test_it", failure: str = "") -> Path:
    path.write_text(
        '<testsuites><testsuite name="s" timestamp="2026-03-01T10:00:00">'
        f'<testcase classname="t.m" name="{name}" time="0.5">{failure}</testcase></testsuite></testsuites>'
    )
    return path


def test_an_empty_history_is_a_sentence(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history"]) == 0
    assert capsys.readouterr().out.startswith("no run is in the history yet")


def test_the_text_names_what_is_flaky_with_its_numbers(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history"]) == 0
    text = capsys.readouterr().out
    assert "300 runs in" in text
    flaky = text.partition("\nflaky tests\n")[2]
    assert "test_2: disagreed in" in flaky.partition("flaky boards")[0]
    assert "board-1: disagreed in" in flaky.partition("flaky boards")[2]
    assert "p < 1e-12" in flaky
    assert "Holm" in text
    assert "await_dsn" in text


def test_sentences_are_wrapped_to_the_terminal_and_hang_below_their_first_line(
    full: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["history"]) == 0
    lines = capsys.readouterr().out.partition("\nflaky tests\n")[2].splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("  tests/")
    assert lines[1].startswith("    ")


def test_the_json_has_the_documented_shape(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", "--json", "--last", "30"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report) == [
        *("version", "history", "runs", "latest", "verdicts", "steps", "tests", "boards", "bench_errors"),
        *("board_specific", "broken", "method"),
    ]
    assert (report["version"], report["runs"], len(report["latest"])) == (1, 30, 30)
    assert {"name", "is_flaky", "hits", "runs", "rate", "low", "high", "p"} <= set(report["boards"][0])
    assert run(["history", "--json", "--since", "2999-01-01"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 0


@pytest.mark.parametrize(
    "words",
    [["--last", "0"], ["--last", "many"], ["--since", "soon"], ["--prune", "-1"], ["--prune", "nan"], ["--import"]],
)
def test_bad_usage_is_code_2(path: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["history", *words])
    assert ended.value.code == 2


def test_a_board_without_an_import_is_a_mistake(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", "--board", "b"]) == 2
    assert "--import" in capsys.readouterr().err


def test_junit_files_are_imported_once(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [junit(tmp_path / "a.xml"), junit(tmp_path / "b.xml", failure="<failure message='no'/>")]
    for _ in range(2):
        assert run(["history", "--import", *map(str, files), "--commit", "abc", "--board", "b-1"]) == 0
        assert "2 runs with 2 tests imported" in capsys.readouterr().out
    assert run(["history", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(each["verdict"], each["board"], each["commit"]) for each in report["latest"]] == [
        ("failed", "b-1", "abc"),
        ("passed", "b-1", "abc"),
    ]
    assert report["latest"][0]["began"] == "2026-03-01T10:00:00+00:00"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no xml",
        b"<testsuites><testsuite><testcase name='a'",
        b"<testsuites/>",
        b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><testsuites>&c;</testsuites>',
        None,
    ],
)
def test_a_file_that_is_no_junit_file_is_a_sentence_and_nothing_is_imported(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    bad = tmp_path / "bad.xml"
    if content is not None:
        bad.write_bytes(content)
    assert run(["history", "--import", str(junit(tmp_path / "a.xml")), str(bad)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("roboticks-tasks: nothing was imported: ")
    assert said.count("\n") == 1
    assert run(["history"]) == 0
    assert "no run is in the history" in capsys.readouterr().out


def test_pruning_says_how_many_runs_went(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", "--prune", "24.98"]) == 0
    assert capsys.readouterr().out.startswith("121 runs forgotten")


def test_the_page_is_the_same_each_time_and_holds_no_markup_of_a_test(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with History.open(full) as history:
        history.connection.execute("UPDATE test SET nodeid = ? WHERE nodeid LIKE '%test_2'", (HOSTILE,))
        history.connection.execute("UPDATE run SET reason = ?, board = ?", (HOSTILE, HOSTILE))
        history.connection.execute("UPDATE board SET name = ? WHERE name = 'board-1'", (HOSTILE,))
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    for page in pages:
        assert run(["history", "--html", str(page)]) == 0
    text = pages[0].read_text()
    assert text == pages[1].read_text()
    assert "<script" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text
    assert "default-src &#39;none&#39;" in text


def test_without_matplotlib_it_is_a_sentence_how_to_install_it(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(["history", "--html", str(tmp_path / "page.html")]) == 2
    assert "pip install 'roboticks-tasks[plots]'" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
    assert run(["history"]) == 0


def test_a_page_that_cannot_be_written_is_a_sentence(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["history", "--html", str(full / "page.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err
