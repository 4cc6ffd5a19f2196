"""`edgeact export --prune` as it is called: the plan before it is done, what is left beside the bundle, refusals."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeact.bundle import open_bundle
from edgeact.cli.main import main
from tests.export.colours import LABELS, write_colours

GOOD = ("tests.export.colours:colour_net", "--labels", "labels.txt", "--clip-frames", "4", "--size", "32", "--fps", "8")
Export = Callable[..., int]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colours(tmp_path_factory.mktemp("colours"))


@pytest.fixture
def export(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Return a function that runs `edgeact export` in an empty folder, FP32 for a Jetson, and returns the exit code."""
    monkeypatch.setenv("EDGEACT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)
    Path("labels.txt").write_text("\n".join(LABELS))

    def run(*arguments: str) -> int:
        common = ("--target", "orin-nano-8gb", "--precision", "fp32", "--data", str(videos), "--threads", "1")
        monkeypatch.setattr(sys, "argv", ["edgeact", "export", *GOOD, *common, *arguments, "--out", "made.edgeact"])
        try:
            main()
        except SystemExit as exit_:
            return int(exit_.code or 0)
        return 0

    return run


@pytest.mark.slow
def test_the_plan_comes_first_and_the_weights_are_beside_the_bundle(
    export: Export, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pruning = ("--prune", "0.3", "--prune-layer", "body=0.5", "--prune-multiple", "4", "--prune-steps", "2")
    tuning = ("--finetune", f"folder:{videos}", "--epochs", "1", "--max-drop", "100", "--json")
    assert export(*pruning, *tuning) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert any(decision.startswith("pruned: ratio 0.3, body 0.5 (step 2 of 2)") for decision in document["decisions"])
    err = captured.err
    assert "ms ESTIMATED: Jetson Orin Nano 8GB" in err
    assert "16 → 8" in err
    assert err.index("ms ESTIMATED") < err.index("step 1 of 2, epoch 1 of 1") < err.index("step 2 of 2, epoch 1 of 1")
    assert "the fine-tuned weights are in made.pruned.safetensors" in " ".join(err.split())
    assert open_bundle("made.edgeact").manifest.model.provenance["finetune_epochs"] == "1 in each of 2 steps"
    assert Path("made.pruned.safetensors").exists()
    assert export("--prune", "0.4", "--finetune", f"folder:{videos}") == 2
    assert "holds weights of another pruning" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_without_training_it_is_done_and_stated(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--prune", "0.25", "--prune-multiple", "1", "--prune-scope", "global", "--importance", "bn-scale")
    assert export(*options) == 0
    captured = capsys.readouterr()
    assert "pruned without fine-tuning (--finetune DATA): accuracy is lost" in " ".join(captured.err.split())
    assert "pytorch-unpruned" in captured.out
    assert "against the unpruned model on the same" in captured.out
    assert sorted(path.name for path in Path().iterdir() if path.name != "cache") == ["labels.txt", "made.edgeact"]


@pytest.mark.slow
def test_refusals_that_need_data(export: Export, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    untrained = write_colours(Path("only") / "test", persons=1).parent
    for arguments, code, words in (
        (("--prune-layer", "bodies*=0.1"), 2, "layer pattern 'bodies*': expected the name of a prunable layer"),
        (("--finetune", f"folder:{untrained}?val=0"), 4, "expected a 'train' split to fine-tune on, got test"),
        (
            ("--finetune", f"folder:{videos}", "--random-weights"),
            2,
            "has random weights, from which no student",
        ),
    ):
        assert export("--prune", "0.5", *arguments) == code
        captured = " ".join(capsys.readouterr().err.split())
        assert words in captured
        assert "Traceback" not in captured
        assert not list(Path().glob("made*"))


def test_options_of_pruning_are_not_dropped_without_a_word(export: Export, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("--importance", "taylor", "--prune-steps", "3", "--distill-features", "2") == 2
    captured = " ".join(capsys.readouterr().err.split())
    assert "--importance, --prune-steps, --distill-features: nothing is pruned; give --prune RATIO" in captured
