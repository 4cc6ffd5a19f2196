"""Subjects of the proof: one narrow model of each paper, and the model without attention if the paper compares both."""

from __future__ import annotations

from dataclasses import dataclass

from edgeact.clip import ClipSpec
from edgeact.export.models.spec import resized_clip

__all__ = ["COSTS", "DATA", "SUBJECTS", "Cost", "Phase", "Subject", "proof_clip"]

DATA = "stick-actions?train=3600&val=360&test=2400&seed=0"
WIDTH = 16
_FRAMES, _SIZE, _RESIZE, _FPS = 8, 64, (70, 74), 6.0


@dataclass(frozen=True)
class Phase:
    """One training: number of epochs and peak learning rate."""

    epochs: int
    learning_rate: float


@dataclass(frozen=True)
class Subject:
    """One model, trained in phases, each from the weights of the previous phase."""

    model: str
    paper: str
    phases: tuple[Phase, ...]
    single_frame_of: str | None = None
    """For the baseline: the model whose weights are fine-tuned on one repeated frame."""

    @property
    def name(self) -> str:
        """Name in files and tables."""
        return self.model if self.single_frame_of is None else f"{self.model} (single frame)"


_MSF = (Phase(6, 1.2e-3),)
_RESNET = (Phase(8, 1.2e-3), Phase(6, 1e-3))
_DEEP = (*_RESNET, Phase(6, 1e-3))
_SLOW = (*_MSF, Phase(6, 1e-3))
_FLAT = (Phase(8, 3e-4), Phase(6, 6e-4), Phase(12, 1e-3))

SUBJECTS = (
    Subject("r3d-18", "MSF-R3D", _SLOW),
    Subject("msf-r3d", "MSF-R3D", _MSF),
    Subject("msf-r3d-fsam", "MSF-R3D", _MSF),
    Subject("cnn3d", "attention gate", _FLAT),
    Subject("cnn3d-gate", "attention gate", _FLAT),
    Subject("resnet3d-50", "EAM", _DEEP),
    Subject("resnet3d-50+eam", "EAM", _DEEP),
    Subject("resnet3d-18", "SE+SA, 3DRFNet", _RESNET),
    Subject("se-sa-resnet18", "SE+SA", _RESNET),
    Subject("3drfnet-18", "3DRFNet", _RESNET),
    Subject("msf-r3d", "baseline", (Phase(4, 1e-3),), single_frame_of="msf-r3d"),
)


@dataclass(frozen=True)
class Cost:
    """Full-size networks of one comparison; latencies are relative to the first."""

    paper: str
    models: tuple[str, ...]


COSTS = (
    Cost("MSF-R3D, table 5", ("msf-r3d", "msf-r3d-fsam")),
    Cost("EAM, table 4", ("resnet3d-50", "resnet3d-50+eam")),
    Cost(
        "SE+SA, table 6",
        (
            "resnext3d-101",
            "resnext3d-101+se-sa?modules=se",
            "resnext3d-101+se-sa?modules=sa",
            "resnext3d-101+se-sa?modules=sa&stages=3,4",
            "resnext3d-101+se-sa",
            "resnext3d-101+se-sa?sa_stages=3,4",
        ),
    ),
)


def proof_clip(clip: ClipSpec) -> ClipSpec:
    """Return the paper's clip contract at the size of the proof, which is the same for all models."""
    return resized_clip(clip, clip_frames=_FRAMES, size=_SIZE, resize=_RESIZE, fps=_FPS)
