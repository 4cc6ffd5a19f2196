"""`edgeact export` as it is called: the table, the JSON, and every refusal with its exit code."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgeact.bundle import open_bundle
from edgeact.cli.main import main
from edgeact.records import Measurements
from tests.export.colours import LABELS, colour_net, write_colours

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCE = "tests.export.colours:colour_net"
SIZES = ("--clip-frames", "4", "--size", "32", "--fps", "8")
Export = Callable[..., int]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("colours"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command is called: label files, weights good and bad, and an earlier bundle."""
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)
    Path("labels.txt").write_text("\n".join(LABELS))
    Path("three.txt").write_text("blue\ndark\ngreen\n")
    Path("twice.txt").write_text("blue\nblue\ngreen\nred\n")
    Path("empty.txt").write_text("\n")
    state = colour_net().state_dict()
    torch.save(state, "good.pt")
    torch.save({**state, "body.weight": state["body.weight"] * float("nan")}, "nan.pt")
    torch.save({**state, "body.weight": state["body.weight"][:, :3].clone()}, "narrow.pt")
    torch.save({name: tensor for name, tensor in state.items() if "head" not in name}, "headless.pt")
    Path("text.safetensors").write_text("no tensors")
    Path("made.edgeact").write_bytes(b"an earlier bundle")
    for label in LABELS:
        for number in range(3):
            path = Path("unreadable") / label / f"p{number}_0.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"no video")
    Path("nothing").mkdir()
    return tmp_path


