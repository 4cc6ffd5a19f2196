"""The command as a process: exit codes, one line for an error, nothing half-written, nothing heavy at `--help`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import edgeact
from edgeact.cli.main import app, main

VERBS = sorted(str(command.name) for command in app.registered_commands)
HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "cv2", "scipy", "jinja2", "edgeact.export", "edgeact.calibration")

# A verb that is caught in the middle of a write, run by the real `main`.
_HANGING = """
import sys, time
from edgeact.cli.main import app, main
from edgeact.storage import atomic_write

@app.command("hang")
def hang(path: str) -> None:
    with atomic_write(path) as handle:
        handle.write(b"half")
        handle.flush()
        print("writing", flush=True)
        time.sleep(60)

main()
"""
# A verb that writes more than a pipe holds.
_TALKING = """
from edgeact.cli.main import app, main
from edgeact.cli.output import emit_json, show

@app.command("talk")
def talk(how: str) -> None:
    for number in range(20_000):
        emit_json({"number": number}, indent=None) if how == "json" else show(str(number))

main()
"""


def _edgeact(*arguments: str, columns: int = 200) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from edgeact.cli import main; main()", *arguments]
    environment = {**os.environ, "COLUMNS": str(columns)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of replacing tmp_path/out.json."""
    (tmp_path / "out.json").write_text("earlier")
    command = [sys.executable, "-c", _HANGING, "hang", str(tmp_path / "out.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        assert len(list(tmp_path.iterdir())) == 2
        yield process
        process.kill()


def test_version() -> None:
    done = _edgeact("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"edgeact {edgeact.__version__}\n", "")


def test_the_list_of_verbs_is_in_order() -> None:
    assert [command.name for command in app.registered_commands] == VERBS
    assert {"bench", "export", "inspect", "report", "run", "targets"} <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_json_and_explains_its_options(verb: str) -> None:
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    options = {name: parameter for parameter in command.params for name in parameter.opts}
    assert options["--json"].is_flag
    assert command.help
    assert command.help.endswith(".")


@pytest.mark.slow
@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help_loads_no_toolchain(verb: str | None) -> None:
    program = f"""
import sys
from edgeact.cli import main
sys.argv = {["edgeact", *([verb] if verb else []), "--help"]!r}
try:
    main()
finally:
    print("\\n".join(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Usage: edgeact" in done.stdout
    loaded = set(done.stderr.split())
    assert "edgeact.cli.main" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("targets", "rtx4090"), 2, "unknown target 'rtx4090'; did you mean rtx-4090"),
        (("data", "folder:/no/such/folder"), 4, "there is no folder '/no/such/folder'"),
        (("inspect", "{junk}"), 5, "the file does not end like a bundle"),
        (("run", "{junk}", "0", "--json"), 5, "the file does not end like a bundle"),
        (("report", "{junk}", "--json"), 5, "the file does not end like a bundle"),
        (("bench", "{junk}", "--json"), 5, "the file does not end like a bundle"),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    junk = tmp_path / "[junk].edgeact"
    junk.write_bytes(b"PK\x03\x04 and then nothing that makes sense")
    done = _edgeact(*(argument.format(junk=junk) for argument in arguments))
    assert done.returncode == code
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == done.stderr.splitlines()[-1:]
    assert message in errors[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("exprot",), ("export", "--tarket", "cpu"), ("inspect",), ("export", "--precision", "int4")]
)
def test_a_wrong_call_ends_with_2_and_names_what_is_wrong(arguments: tuple[str, ...]) -> None:
    done = _edgeact(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: edgeact" in done.stderr
    assert "Traceback" not in done.stderr
    if len(arguments) > 1:
        assert arguments[-1] in done.stderr or arguments[-2] in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_killed_verb_leaves_nothing_half_written(
    hanging: subprocess.Popen[str], number: signal.Signals, code: int, tmp_path: Path
) -> None:
    hanging.send_signal(number)
    out, err = hanging.communicate(timeout=30)
    assert hanging.returncode == code
    assert "Traceback" not in out + err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.json", "earlier")]


def test_sigterm_is_handed_back_after_the_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["edgeact", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("how", ["json", "text"])
def test_a_reader_that_goes_away_is_no_error_message(how: str) -> None:
    command = [sys.executable, "-c", _TALKING, "talk", how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1
    assert json.loads(first) == ({"number": 0} if how == "json" else 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [("--version",), ("targets",), ("targets", "--json")])
def test_output_that_cannot_be_written_is_an_error(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", "from edgeact.cli import main; main()", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 10
    assert done.stderr == "error: cannot write the output: No space left on device; free some space\n"
