"""All models by name: one literal table."""

from __future__ import annotations

from edgeact.clip import ClipSpec
from edgeact.errors import UnknownNameError
from edgeact.export.models.cnn3d import cnn3d, cnn3d_gate
from edgeact.export.models.r3d import msf_r3d, msf_r3d_fsam, r3d_18
from edgeact.export.models.spec import KINETICS_MEAN, KINETICS_STD, ModelSpec

__all__ = ["MODELS", "find_model"]

_MSF = "Multilevel spatiotemporal feature fusion with FSAM (MSF-R3D), table 5"
_GATE = "3D Convolutional with Attention for Action Recognition"


def _clip(clip_frames: int, fps: float) -> ClipSpec:
    # Both papers resize to 171x128 and crop 112x112; UCF-101 is 25 frames/s, so 6.25 is every fourth frame.
    return ClipSpec(
        clip_frames=clip_frames, fps=fps, resize=(128, 171), crop=(112, 112), mean=KINETICS_MEAN, std=KINETICS_STD
    )


MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec("r3d-18", r3d_18, _clip(8, 6.25), _MSF, 33_180_000),
        ModelSpec("msf-r3d", msf_r3d, _clip(8, 6.25), _MSF, 21_840_000),
        ModelSpec("msf-r3d-fsam", msf_r3d_fsam, _clip(8, 6.25), _MSF, 21_880_000),
        ModelSpec("cnn3d", cnn3d, _clip(16, 25.0), _GATE, classifier="head.4"),
        ModelSpec("cnn3d-gate", cnn3d_gate, _clip(16, 25.0), _GATE, classifier="head.4"),
    )
}


def find_model(name: str) -> ModelSpec:
    """The row called `name`; UnknownNameError with the nearest names otherwise."""
    try:
        return MODELS[name]
    except KeyError:
        raise UnknownNameError("model", name, MODELS) from None
