"""The manifest of a bundle: its artifacts, clip contract, labels, golden clip and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from edgeact.clip import ClipSpec
from edgeact.errors import UnknownNameError
from edgeact.precision import Precision
from edgeact.schema import StrictModel

__all__ = [
    "FORMAT_VERSION",
    "Artifact",
    "BundleDraft",
    "Calibration",
    "Golden",
    "Manifest",
    "Member",
    "ModelInfo",
    "Role",
]

FORMAT_VERSION = "1.3"

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Role = Literal["graph", "weights", "engine", "recipe", "golden-video", "golden-logits", "other"]
Kind = Literal["onnx", "openvino-ir", "tensorrt-recipe", "tensorrt-rtx-engine", "native-program"]


class Member(StrictModel):
    """One file in the bundle."""

    path: str
    size_bytes: int = Field(ge=0)
    sha256: Digest
    role: Role


class ModelInfo(StrictModel):
    """The model that the artifacts were made from."""

    name: str
    source: str = Field(description="registry name or 'package.module:factory'")
    parameters: int = Field(ge=0)
    macs: int = Field(ge=0, description="multiply-accumulates of one clip; 0: not counted")
    weights_sha256: Digest
    options: Mapping[str, str | int | float | bool] = Field(default_factory=dict)
    provenance: Mapping[str, str] = Field(default_factory=dict, description="how the weights were trained, if known")


class Artifact(StrictModel):
    """One deployable form of the model: one or more members that a backend opens together."""

    name: Name
    kind: Kind
    precision: Precision
    backends: tuple[str, ...] = Field(min_length=1, description="backends that can open it, best first")
    members: tuple[str, ...] = Field(min_length=1, description="paths of the members; the backend opens the first")
    requires: Mapping[str, str] = Field(default_factory=dict, description="e.g. {'sm': '8.9', 'tensorrt-rtx': '1.7.1'}")
    float_layers: Mapping[str, str] = Field(default_factory=dict, description="INT8: layers kept in float -> reason")
    note: str = ""
    golden_logits: tuple[float, ...] = Field(
        default=(), description="logits of the golden clip where this artifact was exported; empty: not recorded"
    )

    @property
    def is_engine(self) -> bool:
        """Whether opening the artifact executes code from the bundle."""
        return self.kind == "tensorrt-rtx-engine"


class Calibration(StrictModel):
    """Provenance of the INT8 activation ranges."""

    dataset: str
    split: str
    data_digest: Digest
    clips: int = Field(ge=0)
    videos: int = Field(ge=0)
    classes: int = Field(ge=0)
    groups: int = Field(default=0, ge=0, description="persons or source videos; 0: unknown")
    method: str
    seed: int
    synthetic: bool = Field(default=False, description="random clips, which need an explicit flag")
    settled_after: int | None = Field(
        default=None, description="number of clips after which no range changed; None: some ranges still change"
    )
    unsettled: int = Field(default=0, ge=0, description="ranges that the second half of the clips still changed")


class Golden(StrictModel):
    """One short video with the expected result of every stage."""

    video: str = Field(description="path of the member")
    frames_sha256: Digest = Field(description="digest of the sampled, decoded uint8 RGB frames (T, H, W, 3)")
    frames_shape: tuple[int, int, int, int]
    input_mean: tuple[float, float, float] = Field(description="per channel of the float32 network input")
    input_std: tuple[float, float, float]
    logits: tuple[float, ...] = Field(description="logits of PyTorch FP32")
    label: str | None = Field(default=None, description="the true label, if known")
    frames_mean: tuple[tuple[float, float, float], ...] = Field(
        default=(), description="mean level per frame and channel (RGB) of the decoded frames; empty: not recorded"
    )
    pixels: str | None = Field(
        default=None, description="path of the member with the resized and cropped frames; None: not recorded"
    )

    @property
    def members(self) -> tuple[str, ...]:
        """Paths of the members that the golden clip uses."""
        return (self.video,) if self.pixels is None else (self.video, self.pixels)


class BundleDraft(StrictModel):
    """The content of a manifest without the list of members, which `write_bundle` adds."""

    model: ModelInfo
    labels: tuple[str, ...] = Field(min_length=1)
    clip: ClipSpec
    input_name: str = "clip"
    output_name: str = "logits"
    target: str = Field(description="device profile id")
    artifacts: tuple[Artifact, ...] = Field(min_length=1)
    preferred: tuple[Name, ...] = Field(min_length=1, description="artifact names in order of preference")
    decide_on_device: bool = Field(
        default=False,
        description="the export did not run on the target: the device times the artifacts at the first load",
    )
    golden: Golden | None = None
    calibration: Calibration | None = None
    decisions: tuple[str, ...] = Field(default=(), description="decisions of the export, with reasons")
    tools: Mapping[str, str] = Field(description="package -> version used for the export")

    @model_validator(mode="after")
    def _check_draft(self) -> BundleDraft:
        names = [artifact.name for artifact in self.artifacts]
        _require_unique("artifact", names)
        _require_unique("label", self.labels)
        _require_unique("preferred artifact", self.preferred)
        if unknown := set(self.preferred) - set(names):
            raise ValueError(f"preferred must name artifacts of {names}, got {sorted(unknown)}")
        for artifact in self.artifacts:
            if len(artifact.golden_logits) not in (0, len(self.labels)):
                raise ValueError(
                    f"golden_logits of artifact '{artifact.name}': expected {len(self.labels)}, "
                    f"got {len(artifact.golden_logits)}"
                )
        if self.golden:
            self._check_golden(self.golden)
        return self

    def _check_golden(self, golden: Golden) -> None:
        frames = self.clip.clip_frames
        if len(golden.logits) != len(self.labels):
            raise ValueError(f"golden logits: expected {len(self.labels)}, got {len(golden.logits)}")
        if golden.frames_shape[::3] != (frames, 3):
            raise ValueError(f"golden frames_shape: expected ({frames}, height, width, 3), got {golden.frames_shape}")
        if len(golden.frames_mean) not in (0, frames):
            raise ValueError(f"golden frames_mean: expected {frames} frames, got {len(golden.frames_mean)}")

    def artifact(self, name: str) -> Artifact:
        """Return the artifact `name`; raises UnknownNameError."""
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        raise UnknownNameError("artifact", name, (artifact.name for artifact in self.artifacts))


class Manifest(BundleDraft):
    """The complete manifest; measurements are a separate member."""

    format_version: str = FORMAT_VERSION
    members: tuple[Member, ...]

    @model_validator(mode="after")
    def _check_members(self) -> Manifest:
        _require_unique("member", [member.path for member in self.members])
        roles = {member.path: member.role for member in self.members}
        used = {path for artifact in self.artifacts for path in artifact.members}
        if self.golden:
            used.update(self.golden.members)
        if missing := used - roles.keys():
            raise ValueError(f"expected all used members in the list, {sorted(missing)} are missing")
        for artifact in self.artifacts:
            engines = [path for path in artifact.members if roles[path] == "engine"]
            if artifact.is_engine != bool(engines):
                raise ValueError(
                    f"artifact '{artifact.name}' of kind {artifact.kind} has engine members {engines}; "
                    f"expected {'at least one' if artifact.is_engine else 'none'}"
                )
        return self


def _require_unique(kind: str, values: Sequence[str]) -> None:
    if len(set(values)) != len(values):
        duplicates = sorted({value for value in values if values.count(value) > 1})
        raise ValueError(f"{kind} names must be unique, got {duplicates} more than once")
