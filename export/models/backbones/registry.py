"""All backbones by name: one literal table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from edgeact.clip import ClipSpec
from edgeact.errors import UnknownNameError
from edgeact.export.models.backbones.c3d import c3d, msf_c3d
from edgeact.export.models.backbones.cnn3d import cnn3d
from edgeact.export.models.backbones.fourier3d import FourierOptions, rfnet3d_18, rfnet3d_50
from edgeact.export.models.backbones.msf import MsfOptions
from edgeact.export.models.backbones.r3d import msf_r3d, r3d_18
from edgeact.export.models.backbones.resnet3d import resnet3d_18, resnet3d_50, resnext3d_101
from edgeact.export.models.part_options import PartOptions

__all__ = ["BACKBONES", "BackboneSpec", "find_backbone"]

# Per-channel statistics of torchvision's video models; none of the papers states any.
_KINETICS_MEAN = (0.43216, 0.394666, 0.37645)
_KINETICS_STD = (0.22803, 0.22145, 0.216989)

# Hara et al.'s first release, which the EAM paper fine-tunes: pixels from 0 to 255 less ActivityNet's means, undivided.
# Its test clips are center crops of the shorter edge at 112 pixels, from UCF-101's 4:3 frames.
_HARA_CLIP = ClipSpec(
    clip_frames=16,
    fps=25.0,
    resize=(112, 149),
    crop=(112, 112),
    mean=(114.7748 / 255, 107.7354 / 255, 99.4750 / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
)

_MSF = "Multilevel spatiotemporal feature fusion with FSAM (MSF-R3D)"
_EAM = "An Efficient Attention Module for 3D Convolutional Neural Networks in Action Recognition"
_RF = "Action Recognition with 3D Residual Attention and Cross Entropy (3DRFNet)"
_GATE = "3D Convolutional with Attention for Action Recognition"


@dataclass(frozen=True)
class BackboneSpec:
    """One row of the table."""

    name: str
    build: Callable[..., nn.Module]
    """Builds the network from a `NetworkConfig`, an instance of `options` and an `AttentionBuilder`."""
    clip: ClipSpec
    """The paper's clip contract."""
    paper: str
    options: type[PartOptions] = PartOptions
    stages: int = 4
    """Number of stages that attention can follow."""
    classifier: str = "classifier"
    """Path of the last linear layer in the module."""


def _clip(clip_frames: int, fps: float) -> ClipSpec:
    # The papers resize to 171x128 and crop 112x112; UCF-101 is 25 frames/s, so 6.25 is every fourth frame.
    return ClipSpec(
        clip_frames=clip_frames, fps=fps, resize=(128, 171), crop=(112, 112), mean=_KINETICS_MEAN, std=_KINETICS_STD
    )


BACKBONES: dict[str, BackboneSpec] = {
    spec.name: spec
    for spec in (
        BackboneSpec("r3d-18", r3d_18, _clip(8, 6.25), _MSF),
        BackboneSpec("msf-r3d", msf_r3d, _clip(8, 6.25), _MSF, MsfOptions),
        BackboneSpec("c3d", c3d, _clip(16, 25.0), _MSF, stages=5),
        BackboneSpec("msf-c3d", msf_c3d, _clip(16, 25.0), _MSF, MsfOptions, stages=5),
        BackboneSpec("resnet3d-18", resnet3d_18, _HARA_CLIP, _EAM),
        BackboneSpec("resnet3d-50", resnet3d_50, _HARA_CLIP, _EAM),
        BackboneSpec("resnext3d-101", resnext3d_101, _HARA_CLIP, _EAM),
        BackboneSpec("3drfnet-18", rfnet3d_18, _clip(16, 25.0), _RF, FourierOptions),
        BackboneSpec("3drfnet-50", rfnet3d_50, _clip(16, 25.0), _RF, FourierOptions),
        BackboneSpec("cnn3d", cnn3d, _clip(16, 25.0), _GATE, stages=1, classifier="head.4"),
    )
}


def find_backbone(name: str) -> BackboneSpec:
    """Return the row called `name`; raises UnknownNameError, which names the nearest."""
    try:
        return BACKBONES[name]
    except KeyError:
        raise UnknownNameError("backbone", name, BACKBONES) from None