@pytest.fixture
def export(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Runs `edgeact export` as the console script does; its exit code."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["edgeact", "export", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    return run


GOOD = (SOURCE, "--labels", "labels.txt", *SIZES)

REFUSALS = [
    ((*GOOD, "--target", "jetsen"), 2, ["unknown target 'jetsen'", "jetson"]),
    (("r3d-81", "--random-weights"), 2, ["unknown model 'r3d-81'", "r3d-18"]),
    ((*GOOD, "--precision", "int4"), 2, ["int4", "int8"]),
    ((*GOOD, "--data", "stick-action"), 2, ["unknown data set 'stick-action'", "stick-actions"]),
    ((*GOOD, "--out", "made.zip"), 2, ["expected --out FILE.edgeact", "made.zip"]),
    ((*GOOD, "--resize", "16x16"), 2, ["crop must fit into resize (16, 16), got (32, 32)"]),
    ((*GOOD, "--mean", "114,114,114"), 2, ["expected --mean with three numbers", "'114,114,114'"]),
    ((*GOOD, "--std", "0,1,1"), 2, ["std must be positive"]),
    ((*GOOD, "--channel-order", "grb"), 2, ["grb", "bgr"]),
    (("no.such.package:factory", *SIZES), 2, ["cannot import", "no.such.package"]),
    (("tests.export.colours:absent", *SIZES), 2, ["absent", "package.module:factory"]),
    (("r3d-18",), 2, ["--weights", "--random-weights"]),
    ((*GOOD, "--prune", "1.0"), 2, ["expected a pruning ratio within [0, 1), got 1 for 'ratio'"]),
    ((*GOOD, "--prune", "0.5", "--prune-layer", "body=x"), 2, ["expected --prune-layer PATTERN=RATIO", "'body=x'"]),
    ((*GOOD, "--prune-layer", "0.5"), 2, ["expected --prune-layer PATTERN=RATIO", "'0.5'"]),
    ((*GOOD, "--prune", "0.5", "--importance", "taylor"), 2, ["taylor", "--finetune DATA"]),
    ((*GOOD, "--prune", "0.5", "--prune-steps", "2"), 2, ["--finetune DATA"]),
    ((*GOOD, "--prune", "0.5", "--finetune", "x", "--distill-temperature", "0"), 2, ["a temperature above 0"]),
    ((*GOOD, "--finetune", "folder:x"), 2, ["--finetune trains a pruned model", "--prune RATIO"]),
    ((SOURCE, "--labels", "absent.txt", *SIZES), 4, ["labels file 'absent.txt' does not exist"]),
    ((SOURCE, "--labels", "twice.txt", *SIZES), 4, ["blue", "unique"]),
    ((SOURCE, "--labels", "empty.txt", *SIZES), 4, ["empty", "one label per line"]),
    ((*GOOD, "--data", "/no/such/folder"), 4, ["there is no folder '/no/such/folder'"]),
    ((*GOOD, "--data", "nothing"), 4, ["one folder of videos per class"]),
    ((*GOOD, "--data", "unreadable"), 4, ["could be read"]),
    (("--recipe", "absent.json"), 2, ["cannot read the recipe 'absent.json'"]),
    (("--recipe", "labels.txt"), 2, ["'labels.txt' is no recipe"]),
    ((*GOOD, "--data", "random"), 4, ["random clips", "--accept-poor-calibration"]),
    ((SOURCE, "--labels", "three.txt", *SIZES), 6, ["4", "3 labels"]),
    ((*GOOD, "--weights", "absent.pt"), 6, ["'absent.pt' do not exist"]),
    ((*GOOD, "--weights", "nan.pt"), 6, ["nan.pt", "body.weight", "NaN"]),
    ((*GOOD, "--weights", "narrow.pt"), 6, ["body.weight: expected (16, 16, 3, 3, 3), got (16, 3, 3, 3, 3)"]),
    ((*GOOD, "--weights", "headless.pt"), 6, ["missing", "head.weight"]),
    ((*GOOD, "--weights", "text.safetensors"), 6, ["text.safetensors", "not readable"]),
]


@pytest.mark.parametrize(("arguments", "code", "words"), REFUSALS, ids=lambda value: str(value)[-40:])
def test_refusals(
    arguments: tuple[str, ...], code: int, words: list[str], export: Export, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in Path().iterdir())
    out = () if "--out" in arguments else ("--out", "made.edgeact")
    assert export(*arguments, *out) == code
    captured = capfd.readouterr()
    message = " ".join(captured.err.split())
    for word in words:
        assert word in message
    assert "Traceback" not in message
    assert captured.out == ""
    assert Path("made.edgeact").read_bytes() == b"an earlier bundle"
    assert sorted(path.name for path in Path().iterdir() if path.name != "cache") == before


def test_an_unknown_target_is_refused_before_torch_is_imported(folder: Path, environment: dict[str, str]) -> None:
    code = (
        "import sys\nfrom edgeact.cli import main\n"
        "try:\n    main()\nfinally:\n    print([name for name in ('torch', 'onnx') if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, "export", "--target", "jetsen"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown target 'jetsen'" in done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_table_and_the_files(export: Export, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--target", "orin-nano-8gb", "--data", str(videos), "--threads", "1", "--weights", "good.pt")
    assert export(*GOOD, *options) == 0
    captured = capsys.readouterr()
    bundle = open_bundle("colour_net-orin-nano-8gb.edgeact")
    for column in ("artifact", "prec.", "size", "parity", "top-1 (95 %)", "p50 / p90 ms", "verdict"):
        assert column in captured.out
    for artifact in bundle.manifest.artifacts:
        assert artifact.name in captured.out
    assert "wrote colour_net-orin-nano-8gb.edgeact" in captured.out
    assert "edgeact bench colour_net-orin-nano-8gb.edgeact" in " ".join(captured.err.split())
    for step in ("loading the model", "calibration clips", "parity with PyTorch", "accuracy", "writing the bundle"):
        assert step in captured.err


@pytest.mark.slow
def test_a_bundle_is_rebuilt_from_its_recipe(export: Export, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint of the user's own, in FP16 so that latency selects nothing; all members but the recipe are equal."""
    options = ("--target", "nano", "--precision", "fp16", "--data", str(videos), "--out", "first.edgeact")
    assert export(*GOOD, *options) == 0
    assert export("--recipe", "first.edgeact") == 0
    first, again = open_bundle("first.edgeact"), open_bundle("first-rebuilt.edgeact")
    assert again.manifest.artifacts == first.manifest.artifacts
    assert [member.sha256 for member in again.manifest.members] == [member.sha256 for member in first.manifest.members]
    capsys.readouterr()
    assert export("--recipe", "first.edgeact", "--precision", "int8") == 2
    assert "the recipe decides --precision" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_json_is_one_document(export: Export, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--target", "nano", "--precision", "fp16", "--data", str(videos), "--out", "made.edgeact", "--json")
    assert export(*GOOD, *options) == 0
    document = json.loads(capsys.readouterr().out)
    bundle = open_bundle("made.edgeact")
    assert document["digest"] == bundle.digest
    assert document["preferred"] == ["trt-fp16"]
    assert Measurements.model_validate(document["measurements"]) == bundle.measurements


def _command(videos: Path, source: str) -> list[str]:
    arguments = [source, *GOOD[1:], "--target", "nano", "--data", str(videos), "--out", "made.edgeact"]
    return [sys.executable, "-c", "from edgeact.cli import main; main()", "export", *arguments]


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_full_disk_costs_nothing(folder: Path, videos: Path, environment: dict[str, str]) -> None:
    """No file may grow beyond 24 KB: the golden clip fits, the bundle does not."""
    before = sorted(path.name for path in folder.iterdir())
    limit = 24 << 10

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        _command(videos, SOURCE),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
    )
    assert done.returncode == 10, done.stderr[-2000:]
    assert "cannot write 'made.edgeact'" in done.stderr
    assert (folder / "made.edgeact").read_bytes() == b"an earlier bundle"
    assert sorted(path.name for path in folder.iterdir() if path.name != "cache") == before


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_export_leaves_the_earlier_bundle(
    number: int, code: int, folder: Path, videos: Path, environment: dict[str, str]
) -> None:
    (folder / "telling.py").write_text(
        "from pathlib import Path\n"
        "from tests.export.colours import colour_net\n\n\n"
        "def factory():\n    Path('started').touch()\n    return colour_net()\n"
    )
    before = sorted(path.name for path in folder.iterdir())
    with subprocess.Popen(
        _command(videos, "telling:factory"), cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while not (folder / "started").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        time.sleep(0.5)  # reading the data, or converting
        process.send_signal(number)
        captured = process.stderr.read()
    assert process.returncode == code, captured[-2000:]
    assert "Traceback" not in captured
    assert (folder / "made.edgeact").read_bytes() == b"an earlier bundle"
    left = {path.name for path in folder.iterdir()} - {"cache", "started", "__pycache__"}
    assert sorted(left) == before
