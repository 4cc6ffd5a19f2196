"""Networks whose attention is known, so that what is drawn of it can be told beforehand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edgeact.clip import ClipSpec
from edgeact.export.models.attention.base import Gate
from edgeact.export.models.loading import LoadedModel
from edgeact.video import Image

__all__ = ["CLIP", "FRAMES", "Fixed", "Probe", "loaded", "noise"]

CLIP = ClipSpec(clip_frames=4, fps=8.0, resize=(32, 32), crop=(32, 32), mean=(0.4,) * 3, std=(0.2,) * 3)
FRAMES = (0.2, 0.9, 0.4, 0.5)


class Fixed(Gate):
    """Weighs by what it was given, whatever the features."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def weights(self, x: Tensor) -> Tensor:
        return self.table


class Probe(nn.Module):
    """One convolution, perhaps gates, the mean, one linear layer: Grad-CAM of it is known in closed form."""

    def __init__(self, *gates: Gate, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(3, 6, 3, padding=1)
        self.gates = nn.Sequential(*gates)
        self.classifier = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.gates(self.conv(x)).mean(dim=(2, 3, 4)))
        return logits


def loaded(module: nn.Module, labels: tuple[str, ...] = ("sit", "挥手", "run")) -> LoadedModel:
    return LoadedModel(
        name="probe",
        source="probe",
        module=module.eval(),
        clip=CLIP,
        labels=labels,
        weights_sha256="0" * 64,
        trained=True,
    )


def noise(frames: int = 4, size: int = 32) -> Image:
    return np.random.default_rng(0).integers(0, 256, (frames, size, size, 3)).astype(np.uint8)
