"""Search pruning, precision and clip size for the fastest model within a latency budget and an accuracy drop.

    python examples/search_under_budget.py weights.pt clips/ 5.0

5.0 is the latency budget of one clip, ms. The model is that of export_your_module.py. Killed at any moment, the same
command continues; started several times at once, the processes share the study.
"""

import sys
from pathlib import Path

from export_your_module import LABELS

from edgeact.executors import open_executors
from edgeact.export.build import DataPlan, Recipe
from edgeact.export.models.loading import LoadRequest
from edgeact.export.search import Budgets, SearchRequest, export_trial, search

TRIALS = 3  # 30 or more for a model of real size


def main(weights: str, data: str, max_ms: str) -> None:
    loading = LoadRequest(weights=Path(weights), labels=LABELS, clip_frames=4, size=32, fps=8.0)
    request = SearchRequest(
        recipe=Recipe(target="cpu", source="export_your_module:TinyNet", load=loading, data=DataPlan(data), threads=1),
        study=Path("tiny.study.db"),
        out=Path("tiny.search.json"),
        trials=TRIALS,
        finetune_epochs=0,
        budgets=Budgets(max_ms=float(max_ms), max_drop_points=1.0),
    )
    with open_executors("local", timing=True) as executors:
        record = search(request, executors)
    for trial in record.on_front:
        pruned = {stage: ratio for stage, ratio in trial.ratios.items() if ratio}
        print(f"trial {trial.number}: {trial.latency_ms:.3f} ms, top-1 {trial.top1:.0%}, {trial.artifact}, {pruned}")
    if record.chosen is None:
        sys.exit(f"no trial keeps {max_ms} ms and an accuracy drop of 1 point")
    bundle = export_trial(request.out, record.chosen, Path("tiny.edgeact"))
    print(f"wrote {bundle.path} from trial {record.chosen}")


if __name__ == "__main__":
    main(*sys.argv[1:])
