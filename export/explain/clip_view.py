"""One clip as the network sees it, with the weights of its attention modules and Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgeact.clip import ClipSpec
from edgeact.export.explain.attention_weights import FloatArray, ModuleWeights, collect_weights
from edgeact.export.explain.document import ClipDocument, GradCamDocument, LabelScore, ModuleDocument, to_volume
from edgeact.export.explain.gradcam import GradCam, grad_cam
from edgeact.export.models.loading import LoadedModel
from edgeact.video import Image, preprocess

__all__ = ["ClipView", "view_clip"]

_RANKED = 3


@dataclass(frozen=True, eq=False)
class ClipView:
    """Everything a picture shows of one clip."""

    start_s: float
    """Of the clip's first frame, in the video."""
    fps: float
    frames: Image
    """uint8 RGB `(T, H, W, 3)`, resized and cropped."""
    ranking: tuple[LabelScore, ...]
    """The labels with the highest scores, best first."""
    explained: LabelScore
    """The label that Grad-CAM explains."""
    modules: tuple[ModuleWeights, ...]
    cam: GradCam

    @property
    def drawn_modules(self) -> tuple[ModuleWeights, ...]:
        """The modules to draw: the last of each kind in each stage, if its weights differ along some axis."""
        differing = (m for m in self.modules if m.channels is not None or m.frames is not None or m.maps is not None)
        return tuple({(module.stage, module.kind): module for module in differing}.values())

    def time_s(self, frame: int) -> float:
        """Return the time of a frame of the clip, in the video."""
        return self.start_s + frame / self.fps

    def at_frame(self, values: FloatArray, frame: int) -> FloatArray:
        """Return the entry of `values` `(T', ...)` that covers a frame; activations have fewer frames than the clip."""
        entry: FloatArray = values[frame * len(values) // len(self.frames)]
        return entry

    def document(self) -> ClipDocument:
        """Return the numbers of the clip."""
        return ClipDocument(
            start_s=round(self.start_s, 6),
            top=self.ranking,
            modules=tuple(ModuleDocument.of(module) for module in self.modules),
            grad_cam=GradCamDocument(
                self.cam.layer, self.explained.label, self.explained.score, to_volume(self.cam.map)
            ),
        )


def view_clip(loaded: LoadedModel, raw: Image, start_s: float, label: str | None = None) -> ClipView:
    """Run one clip of raw frames, uint8 RGB `(T, H, W, 3)`; Grad-CAM explains `label`, or the best label if None."""
    inputs = preprocess(raw, loaded.clip)
    clip = torch.from_numpy(inputs)
    cam = grad_cam(loaded.module, clip, None if label is None else loaded.labels.index(label))
    softmax = torch.softmax(torch.from_numpy(cam.logits), dim=0).tolist()
    scores = [LabelScore(name, score) for name, score in zip(loaded.labels, softmax, strict=True)]
    best = sorted(range(len(scores)), key=lambda index: (-scores[index].score, index))[:_RANKED]
    return ClipView(
        start_s=start_s,
        fps=loaded.clip.fps,
        frames=_pixels(inputs, loaded.clip),
        ranking=tuple(scores[index] for index in best),
        explained=scores[cam.index],
        modules=collect_weights(loaded.module, clip),
        cam=cam,
    )


def _pixels(inputs: NDArray[np.float32], clip: ClipSpec) -> Image:
    """Return the resized, cropped RGB pixels behind the network's input."""
    pixels = (inputs[0].transpose(1, 2, 3, 0) * clip.std + clip.mean) * 255
    frames = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(frames if clip.channel_order == "rgb" else frames[..., ::-1])
