"""The manifest of a bundle: what is in it, what it takes and returns, and where every part came from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from edgeact.clip import ClipSpec
from edgeact.records import Precision

__all__ = [
    "FORMAT_VERSION",
    "Artifact",
    "Calibration",
    "Golden",
    "Manifest",
    "Member",
    "ModelInfo",
]

FORMAT_VERSION = "1.0"

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Role = Literal["graph", "weights", "engine", "recipe", "golden-video", "golden-logits", "other"]
Kind = Literal["onnx", "openvino-ir", "tensorrt-recipe", "tensorrt-rtx-engine"]


class Part(BaseModel):
    """Common behaviour: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
    method: str
    seed: int
    synthetic: bool = Field(default=False, description="random clips, allowed only by an explicit flag")


class Golden(Part):
    """One short video with what every stage must make of it."""

    video: str = Field(description="path of the member")
    frames_sha256: Digest = Field(description="digest of the chosen, decoded uint8 RGB frames (T, H, W, 3)")
    frames_shape: tuple[int, int, int, int]
    input_mean: tuple[float, float, float] = Field(description="per channel, of the float32 network input")
    input_std: tuple[float, float, float]
    logits: tuple[float, ...] = Field(description="of PyTorch FP32")
    label: str | None = Field(default=None, description="the true label, where known")


class Manifest(Part):
    """Everything about a bundle but its measurements, which live in a member of their own."""

    format_version: str = FORMAT_VERSION
    model: ModelInfo
    labels: tuple[str, ...] = Field(min_length=1)
    clip: ClipSpec
    input_name: str = "clip"
    output_name: str = "logits"
    target: str = Field(description="device profile id")
    artifacts: tuple[Artifact, ...] = Field(min_length=1)
    preferred: tuple[Name, ...] = Field(description="artifact names in the order the device should try them")
    decide_on_device: bool = Field(default=False, description="the target was not at hand: time the candidates there")
    golden: Golden | None = None
    calibration: Calibration | None = None
    decisions: tuple[str, ...] = Field(default=(), description="what was decided at export, and why")
    tools: dict[str, str] = Field(description="package -> version used to make the bundle")
    members: tuple[Member, ...]

    @model_validator(mode="after")
    def _check(self) -> Manifest:
        names = [artifact.name for artifact in self.artifacts]
        paths = [member.path for member in self.members]
        for kind, values in (("artifact", names), ("member", paths), ("label", list(self.labels))):
            if len(set(values)) != len(values):
                raise ValueError(f"{kind} names must be unique, got {values}")
        unknown = set(self.preferred) - set(names)
        if unknown or not self.preferred:
            raise ValueError(f"preferred must name artifacts of {names}, got {list(self.preferred)}")
        used = {path for artifact in self.artifacts for path in artifact.members}
        if self.golden:
            used.add(self.golden.video)
        if missing := used - set(paths):
            raise ValueError(f"members {sorted(missing)} are used but not listed")
        if self.golden and len(self.golden.logits) != len(self.labels):
            raise ValueError(f"golden logits: expected {len(self.labels)}, got {len(self.golden.logits)}")
        return self

    def artifact(self, name: str) -> Artifact:
        """The artifact called `name`; KeyError where there is none."""
        return {artifact.name: artifact for artifact in self.artifacts}[name]
