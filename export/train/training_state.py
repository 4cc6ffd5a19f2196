"""The resumable state of a training: one file, replaced after every epoch.

It holds what an epoch leaves behind: weights, optimizer state, number and result of the epoch. Draws and learning
rates follow from the epoch's number, so a resumed training continues bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict, cast

import torch
from torch import Tensor, nn

from edgeact.errors import UsageError, WeightsError
from edgeact.export.models.checkpoint import state_sha256
from edgeact.export.train.frame_cache import PreparedVideos
from edgeact.export.train.plan import EpochResult, TrainPlan
from edgeact.storage import atomic_write

__all__ = ["StateFile", "training_fingerprint"]


class _State(TypedDict):
    """Content of the file; the names are the format."""

    fingerprint: str
    module: dict[str, Tensor]
    optimizer: dict[str, object]
    epoch: int
    loss: float
    top1: float | None


def training_fingerprint(
    module: nn.Module, videos: PreparedVideos, plan: TrainPlan, method_digests: Sequence[str] = ()
) -> str:
    """Return the SHA-256 of all that decides a training: initial weights, videos, plan, and digests of its method.

    The folder of the videos does not count.
    """
    data = (videos.clip.model_dump_json(), videos.labels, videos.sampled_sha256())
    described = (state_sha256(module), data, sorted(asdict(plan).items()), *method_digests)
    return hashlib.sha256(repr(described).encode()).hexdigest()


@dataclass(frozen=True)
class StateFile:
    """The state of the training with this fingerprint."""

    path: Path
    fingerprint: str

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> EpochResult | None:
        """Load the state into `module` and `optimizer`; return its epoch's result, or None if there is no file.

        Raises UsageError for the state of another training, WeightsError for a damaged file.
        """
        if not self.path.exists():
            return None
        state = _read(self.path, next(module.parameters()).device)
        if state["fingerprint"] != self.fingerprint:
            raise UsageError(
                f"'{self.path}' is the state of another training: model, initial weights, data, settings, teacher or "
                "fake quantization differ, or another release of edgeact wrote it; repeat the command that began it, "
                "or remove the file to begin anew"
            )
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        return EpochResult(state["epoch"], state["loss"], state["top1"])

    def save(self, module: nn.Module, optimizer: torch.optim.Optimizer, result: EpochResult) -> None:
        """Replace the file by the state after the epoch of `result`. Raises StorageError if that fails."""
        state = _State(
            fingerprint=self.fingerprint,
            module=module.state_dict(),
            optimizer=optimizer.state_dict(),
            epoch=result.epoch,
            loss=result.loss,
            top1=result.validation_top1,
        )
        with atomic_write(self.path) as file:
            torch.save(state, file)


def _read(path: Path, device: torch.device) -> _State:
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"'{path}' is not readable as the state of a training ({reason}); remove it to begin anew"
        ) from error
    if not isinstance(state, dict) or not _State.__required_keys__.issubset(state):
        raise WeightsError(f"'{path}' is not the state of a training; remove it to begin anew")
    return cast(_State, state)
