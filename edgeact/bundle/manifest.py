"""The manifest of a bundle: what is in it, what it takes and returns, and where every part came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from edgeact.clip import ClipSpec
from edgeact.errors import UnknownNameError
from edgeact.records import Precision

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

FORMAT_VERSION = "1.2"

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Role = Literal["graph", "weights", "engine", "recipe", "golden-video", "golden-logits", "other"]
Kind = Literal["onnx", "openvino-ir", "tensorrt-recipe", "tensorrt-rtx-engine", "native-program"]


class Part(BaseModel):
    """Common behaviour: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Member(Part):
    """One file inside the bundle."""

    path: str
    size_bytes: int = Field(ge=0)
    sha256: Digest
    role: Role


class ModelInfo(Part):
    """The network the artifacts were made from."""

    name: str
    source: str = Field(description="registry name or 'package.module:factory'")
    parameters: int = Field(ge=0)
    macs: int = Field(ge=0, description="multiply-accumulates of one clip; 0: not counted")
    weights_sha256: Digest
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    provenance: dict[str, str] = Field(default_factory=dict, description="how the weights were trained, as far as told")


class Artifact(Part):
    """One way to run the model: one or more members that a backend opens together."""

    name: Name
    kind: Kind
    precision: Precision
    backends: tuple[str, ...] = Field(min_length=1, description="backends that can open it, best first")
    members: tuple[str, ...] = Field(min_length=1, description="paths of its members; the first is opened")
    requires: dict[str, str] = Field(default_factory=dict, description="e.g. {'sm': '8.9', 'tensorrt-rtx': '1.7.1'}")
    float_layers: dict[str, str] = Field(default_factory=dict, description="layers left in float in INT8 -> reason")
    note: str = ""

    @property
    def is_engine(self) -> bool:
        """Whether opening it executes code that came with the bundle."""
        return self.kind == "tensorrt-rtx-engine"


class Calibration(Part):
    """Where the INT8 ranges came from."""

    dataset: str
    split: str
    data_digest: Digest
    clips: int = Field(ge=0)
    videos: int = Field(ge=0)
    classes: int = Field(ge=0)
    groups: int = Field(default=0, ge=0, description="persons or source videos; 0: not told")
    method: str
    seed: int
    synthetic: bool = Field(default=False, description="random clips, allowed only by an explicit flag")
    settled_after: int | None = Field(default=None, description="clips after which no range moved; None: some did")
    unsettled: int = Field(default=0, ge=0, description="ranges that the second half of the clips still moved")


class Golden(Part):
    """One short video with what every stage must make of it."""

    video: str = Field(description="path of the member")
    frames_sha256: Digest = Field(description="digest of the chosen, decoded uint8 RGB frames (T, H, W, 3)")
    frames_shape: tuple[int, int, int, int]
    input_mean: tuple[float, float, float] = Field(description="per channel, of the float32 network input")
    input_std: tuple[float, float, float]
    logits: tuple[float, ...] = Field(description="of PyTorch FP32")
    label: str | None = Field(default=None, description="the true label, where known")


class BundleDraft(Part):
    """What the maker of a bundle states; `write_bundle` adds the list of members."""

    model: ModelInfo
    labels: tuple[str, ...] = Field(min_length=1)
    clip: ClipSpec
    input_name: str = "clip"
    output_name: str = "logits"
    target: str = Field(description="device profile id")
    artifacts: tuple[Artifact, ...] = Field(min_length=1)
    preferred: tuple[Name, ...] = Field(
        min_length=1, description="artifact names in the order the device should try them"
    )
    decide_on_device: bool = Field(default=False, description="the target was not at hand: time the candidates there")
    golden: Golden | None = None
    calibration: Calibration | None = None
    decisions: tuple[str, ...] = Field(default=(), description="what was decided at export, and why")
    tools: dict[str, str] = Field(description="package -> version used to make the bundle")

    @model_validator(mode="after")
    def _check_draft(self) -> BundleDraft:
        names = [artifact.name for artifact in self.artifacts]
        _require_unique("artifact", names)
        _require_unique("label", self.labels)
        _require_unique("preferred artifact", self.preferred)
        if unknown := set(self.preferred) - set(names):
            raise ValueError(f"preferred must name artifacts of {names}, got {sorted(unknown)}")
        if self.golden and len(self.golden.logits) != len(self.labels):
            raise ValueError(f"golden logits: expected {len(self.labels)}, got {len(self.golden.logits)}")
        if self.golden and self.golden.frames_shape[::3] != (self.clip.clip_frames, 3):
            raise ValueError(
                f"golden frames_shape: expected ({self.clip.clip_frames}, height, width, 3), "
                f"got {self.golden.frames_shape}"
            )
        return self

    def artifact(self, name: str) -> Artifact:
        """The artifact called `name`; raises UnknownNameError where there is none."""
        for artifact in self.artifacts:
            if artifact.name == name:
                return artifact
        raise UnknownNameError("artifact", name, (artifact.name for artifact in self.artifacts))


class Manifest(BundleDraft):
    """Everything about a bundle but its measurements, which live in a member of their own."""

    format_version: str = FORMAT_VERSION
    members: tuple[Member, ...]

    @model_validator(mode="after")
    def _check_members(self) -> Manifest:
        _require_unique("member", [member.path for member in self.members])
        roles = {member.path: member.role for member in self.members}
        used = {path for artifact in self.artifacts for path in artifact.members}
        if self.golden:
            used.add(self.golden.video)
        if missing := used - roles.keys():
            raise ValueError(f"members {sorted(missing)} are used but not listed")
        for artifact in self.artifacts:
            engines = [path for path in artifact.members if roles[path] == "engine"]
            if artifact.is_engine != bool(engines):
                raise ValueError(
                    f"artifact '{artifact.name}' of kind {artifact.kind} has engine members {engines}; "
                    f"expected {'at least one' if artifact.is_engine else 'none'}"
                )
        return self


def _require_unique(what: str, values: Sequence[str]) -> None:
    if len(set(values)) != len(values):
        doubled = sorted({value for value in values if values.count(value) > 1})
        raise ValueError(f"{what} names must be unique, got {doubled} more than once")
