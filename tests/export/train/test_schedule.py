"""The learning rate of every optimizer step, from the beginning and resumed."""

from __future__ import annotations

import pytest
import torch

from edgeact.export.train.plan import TrainPlan
from edgeact.export.train.schedule import warmup_cosine

PLAN = TrainPlan(learning_rate=2e-3)


def _rates(steps: int, done: int = 0) -> list[float]:
    """Return the learning rates of the steps from `done` on, and after the last step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0 if done else PLAN.learning_rate)
    scheduler = warmup_cosine(optimizer, PLAN, steps, done)
    rates = []
    for _ in range(done, steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return [*rates, optimizer.param_groups[0]["lr"]]


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = _rates(100)
    assert 0 < rates[0] < PLAN.learning_rate / 50
    assert max(rates) == rates[10] == PLAN.learning_rate
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[5] == pytest.approx(PLAN.learning_rate / 2)
    assert rates[55] == pytest.approx(PLAN.learning_rate / 2)
    assert rates[-1] == pytest.approx(0)


@pytest.mark.parametrize("done", [1, 7, 10, 63, 99, 100])
def test_a_resumed_training_has_the_same_rates_to_the_last_bit(done: int) -> None:
    assert _rates(100, done) == _rates(100)[done:]
