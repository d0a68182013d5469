"""The platform's folder: what a start cleans up there, and what is not its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from roboticks_tasks.sim.platform import directory


def test_only_our_own_half_written_files_are_cleaned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [".notes.2026", ".backup.1", ".config.d.5", ".ca.key.77"]
    for name in users:
        (tmp_path / name).write_text("the user's", encoding="utf-8")
    (tmp_path / f".folder{directory.UNFINISHED}").mkdir()
    (tmp_path / f".link{directory.UNFINISHED}").symlink_to(tmp_path / users[0])
    before = {path.name for path in tmp_path.iterdir()}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # As a kill between the two would leave it.
        patch.setattr(Path, "replace", killed)
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            directory.write(tmp_path / "ca.key", b"half")
    left = {path.name for path in tmp_path.iterdir()} - before
    assert len(left) == 1
    with directory.locked(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == before | {directory.LOCK}
