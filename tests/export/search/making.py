"""A search of the network that tells colours apart, small enough for tests, and a process of its own for it.

`python -m tests.export.search.making CLIPS FOLDER TRIALS` searches in FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import Tensor, nn

from edgeact.executors import open_executors
from edgeact.export.build import DataPlan, Recipe
from edgeact.export.models.loading import LoadRequest
from edgeact.export.search import Budgets, SearchRequest, search
from edgeact.export.search.outcome import Outcome
from edgeact.export.search.recipes import trial_recipe, unpruned
from edgeact.export.search.space import ClipSize, Config, Group, Space
from edgeact.export.search.verdicts import recipe_of
from edgeact.records import Interval, Latency, SearchRecord
from tests.export.colours import LABELS, ColourNet

__all__ = ["SPACE", "latency", "outcome", "request_for", "run", "trial_of", "unexportable"]

SPACE = Space(
    groups=(Group(name="stem", modules=("stem",)), Group(name="body", modules=("body",))),
    prunable={"stem": ("stem",), "body": ("body",)},
    channel_multiple=1,
    int8=True,
    clips=(ClipSize(clip_frames=4, size=32), ClipSize(clip_frames=2, size=32)),
)


def request_for(clips: Path, folder: Path, trials: int, *, target: str = "cpu") -> SearchRequest:
    """A search without fine-tuning that keeps its files in `folder`."""
    load = LoadRequest(labels=LABELS, clip_frames=4, size=32, fps=8.0)
    recipe = Recipe(target, "tests.export.colours:colour_net", load=load, data=DataPlan(str(clips)), threads=1)
    budgets = Budgets(100.0, 1.0)
    return SearchRequest(recipe, folder / "c.study.db", folder / "c.search.json", 0, trials, budgets, (2,), ())


def trial_of(request: SearchRequest, config: Config) -> Recipe:
    """The recipe of a trial with `config`."""
    shared = recipe_of(unpruned(request.recipe), SPACE, request.finetune_epochs)
    return trial_recipe(shared, request.recipe.target, config)


def run(request: SearchRequest, executor: str = "local") -> SearchRecord:
    """The search, here or on a cluster."""
    with open_executors(executor, timing=True) as executors:
        return search(request, executors)


class _Unexportable(ColourNet):
    def forward(self, clip: Tensor) -> Tensor:
        logits = super().forward(clip)
        return logits if float(logits.sum()) > 0 else logits + 0  # a graph has no such branch


def unexportable() -> nn.Module:
    """A module that runs in PyTorch only."""
    return _Unexportable()


def latency(p50_ms: float) -> Latency:
    """A measured latency."""
    return Latency(
        runs=9,
        warmup_runs=1,
        threads=1,
        mean_ms=p50_ms,
        min_ms=p50_ms,
        max_ms=p50_ms,
        p50_ms=p50_ms,
        p90_ms=None,
        p99_ms=None,
        p50_interval=Interval(low=p50_ms, high=p50_ms),
    )


def outcome(latency_ms: float = 1.0, drop_points: float = 0.0, failure: str = "") -> Outcome:
    """What a trial may have come to."""
    if failure:
        return Outcome(failure=failure)
    return Outcome(artifact="made-up", latency=latency(latency_ms), drop_points=drop_points, right=(True, False))


if __name__ == "__main__":
    run(request_for(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
