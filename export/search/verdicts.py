"""The record of a search: the outcomes in a study, judged by the budgets."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from edgeact.calibration.intervals import proportion_interval
from edgeact.calibration.paired_test import compare_paired, count_needed
from edgeact.devices import probe_machine
from edgeact.errors import UsageError
from edgeact.export.build import Build
from edgeact.export.search.front import fastest_within, front_of
from edgeact.export.search.outcome import Outcome
from edgeact.export.search.space import VERSION, Config, Space
from edgeact.export.search.study import Budgets
from edgeact.records import PairedDrop, SearchRecipe, SearchRecord, SearchTrial

__all__ = ["Judge", "recipe_of"]

_OPTIMISTIC = (
    "the Pareto front was chosen by these videos, so its accuracies are slightly optimistic: measure the trial you "
    "export on other videos (edgeact evaluate)"
)


@dataclass(frozen=True)
class Judge:
    """Makes the record of a search from outcomes; the budgets are those of the call, not of the study."""

    recipe: SearchRecipe
    space: Space
    base: Build
    reference: tuple[bool, ...]
    budgets: Budgets
    trials: int

    def record(self, outcomes: Mapping[int, Outcome], configs: Mapping[int, Config]) -> SearchRecord:
        """Return the record of all finished trials."""
        trials = tuple(self.trial(number, configs[number], outcomes[number]) for number in sorted(outcomes))
        good = [trial for trial in trials if trial.latency_ms is not None and trial.drop]
        points = [(trial.latency_ms or 0.0, trial.drop.drop_points) for trial in good if trial.drop]
        front = [good[index] for index in front_of(points)]
        chosen = fastest_within(front)
        source = self.base.inputs.data.source
        return SearchRecord(
            created_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            model=self.base.inputs.model.name,
            target=self.base.inputs.profile.id,
            recipe=self.recipe,
            machine=next((each.machine for each in outcomes.values() if each.machine), None) or probe_machine(),
            is_estimate=not self.base.can_time,
            dataset=source.dataset if source else "",
            split=source.split if source else "",
            count=len(self.reference),
            reference_top1=float(np.mean(self.reference)),
            max_ms=self.budgets.max_ms,
            max_drop_points=self.budgets.max_drop_points,
            wanted_trials=self.trials,
            trials=trials,
            front=tuple(trial.number for trial in front),
            chosen=chosen.number if chosen else None,
            notes=tuple(_notes(front, self.base, self.budgets.max_drop_points)),
        )

    def trial(self, number: int, config: Config, outcome: Outcome) -> SearchTrial:
        """Return one trial as the record has it."""
        choices = {
            "number": number,
            "ratios": config.ratios,
            "int8": config.int8,
            "clip_frames": config.clip.clip_frames,
            "size": config.clip.size,
        }
        if outcome.failure:
            return SearchTrial.model_validate({**choices, "failure": outcome.failure})
        facts = outcome.model_dump(include=set(SearchTrial.model_fields) & set(Outcome.model_fields))
        latency_over, drop_over = self.budgets.excess(outcome)
        return SearchTrial.model_validate(
            {
                **facts,
                **choices,
                "top1": float(np.mean(outcome.right)),
                "top1_interval": proportion_interval(sum(outcome.right), len(outcome.right)),
                "drop": self.drop(outcome),
                "within_budgets": latency_over <= 0 and drop_over <= 0,
            }
        )

    def drop(self, outcome: Outcome) -> PairedDrop:
        """Return the accuracy drop against the unpruned model. Raises UsageError if the readable videos differ."""
        if len(outcome.right) != len(self.reference):
            raise UsageError(
                f"accuracy was counted on {len(self.reference)} videos for the unpruned model, now on "
                f"{len(outcome.right)}: videos were removed or added; restore them, or begin another --study"
            )
        return compare_paired(np.array(self.reference), np.array(outcome.right), self.budgets.max_drop_points)


def _notes(front: Iterable[SearchTrial], base: Build, max_drop_points: float) -> Iterable[str]:
    drops = [trial.drop for trial in front if trial.drop]
    undecided = [drop for drop in drops if drop.verdict == "undecided"]
    if undecided:
        yield _undecided(undecided, max_drop_points)
    if drops:
        yield _OPTIMISTIC
    if not base.can_time:
        yield f"every latency is an estimate from the peak rates of {base.inputs.profile.title}; none was measured"


def _undecided(drops: Sequence[PairedDrop], max_drop_points: float) -> str:
    """Describe how many videos would distinguish the allowed accuracy drop (if 0: one point) from none."""
    points, count = max_drop_points or 1.0, drops[0].count
    shares = [(drop.lost + drop.gained + 1) / (drop.count + 2) for drop in drops]
    needed = round(statistics.median(count_needed(share, min(points / 100, 1.0)) for share in shares))
    undecided = f"{len(drops)} trials of the front are undecided"
    if needed > count:
        return (
            f"{count} videos are too few to distinguish a drop of {points:g} points from none, {undecided}: models "
            f"that differ this much take about {needed} videos (--videos)"
        )
    return f"{undecided}: their drop is about what --max-drop allows, {max_drop_points:g} points"


def recipe_of(base: Build, space: Space, finetune_epochs: int) -> SearchRecipe:
    """Return what all trials of a search have in common, for its record and to identify its study."""
    recipe, model = base.recipe, base.inputs.model
    return SearchRecipe(
        source=model.source,
        weights=str(recipe.load.weights) if recipe.load.weights else None,
        weights_sha256=model.weights_sha256,
        labels=model.labels,
        width=recipe.load.width,
        clip=model.clip,
        data=recipe.data.spec or "",
        data_digest=recipe.data_digest,
        calibration_clips=recipe.data.calibration_clips,
        evaluation_videos=recipe.data.evaluation_videos,
        accept_poor_calibration=recipe.data.accept_poor,
        seed=recipe.data.seed,
        finetune_epochs=finetune_epochs,
        threads=recipe.threads or 1,
        channel_multiple=space.channel_multiple,
        space_version=VERSION,
        stages={group.name: group.modules for group in space.groups},
        patterns=space.prunable,
    )
