"""The whole run on a board whose console is behind a real console server: ser2net, raw and RFC 2217."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.contract.pty_board import running_board
from tests.contract.ser2net import serving_device
from tests.e2e.bench import Bench
from tests.e2e.board_profiles import manager, over_serial
from tests.parts import require


@pytest.mark.parametrize("scheme", ["socket", "rfc2217"])
def test_the_main_job_passes_through_a_console_server(scheme: str, bench: Bench, tmp_path: Path) -> None:
    with (
        running_board(tmp_path / "pty", powered=False) as pty,
        serving_device(require("ser2net"), tmp_path, scheme, device=pty.port) as (url, _),
    ):
        text = over_serial(pty, device_manager=manager("simulated", tmp_path / "root"))
        bench.profile("far", text.replace(pty.port, url))
        done = bench.run("hil-test", "--profile", "far")
        assert done.code == 0, done.err
        assert pty.phase == "off"
    folder = bench.latest_of("far")
    result = bench.result(folder)
    assert result["verdict"] == "passed"
    assert all(part["ok"] for part in result["teardown"]["parts"]), result["teardown"]
    # Nothing of its boot is missing: the console was captured, through the server, before the board had power.
    log = (folder / "console.log").read_text()
    assert "U-Boot" in log
    assert "board login: root" in log
    # A person reads it: what this run said in order to run commands is not in there, let alone a secret.
    assert "done 0" not in log
    [secret] = [path.read_bytes() for path in bench.folder.rglob("project-secret")]
    shifted = [base64.b64encode(b"x" * shift + secret.strip())[4:-4].decode() for shift in range(3)]
    assert not [spelling for spelling in (secret.decode().strip(), *shifted) if spelling in log]
    bench.assert_nothing_is_left()
