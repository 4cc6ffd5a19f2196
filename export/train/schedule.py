"""Learning-rate schedule: linear warm-up, then half a cosine."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from edgeact.export.train.plan import TrainPlan

__all__ = ["warmup_cosine"]

_FIRST_FACTOR = 0.01  # the first step of the warm-up is not lost


def warmup_cosine(optimizer: Optimizer, plan: TrainPlan, step_count: int, done: int = 0) -> LambdaLR:
    """Return the scheduler of a training of `step_count` optimizer steps, of which `done` are behind it.

    LambdaLR computes each rate from its step alone, so that a resumed training has the rates of an uninterrupted one to
    the last bit; SequentialLR of LinearLR and CosineAnnealingLR accumulates them, with rounding errors.
    """

    def factor(step: int) -> float:
        progress = step / step_count
        if progress < plan.warmup_fraction:
            return max(progress / plan.warmup_fraction, _FIRST_FACTOR)
        rest = (progress - plan.warmup_fraction) / (1 - plan.warmup_fraction)
        return 0.5 * (1 + math.cos(math.pi * rest))

    for group in optimizer.param_groups:  # states written before there was a scheduler lack the initial rate
        group["initial_lr"] = plan.learning_rate
    return LambdaLR(optimizer, factor, last_epoch=done - 1)
