"""A candidate: one artifact with its members and everything that is known of it, and the inputs candidates need."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeact.bundle import Artifact
from edgeact.bundle.manifest import Role
from edgeact.clip import ClipSpec
from edgeact.devices import DeviceProfile
from edgeact.export.quantize.calibrator import Calibrator
from edgeact.layer_reasons import FloatReason
from edgeact.phrases import phrases
from edgeact.precision import Precision
from edgeact.reasons import Decision, KernelsInexact, LatencyCause, Reason
from edgeact.records import Accuracy, Latency, PairedDrop, Parity, Sensitivity, Verdict

__all__ = [
    "BuildInputs",
    "Candidate",
    "Clips",
    "Emitted",
    "Label",
    "TargetGraph",
    "TargetGraphs",
    "artifact_sha256",
    "onnx_candidate",
]

Clips = Sequence[npt.NDArray[np.float32]]

Label = Literal["fp32", "fp16", "int8", "mixed"]
"""Precision in an artifact's name: INT8 with layers kept in float for accuracy is 'mixed'."""

_OPENED: tuple[Role, ...] = ("graph", "weights", "engine")


def artifact_sha256(members: Iterable[tuple[str, Role, str]]) -> str:
    """Return the digest of an artifact from its members' paths, roles and SHA-256; the order does not matter."""
    lines = sorted(f"{path} {sha256}\n" for path, role, sha256 in members if role in _OPENED)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Candidate:
    """One artifact with its members, and what the stages of a build find out about it.

    A stage returns changed copies. Fields of stages that have not run, or do not concern the candidate, are empty.
    """

    artifact: Artifact
    members: Mapping[str, tuple[Role, bytes]]
    """Path in the bundle -> role and content."""
    checked_by: str | None
    """Backend that executes the graph on a CPU for parity; None if only the target can."""
    family: str
    """What the candidate is besides its precision, e.g. 'openvino'."""
    label: Label
    """Precision in the artifact's name."""
    compiled_from: Candidate | None = None
    """Of an engine, the graph candidate that it was compiled from, whose parity and accuracy decide."""
    checked_graph: bytes | None = None
    """Graph to run for parity instead of the member: what a GPU makes of it, written out for `checked_by`."""
    float_layers: Mapping[str, FloatReason] = field(default_factory=dict)
    """Layer kept in float -> reason; the artifact has the English."""
    device: str = "CPU"
    """Device that the artifact is for: 'CPU', 'SM 8.7'."""

    parity: Parity | None = None
    """Agreement with PyTorch; None before the stage 'check', or if the candidate could not run here."""
    run_error: str | None = None
    """Why the candidate could not be opened or run; None if it could."""
    inexact: KernelsInexact | None = None
    """How far the kernels of this CPU are from the INT8 graph; None if they compute the graph, or were not examined."""
    accuracy: tuple[Accuracy, ...] = ()
    """Empty if the labels of the data are not those of the model, or parity failed."""
    recognized: tuple[bool, ...] = ()
    """Whether each evaluation video is classified correctly; empty like `accuracy`."""
    drop: PairedDrop | None = None
    """Accuracy drop against the unpruned model on the same videos; None if nothing was pruned."""
    latency: Latency | None = None
    """None if the target is not at hand."""
    latency_causes: tuple[LatencyCause, ...] = ()
    """Causes of the latency by the backend's profile; empty for the fastest candidate."""
    verdict: Verdict | None = None
    reason: Reason | None = None

    @property
    def name(self) -> str:
        """Name of the artifact, unique in a build."""
        return self.artifact.name

    @property
    def precision(self) -> Precision:
        """Precision of the artifact; mixed INT8 is 'int8'."""
        return self.artifact.precision

    @property
    def judged(self) -> Candidate:
        """The candidate whose parity and accuracy decide: for an engine the graph it was compiled from."""
        return self.compiled_from or self

    @property
    def agrees(self) -> bool:
        """Whether the candidate, or the graph it was compiled from, agrees with PyTorch and with its own graph."""
        parity = self.judged.parity
        return parity is not None and parity.passed and self.judged.inexact is None

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
        """Return the content of the first member with that role; None if there is none."""
        return next((data for member_role, data in self.members.values() if member_role == role), None)

    def compiled_from_measured(self, measured: Sequence[Candidate]) -> Candidate:
        """Return an engine with its graph candidate as in `measured`; any other candidate as it is."""
        if self.compiled_from is None:
            return self
        name = self.compiled_from.name
        return replace(self, compiled_from=next(graph for graph in measured if graph.name == name))


@dataclass(frozen=True)
class BuildInputs:
    """What the graphs and candidates of a target are made from."""

    master: ir.Model
    """FP32, opset 18; not to be changed."""
    clip: ClipSpec
    profile: DeviceProfile
    samples: Clips
    """Real clips, float32 `(1, 3, T, H, W)`, to measure activations on, so that an FP16 overflow is seen."""
    calibrator: Calibrator | None
    """Source of the INT8 ranges; None: no INT8."""
    precisions: tuple[Precision, ...]
    float_modules: tuple[str, ...] = ()
    """Modules of the model whose layers are kept in float on request."""


@dataclass(frozen=True)
class TargetGraph:
    """The graph of a target in one precision, before it is written for the target's backends."""

    precision: Precision
    model: ir.Model
    mixed: bool = False
    """Whether layers are kept in float for the sake of accuracy."""
    float_layers: Mapping[str, FloatReason] = field(default_factory=dict)
    """Layer kept in float -> reason."""
    decisions: tuple[Decision, ...] = ()
    sensitivity: Sensitivity | None = None
    """Damage of INT8 by layer, if it was measured."""
    goal_met: bool = True
    """Whether mixed precision met its goal on calibration clips."""

    @property
    def label(self) -> Label:
        """Precision as artifacts are named by."""
        return "mixed" if self.mixed else self.precision


@dataclass(frozen=True)
class TargetGraphs:
    """The graphs of a target, and what was decided on the way that concerns no single graph."""

    graphs: tuple[TargetGraph, ...]
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class Emitted:
    """The candidates of a target graph, and what was decided while they were made."""

    candidates: tuple[Candidate, ...]
    decisions: tuple[Decision, ...] = ()


def onnx_candidate(graph: TargetGraph, data: bytes) -> Candidate:
    """Return the candidate of an ONNX graph for ONNX Runtime; `data` is the serialized graph."""
    path = f"onnx/onnx-{graph.label}.onnx"
    artifact = Artifact(
        name=f"onnx-{graph.label}",
        kind="onnx",
        precision=graph.precision,
        backends=("onnxruntime",),
        members=(path,),
        float_layers=phrases(graph.float_layers),
    )
    return Candidate(
        artifact, {path: ("graph", data)}, "onnxruntime", "onnx", graph.label, float_layers=graph.float_layers
    )
