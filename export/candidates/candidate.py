"""A variant: one artifact with its members before it is judged, and what variants are made from."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx

from edgeact.bundle import Artifact
from edgeact.bundle.manifest import Role
from edgeact.clip import ClipSpec
from edgeact.devices import DeviceProfile
from edgeact.export.graph.activation_extrema import largest_values
from edgeact.export.graph.proto import from_proto
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.export.quantize.tuning import Study
from edgeact.records import Precision

__all__ = ["Clips", "Sources", "Variant", "artifact_sha256", "onnx_variant"]

Clips = Sequence[npt.NDArray[np.float32]]

_OPENED: tuple[Role, ...] = ("graph", "weights", "engine")


def artifact_sha256(members: Iterable[tuple[str, Role, str]]) -> str:
    """Return the digest of an artifact from its members' paths, roles and SHA-256; the order does not matter."""
    lines = sorted(f"{path} {sha256}\n" for path, role, sha256 in members if role in _OPENED)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Variant:
    """One artifact with its members."""

    artifact: Artifact
    members: Mapping[str, tuple[Role, bytes]]
    checked_by: str | None
    """Backend that executes the graph on a CPU, for parity; None where only the target can."""
    built_from: str | None = None
    """The variant an engine was built from, whose parity and accuracy decide for it."""
    checked_graph: bytes | None = None
    """Run this graph for parity instead of the member: what a GPU makes of it, written out for `checked_by`."""
    device: str = "CPU"
    """Where the artifact is meant to run: 'CPU', 'SM 8.7'."""

    @property
    def judged_name(self) -> str:
        """Whose parity and accuracy decide: its own, or those of the graph an engine was built from."""
        return self.built_from or self.artifact.name

    @property
    def size_bytes(self) -> int:
        """Size of what a device opens; recipes and scripts are left out."""
        return sum(len(data) for role, data in self.members.values() if role in _OPENED)

    @property
    def sha256(self) -> str:
        """Digest of what a device opens: the members' paths and contents; recipes and scripts are left out."""
        return artifact_sha256(
            (path, role, hashlib.sha256(data).hexdigest()) for path, (role, data) in self.members.items()
        )

    def member(self, role: Role) -> bytes | None:
        """The one member of that role; None where there is none."""
        return next((data for own, data in self.members.values() if own == role), None)


@dataclass(frozen=True)
class Sources:
    """What variants are made from."""

    master: onnx.ModelProto
    """FP32, opset 18."""
    clip: ClipSpec
    profile: DeviceProfile
    samples: Clips
    """Real clips to measure activations on, so that FP16 cannot overflow unseen."""
    calibration: Calibrator | None
    """Where INT8 ranges are taken from; None: no INT8."""
    precisions: tuple[Precision, ...]
    on_step: Callable[[str], None]
    float_modules: tuple[str, ...] = ()
    """Modules of the model whose layers stay in float in INT8, because whoever asks wants them there."""
    study: Study | None = None
    """How INT8 is tuned; None: Q/DQ by the ranges alone."""
    decisions: list[str] = field(default_factory=list)
    """What was decided on the way, in words; appended to."""

    def label(self, precision: Precision) -> str:
        """What artifacts of `precision` are called: INT8 with layers left in float for accuracy is 'mixed'."""
        return "mixed" if precision == "int8" and self.study and self.study.mixed else precision

    @functools.cached_property
    def ranges(self) -> Mapping[str, float]:
        """Largest absolute value of every tensor of `master` on the samples; measured once, for all releases."""
        return largest_values(from_proto(self.master), self.samples)


def onnx_variant(
    name: str, precision: Precision, data: bytes, float_layers: Mapping[str, str] | None = None
) -> Variant:
    """An ONNX graph for ONNX Runtime."""
    path = f"onnx/{name}.onnx"
    artifact = Artifact(
        name=name,
        kind="onnx",
        precision=precision,
        backends=("onnxruntime",),
        members=(path,),
        float_layers=dict(float_layers or {}),
    )
    return Variant(artifact, {path: ("graph", data)}, "onnxruntime")
