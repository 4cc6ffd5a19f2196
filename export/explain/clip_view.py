"""One clip as the network sees it, what its attention weighs there, and Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeact.clip import ClipSpec
from edgeact.export.explain.attention_weights import FloatArray, ModuleWeights, collect_weights
from edgeact.export.explain.gradcam import GradCam, grad_cam
from edgeact.export.models.loading import LoadedModel
from edgeact.video import Image, preprocess

__all__ = ["Look", "look"]

_RANKED = 3


@dataclass(frozen=True, eq=False)
class Look:
    """What there is to see in one clip, `(T, h, w, 3)` uint8 RGB as it was preprocessed, from `start_s` on."""

    start_s: float
    fps: float
    frames: Image
    ranking: tuple[tuple[str, float], ...]
    """The best labels and their softmax scores, best first."""
    label: str
    """What Grad-CAM speaks of."""
    score: float
    """The label's."""
    modules: tuple[ModuleWeights, ...]
    cam: GradCam

    @property
    def shown(self) -> tuple[ModuleWeights, ...]:
        """The modules to draw: the last of each kind in each stage, if it weighs at least two things differently."""
        drawn = (m for m in self.modules if m.channels is not None or m.frames is not None or m.maps is not None)
        return tuple({(module.stage, module.kind): module for module in drawn}.values())

    def time_s(self, frame: int) -> float:
        """Of a frame of the clip, in the video."""
        return self.start_s + frame / self.fps

    def of_frame(self, values: FloatArray, frame: int) -> FloatArray:
        """The entry of `values` `(T', ...)` that covers a frame of the clip; features have fewer frames than it."""
        entry: FloatArray = values[frame * len(values) // len(self.frames)]
        return entry

    def document(self) -> dict[str, Any]:
        """All as JSON-ready numbers."""
        return {
            "start_s": round(self.start_s, 6),
            "top": [{"label": label, "score": score} for label, score in self.ranking],
            "modules": [_module(module) for module in self.modules],
            "grad_cam": {
                "layer": self.cam.layer,
                "label": self.label,
                "score": self.score,
                "map": _numbers(self.cam.map),
            },
        }


def look(loaded: LoadedModel, raw: Image, start_s: float, label: str | None = None) -> Look:
    """Look at one clip, raw frames uint8 RGB `(T, H, W, 3)`; Grad-CAM is of `label`, or of the best one."""
    inputs = preprocess(raw, loaded.clip)
    clip = torch.from_numpy(inputs)
    cam = grad_cam(loaded.module, clip, None if label is None else loaded.labels.index(label))
    scores = torch.softmax(torch.from_numpy(cam.logits), dim=0).tolist()
    best = sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:_RANKED]
    return Look(
        start_s,
        loaded.clip.fps,
        _seen(inputs, loaded.clip),
        tuple((loaded.labels[index], scores[index]) for index in best),
        loaded.labels[cam.index],
        scores[cam.index],
        collect_weights(loaded.module, clip),
        cam,
    )


def _seen(inputs: NDArray[np.float32], clip: ClipSpec) -> Image:
    """The resized, cropped pixels behind the network's input."""
    pixels = (inputs[0].transpose(1, 2, 3, 0) * clip.std + clip.mean) * 255
    frames = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(frames if clip.channel_order == "rgb" else frames[..., ::-1])


def _module(module: ModuleWeights) -> dict[str, Any]:
    return {
        "path": module.path,
        "stage": module.stage,
        "kind": module.kind,
        "channels": _numbers(module.channels),
        "frames": _numbers(module.frames),
        "maps": _numbers(module.maps),
        "frequencies": [vars(one) | {"weight": round(one.weight, 6)} for one in module.frequencies],
    }


def _numbers(values: FloatArray | None) -> Any:
    return None if values is None else np.round(values.astype(np.float64), 6).tolist()
