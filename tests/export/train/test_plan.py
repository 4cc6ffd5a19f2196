"""Plans that no training can follow."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edgeact.errors import UsageError
from edgeact.export.train.plan import TrainPlan
from tests.messages import names


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"weight_decay": -1.0},
        {"label_smoothing": 1.0},
        {"warmup_fraction": 1.0},
    ],
    ids=str,
)
def test_plan_outside_of_its_bounds_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(
        UsageError, check=names("training plan: expected", *(f"{value:g}" for value in changes.values()))
    ):
        replace(TrainPlan(), **changes)  # type: ignore[arg-type]
