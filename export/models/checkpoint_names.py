"""Checkpoints in the names of other packages: torchvision's `r3d_18` and the family of 3D-ResNets-PyTorch.

Both have projection shortcuts (type B) like the backbones here, so every tensor has its one place. Attention modules
stand behind a stage's blocks and have none in such a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import torch
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.errors import WeightsError
from edgeact.export.models.checkpoint import Checkpoint
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.spec import ModelSpec
from edgeact.loading_notes import ForeignNames, MissingCounters, ModelNote, ReleaseByClasses, UntrainedLayers

__all__ = ["fill_missing", "trained_clip", "with_our_names"]


@dataclass(frozen=True)
class _Naming:
    title: str
    marks: frozenset[str]
    """Names that every such file has, and no file of another naming."""
    rules: tuple[tuple[str, str], ...]
    """(pattern, replacement), applied after `layer1` became `stages.0`; a name that no pattern matches remains."""


_SHARED = ((r"(stages\.\d\.\d+)\.downsample\.(.+)", r"\1.shortcut.\2"), (r"fc\.(\w+)", r"classifier.\1"))

_TORCHVISION = _Naming("torchvision", frozenset({"stem.0.weight", "layer1.0.conv1.0.weight"}), _SHARED)
_HARA = _Naming(
    "3D-ResNets-PyTorch",
    frozenset({"conv1.weight", "layer1.0.conv1.weight"}),
    (
        (r"conv1\.(\w+)", r"stem.0.\1"),
        (r"bn1\.(\w+)", r"stem.1.\1"),
        (r"(stages\.\d\.\d+\.conv\d)\.(\w+)", r"\1.0.\2"),
        (r"(stages\.\d\.\d+)\.bn(\d)\.(\w+)", r"\1.conv\2.1.\3"),
        *_SHARED,
    ),
)

# The release of 2020 divides pixels by Kinetics' standard deviation, that of 2018 only takes a mean off. Nothing in a
# file says which it is but its number of classes: these of Kinetics-700, Moments in Time and STAIR Actions are of 2020.
_CLASSES_OF_2020 = frozenset({339, 439, 700, 800, 1039, 1139})
_PIXELS_OF_2020 = {"mean": (0.4345, 0.4051, 0.3775), "std": (0.2768, 0.2713, 0.2737)}

_COUNTER = "num_batches_tracked"


def with_our_names(weights: Checkpoint) -> Checkpoint:
    """Rename the tensors of another package's checkpoint to our names and set `naming`; return others unchanged."""
    for naming in (_TORCHVISION, _HARA):
        if weights.card is None and naming.marks <= weights.tensors.keys():
            tensors = {_ours(name, naming): tensor for name, tensor in weights.tensors.items()}
            return weights.model_copy(update={"tensors": tensors, "naming": naming.title})
    return weights


def _ours(name: str, naming: _Naming) -> str:
    name = re.sub(r"^layer([1-4])\.", lambda match: f"stages.{int(match[1]) - 1}.", name)
    for pattern, replacement in naming.rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return name


def trained_clip(weights: Checkpoint | None, clip: ClipSpec) -> ClipSpec:
    """Return the clip contract of `weights`: that of their card, else `clip` with their normalization, if known."""
    if weights is None:
        return clip
    if weights.card:
        return weights.card.clip
    return clip.model_copy(update=_PIXELS_OF_2020) if _release(weights) == "2020" else clip


def _release(weights: Checkpoint) -> str | None:
    if weights.naming != _HARA.title:
        return None
    classifier = weights.tensors.get("classifier.weight")
    return "2020" if classifier is not None and len(classifier) in _CLASSES_OF_2020 else "2018"


def fill_missing(
    weights: Checkpoint, spec: ModelSpec, config: NetworkConfig, module: nn.Module
) -> tuple[Checkpoint, tuple[ModelNote, ...]]:
    """Add the module's tensors that a checkpoint of another package cannot have; return notes on them too.

    These are attention modules and, in files of PyTorch before 0.4.1, batch norm's counters. A checkpoint in our names
    is returned unchanged. Raises WeightsError for shortcuts without parameters.
    """
    if weights.naming is None:
        return weights, ()
    state = module.state_dict()
    missing = [name for name in state if name not in weights.tensors]
    _refuse_type_a(weights, missing)
    with torch.device("meta"):
        backbone = replace(spec.formula, attention=None, attention_options=None).build(config).state_dict()
    attention = [name for name in missing if name not in backbone]
    counters = [name for name in missing if name in backbone and name.endswith(_COUNTER)]
    notes: list[ModelNote] = [ForeignNames(file=weights.path.name, naming=weights.naming)]
    if release := _release(weights):
        notes.append(ReleaseByClasses(release=release))
    if attention:
        notes.append(UntrainedLayers(tensors=tuple(attention)))
    if counters:
        notes.append(MissingCounters(count=len(counters), name=_COUNTER))
    extra = {name: state[name] for name in (*attention, *counters)}
    return weights.model_copy(update={"tensors": {**weights.tensors, **extra}}), tuple(notes)


def _refuse_type_a(weights: Checkpoint, missing: list[str]) -> None:
    wanted = any(".shortcut." in name for name in missing)
    if wanted and not any(".shortcut." in name for name in weights.tensors):
        raise WeightsError(
            f"weights '{weights.path}' have shortcuts without parameters (type A: every second value, padded with "
            "zeros), as resnet-18-kinetics.pth and resnet-34-kinetics.pth of 2018 have; expected projections (type B): "
            "take a checkpoint trained with --resnet_shortcut B, such as r3d18_K_200ep.pth of 2020"
        )
