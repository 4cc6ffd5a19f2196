"""A network that tells colours apart, and its videos: small enough to export in seconds, and sure of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgeact.clip import ClipSpec
from edgeact.export.models.loading import LoadedModel, LoadRequest, load_model
from edgeact.video import write_video

LABELS = ("blue", "dark", "green", "red")
PERSONS = 15
SIZE = {"clip_frames": 4, "size": 32, "fps": 8.0}
_PIXELS = {"blue": (20, 20, 230), "dark": (20, 20, 20), "green": (20, 230, 20), "red": (230, 20, 20)}


class ColourNet(nn.Module):
    """Two 3-D convolutions that pass the channels on, an average, and a head that weighs them."""

    def __init__(self, class_count: int = len(LABELS)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv3d(3, 16, 3, stride=(1, 2, 2), padding=1)
        self.norm = nn.BatchNorm3d(16)
        self.body = nn.Conv3d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, class_count)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if not name.startswith("norm"):
                    parameter.mul_(0.0 if name.endswith("bias") else 0.05)
            for channel in range(3):
                self.stem.weight[channel, channel, 1, 1, 1] += 1.0
                self.body.weight[channel, channel, 1, 1, 1] += 1.0
            if class_count == len(LABELS):
                for label, channel in (("red", 0), ("green", 1), ("blue", 2)):
                    self.head.weight[LABELS.index(label), channel] += 4.0
                self.head.bias[LABELS.index("dark")] = 2.0

    def forward(self, clip: Tensor) -> Tensor:
        features = torch.relu(self.norm(self.stem(clip)))
        features = torch.relu(self.body(features)).mean(dim=(2, 3, 4))
        logits: Tensor = self.head(features)
        return logits


def colour_net() -> nn.Module:
    """The factory as a user would write it."""
    return ColourNet()


def load_colours(**changes: object) -> LoadedModel:
    """The network through the door of the exporter."""
    request = LoadRequest(**{"labels": LABELS, **SIZE, **changes})  # type: ignore[arg-type]
    return load_model("tests.export.colours:colour_net", request)


def clip_spec() -> ClipSpec:
    """The clip it takes."""
    return load_colours().clip


def write_colours(root: Path, persons: int = PERSONS) -> Path:
    """`root`/<colour>/person00_0.mp4 ...: one second each, noisy, in shades of their colour."""
    rng = np.random.default_rng(0)
    for label, pixel in _PIXELS.items():
        for person in range(persons):
            base = np.clip(np.array(pixel) + rng.integers(-15, 16, 3), 0, 255)
            frames = [np.clip(base + rng.integers(-10, 11, (40, 48, 3)), 0, 255).astype(np.uint8) for _ in range(8)]
            write_video(root / label / f"person{person:02d}_0.mp4", frames, 8.0)
    return root
