"""What a user sees of long steps: in a terminal, in a log, and beside `--json`."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgeact.cli.steps import STARTING, steps
from edgeact.progress import TIMED_STEP

_WAITING = """
import sys, time
from edgeact.cli.output import note
from edgeact.cli.steps import steps

with steps() as shown:
    shown.begin(sys.argv[1])
    time.sleep(1.5)
    note("a remark")
"""
_DATA = ("-c", "from edgeact.cli import main; main()", "data", "--json")


def _in_terminal(*arguments: str) -> tuple[str, str]:
    """Run Python with standard error in a terminal; standard output, and all that was drawn, escape codes removed."""
    terminal, inside = pty.openpty()
    drawn: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(terminal, 1 << 16):
                drawn.append(data)
        except OSError:  # how Linux says that nobody holds the other end any more
            return

    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=inside, text=True, env=environment
    ) as process:
        os.close(inside)
        reader = threading.Thread(target=read)
        reader.start()
        out = process.communicate()[0]
        reader.join()
    os.close(terminal)
    assert process.returncode == 0, b"".join(drawn)
    return out, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(drawn).decode())


@pytest.mark.slow
def test_a_bar_moves_in_a_silent_step_but_not_while_a_model_is_timed() -> None:
    draws = {title: _in_terminal("-c", _WAITING, title)[1] for title in ("waiting", TIMED_STEP)}
    assert draws["waiting"].count("waiting") > draws[TIMED_STEP].count(TIMED_STEP) > 0
    assert all("a remark" in drawn for drawn in draws.values())


def test_a_terminal_gets_bars_and_standard_output_the_json_alone(tmp_path: Path) -> None:
    out, drawn = _in_terminal(*_DATA, f"stick-actions:{tmp_path}?train=24&val=0&test=12&size=64x48")
    assert json.loads(out)["splits"]["train"]["videos"] == 24
    assert re.search(r"preparing the data set ━+ 36/36 0:00:0\d", drawn)


@pytest.mark.parametrize("forced", ["", "1"])
def test_a_log_gets_lines_and_standard_output_the_json_alone(tmp_path: Path, forced: str) -> None:
    spec = f"stick-actions:{tmp_path}?train=24&val=0&test=12&size=64x48"
    environment = {**os.environ, "FORCE_COLOR": forced}
    done = subprocess.run([sys.executable, *_DATA, spec], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout)["splits"]["test"]["videos"] == 12
    lines = [re.sub(r"\d+\.\d s", "X s", line) for line in re.sub(r"\x1b\[[0-9;]*m", "", done.stderr).splitlines()]
    assert lines == [
        f"{STARTING} ...",
        f"{STARTING}: done in X s",
        "preparing the data set ...",
        "preparing the data set: 36/36 in X s",
    ]


def test_every_step_has_a_line_at_its_begin_and_at_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with steps() as shown:
        shown.begin("loading [the] model")
        shown.advance("clips", 1, 2)
        shown.advance("clips", 2, 2)
        shown.of("opening")(0, 0)
    captured = capsys.readouterr()
    lines = [re.sub(r"\d+\.\d s", "X s", line) for line in captured.err.splitlines()]
    assert lines == [
        "loading [the] model ...",
        "loading [the] model: done in X s",
        "clips ...",
        "clips: 2/2 in X s",
        "opening ...",
        "opening: done in X s",
    ]
    assert captured.out == ""


def test_a_long_step_has_a_bounded_number_of_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeact.cli.steps._LINE_EVERY_S", 0.0)
    with steps() as shown:
        for done in range(1, 5001):
            shown.advance("training", done, 5000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 + 9
    assert lines[1].startswith("training: 500/5000 after ")


def test_a_step_that_fails_is_not_said_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with steps() as shown:
            shown.begin("converting")
            raise KeyError("conv1")

    with pytest.raises(KeyError):
        fail()
    assert capsys.readouterr().err == "converting ...\n"
