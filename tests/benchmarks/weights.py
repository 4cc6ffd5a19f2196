"""`python -m tests.benchmarks.weights`: train the weights for the accuracy benchmarks, once; resumable.

The model in full size, and with three quarters of the channels pruned and fine-tuned with the unpruned model as the
teacher: more than an hour on two cores. The weights are in the user's cache; without them the benchmarks use random
weights and measure no accuracy.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from edgeact.cli.output import note
from edgeact.export.train.plan import TrainPlan
from edgeact.export.train.train import TrainRequest, train
from edgeact.progress import Callbacks
from edgeact.storage import cache_folder
from tests.benchmarks.processes import run_child

__all__ = ["DATA", "MODEL", "PRUNING", "pruned_weights", "trained_weights"]

MODEL = "msf-r3d-fsam"
DATA = "stick-actions?train=3600&val=360&test=2400&seed=0"
PRUNING = ("--prune", "0.75", "--prune-multiple", "4")
_FINETUNING = ("--finetune", DATA, "--epochs", "5")
_FPS = 6.0


@dataclass(frozen=True)
class _Phase:
    name: str
    size: int
    resize: tuple[int, int]
    epochs: int
    learning_rate: float


# Small frames first: a third of the pixels take a third of the time.
_PHASES = (
    _Phase(f"{MODEL}-64", 64, (70, 74), 5, 1.2e-3),
    _Phase(MODEL, 112, (122, 130), 2, 4e-4),
)


def trained_weights() -> Path | None:
    """Return the weights file of the full-size model; None if it was not trained."""
    return _if_file(_folder() / f"{MODEL}.safetensors")


def pruned_weights() -> Path | None:
    """Return the weights file of the pruned and fine-tuned model; None if it was not trained."""
    return _if_file(_folder() / "pruned.pruned.safetensors")


def make() -> None:
    """Train the weights that do not exist yet."""
    before = None
    for phase in _PHASES:
        out = _folder() / f"{phase.name}.safetensors"
        if not out.is_file():
            note(f"training {out}")
            plan = TrainPlan(epochs=phase.epochs, learning_rate=phase.learning_rate)
            request = TrainRequest(MODEL, DATA, out, plan, size=phase.size, resize=phase.resize, fps=_FPS, init=before)
            train(request, Callbacks(on_event=lambda event: note(str(event))))
        before = out
    if pruned_weights() is None:
        note("pruning and fine-tuning")
        command = ("export", MODEL, "--weights", str(before), *PRUNING, *_FINETUNING)
        options = ("--target", "cpu", "--precision", "int8", "--data", DATA, "--threads", "2")
        out = _folder() / "pruned.edgeact"
        run_child([Path(sys.executable).with_name("edgeact"), *command, *options, "--out", out], cores=2)


def _folder() -> Path:
    return cache_folder() / "bench"


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


if __name__ == "__main__":
    make()
