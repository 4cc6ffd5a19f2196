"""Hyperparameters, videos and results of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeact.errors import UsageError
from edgeact.export.train.frame_cache import PreparedVideos

__all__ = ["EpochResult", "TrainPlan", "TrainingVideos"]


@dataclass(frozen=True)
class TrainPlan:
    """Hyperparameters of a training: all that decides the outcome besides the data and the module."""

    epochs: int = 20
    batch_size: int = 16
    """Clips per optimizer step."""
    learning_rate: float = 2e-3
    """Peak learning rate, at the end of the warm-up."""
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    warmup_fraction: float = 0.1
    """Share of all optimizer steps in which the learning rate rises."""
    seed: int = 0
    flip: bool = False
    """Mirror every second clip, at random; wrong if classes differ by left and right."""
    frames: Literal["clip", "single"] = "clip"
    """'single' repeats one frame: the baseline that shows how much of a data set can be classified without motion."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise UsageError(
                "training plan: expected at least 1 epoch, at least 1 clip per batch and a positive learning rate, got "
                f"{self.epochs}, {self.batch_size} and {self.learning_rate}"
            )
        if self.weight_decay < 0 or not (0 <= self.label_smoothing < 1 and 0 <= self.warmup_fraction < 1):
            raise UsageError(
                "training plan: expected a weight decay of at least 0, label smoothing and a warm-up fraction within "
                f"[0, 1), got {self.weight_decay}, {self.label_smoothing} and {self.warmup_fraction}"
            )


@dataclass(frozen=True)
class TrainingVideos:
    """Videos of a training."""

    train: PreparedVideos
    validation: PreparedVideos | None = None
    """Videos whose accuracy is reported after every epoch; nothing is selected by this accuracy."""


@dataclass(frozen=True)
class EpochResult:
    """Event of `fit`: an epoch is finished and its state is on disk."""

    epoch: int
    """Index from 0."""
    loss: float
    """Mean training loss over the optimizer steps."""
    validation_top1: float | None
    """Top-1 accuracy within [0, 1]; None without validation videos."""
