"""What the stages of a build take and return: the build so far, and the context that all stages share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from torch import nn

from edgeact.bundle import Bundle
from edgeact.devices import DeviceProfile, is_this_machine
from edgeact.export.build.data import ExportData
from edgeact.export.build.recipe import Recipe
from edgeact.export.candidates.candidate import BuildInputs, Candidate, TargetGraph
from edgeact.export.models.cost import Cost
from edgeact.export.models.loading import LoadedModel
from edgeact.export.quantize.tuning import Tuner
from edgeact.progress import Callbacks
from edgeact.reasons import Decision
from edgeact.records import Accuracy, Latency, PairedDrop, Sensitivity

if TYPE_CHECKING:
    from edgeact.export.build.golden_clip import GoldenClip

__all__ = ["Build", "Context", "Inputs", "Lowered", "Model", "Reference", "ReferenceRole", "Stage", "StageFunction"]

_Value = TypeVar("_Value")

Stage = Literal[
    "load", "prune", "train", "lower", "calibrate", "quantize", "emit", "check", "measure", "select", "write"
]

ReferenceRole = Literal["parity", "accuracy", "unpruned"]
"""parity: the model that is converted; accuracy: the unpruned model, which the accuracy drop counts from; unpruned: the
unpruned model, for comparison."""


class Context:
    """What all stages of one build share and none of them returns: callbacks, files, and caches of results."""

    def __init__(self, callbacks: Callbacks, out: Path | None = None, module: nn.Module | None = None) -> None:
        self.callbacks = callbacks
        self.out = out
        """File of the bundle; fine-tuned weights are written beside it. None if neither is wanted."""
        self.module = module
        """Module object to build instead of the recipe's source; None: the recipe's."""
        self.tuner: Tuner | None = None
        """Cache of INT8 tuning; made by the first stage that tunes."""
        self.golden: tuple[LoadedModel, GoldenClip] | None = None
        """Cache of the golden clip, and the model whose logits it has; made by the first stage that needs it."""
        self.calibration_only = False
        """Whether no stage after 'calibrate' will run: then clips for parity and accuracy are not read."""


@dataclass(frozen=True)
class Inputs:
    """Result of the stage 'load': the unpruned model, its data and the target."""

    model: LoadedModel
    data: ExportData
    profile: DeviceProfile


@dataclass(frozen=True)
class Model:
    """Result of the stages 'prune' and 'train': the model to convert, and the model before pruning."""

    model: LoadedModel
    unpruned: LoadedModel | None = None
    """None: nothing was pruned in this build."""
    drop_counts_from_unpruned: bool = False
    """Whether the allowed accuracy drop counts from the unpruned model."""


@dataclass(frozen=True)
class Lowered:
    """Result of the stages 'lower' and 'calibrate': the master graph with its cost, and how candidates are made."""

    inputs: BuildInputs
    cost: Cost


@dataclass(frozen=True)
class Reference:
    """A PyTorch model that candidates are compared with."""

    name: Literal["pytorch", "pytorch-unpruned"]
    model: LoadedModel
    role: ReferenceRole
    accuracy: tuple[Accuracy, ...] = ()
    recognized: tuple[bool, ...] = ()
    drop: PairedDrop | None = None
    latency: Latency | None = None

    @property
    def size_bytes(self) -> int:
        """Size of the parameters and buffers."""
        return sum(tensor.nbytes for tensor in self.model.module.state_dict().values())


@dataclass(frozen=True)
class Build:
    """A build as far as its stages have run; every stage returns a changed copy.

    The properties without 'maybe' in their name raise RuntimeError if their stage has not run.
    """

    recipe: Recipe
    stages: tuple[Stage, ...] = ()
    """Stages that have run, in order."""
    decisions: tuple[Decision, ...] = ()
    maybe_inputs: Inputs | None = None
    maybe_model: Model | None = None
    maybe_lowered: Lowered | None = None
    graphs: tuple[TargetGraph, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    references: tuple[Reference, ...] = ()
    shipped: tuple[str, ...] = ()
    """Names of the artifacts to ship, best first; result of the stage 'select'."""
    is_timed: bool = False
    """Whether latency was measured here; else the device decides."""
    maybe_bundle: Bundle | None = None

    @property
    def inputs(self) -> Inputs:
        """The unpruned model, its data and the target."""
        return _required(self.maybe_inputs, "load")

    @property
    def converted(self) -> Model:
        """The model to convert, and the model before pruning."""
        return _required(self.maybe_model, "prune")

    @property
    def model(self) -> LoadedModel:
        """The model to convert."""
        return self.converted.model

    @property
    def lowered(self) -> Lowered:
        """The master graph with its cost, and the inputs of candidates."""
        return _required(self.maybe_lowered, "lower")

    @property
    def bundle(self) -> Bundle:
        """The bundle that was written."""
        return _required(self.maybe_bundle, "write")

    @property
    def sensitivities(self) -> tuple[Sensitivity, ...]:
        """Damage of INT8 by layer, once for all graphs of the same layers, with mixed precision if it was tried."""
        by_layers: dict[tuple[str, ...], Sensitivity] = {}
        for graph in self.graphs:
            if graph.sensitivity is not None:
                layers = tuple(layer.layer for layer in graph.sensitivity.layers)
                by_layers[layers] = graph.sensitivity
        return tuple(by_layers.values())

    @property
    def can_time(self) -> bool:
        """Whether this machine is the target: only a CPU is timed here, a GPU times the candidates on the device."""
        return self.inputs.profile.family == "cpu" and is_this_machine(self.inputs.profile)


StageFunction = Callable[[Build, Context], Build]


def _required(value: _Value | None, stage: Stage) -> _Value:
    if value is None:
        raise RuntimeError(f"the stage '{stage}' of this build has not run")
    return value
