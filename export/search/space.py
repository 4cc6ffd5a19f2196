"""What a search chooses from: how much of every stage goes, which stages stay in float, what a clip is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn.modules.conv import _ConvNd

from edgeact.errors import ModelError
from edgeact.export.prune import PruneRequest, plan_pruning

__all__ = ["RATIO_STEP", "VERSION", "ClipSize", "Config", "Group", "Params", "Space", "groups_of", "prunable"]

VERSION = 1
"""Of the space: a study of another version is not continued."""

RATIO_STEP = 0.125
_RATIOS = tuple(RATIO_STEP * step for step in range(7))
_MOST_GROUPS = 8
_TRIED_RATIO = 0.5

Params = dict[str, float | str]
"""A configuration as the sampler has it: name of a choice -> value."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Group(_Part):
    """Layers that share one ratio and one precision: a stage, or neighbouring modules where there are many."""

    name: str
    modules: tuple[str, ...]
    """Names of modules; a layer belongs to it where it is one of them or lies within."""

    def holds(self, layer: str) -> bool:
        """Whether the layer (or parameter) of that name is one of the group's."""
        return any(layer == module or layer.startswith(f"{module}.") for module in self.modules)


class ClipSize(_Part):
    """How many frames, over the same time, and how many pixels square."""

    clip_frames: int = Field(gt=0)
    size: int = Field(gt=0)

    @property
    def name(self) -> str:
        """'8x112'."""
        return f"{self.clip_frames}x{self.size}"


class Config(_Part):
    """One point of the space: all that a trial does differently from the model as it is."""

    ratios: dict[str, float]
    """Group -> share of its channels that goes; groups that are not in it stay whole."""
    int8: tuple[str, ...]
    """Groups in INT8; all others stay in float."""
    clip: ClipSize

    @property
    def summary(self) -> str:
        """Describe the point in a few words, e.g. 'prune stages.1 0.5; int8 stem; clips 8x112'."""
        going = ", ".join(f"{name} {ratio:g}" for name, ratio in self.pruned.items())
        return f"prune {going or 'nothing'}; int8 {', '.join(self.int8) or 'nowhere'}; clips {self.clip.name}"

    @property
    def pruned(self) -> dict[str, float]:
        """The groups something goes of."""
        return {name: ratio for name, ratio in self.ratios.items() if ratio > 0}


class Space(_Part):
    """The choices of one model on one target; stored in the study, which is of this space and no other."""

    groups: tuple[Group, ...]
    prunable: dict[str, tuple[str, ...]]
    """Groups that have channels to take out -> patterns of their layers, as `PruneRequest.ratios` has them."""
    channel_multiple: int
    int8: bool
    """Whether the target has INT8, and there are clips to calibrate on."""
    clips: tuple[ClipSize, ...] = Field(min_length=1)
    """The model's own first."""

    @property
    def choices(self) -> dict[str, tuple[float | str, ...]]:
        """Name -> values, of everything there is a choice of."""
        found: dict[str, tuple[float | str, ...]] = {f"prune.{name}": _RATIOS for name in self.prunable}
        if self.int8:
            found |= {f"precision.{group.name}": ("int8", "float") for group in self.groups}
        if len(self.clips) > 1:
            found["clip"] = tuple(clip.name for clip in self.clips)
        if not found:
            raise ModelError("there is nothing to search: no layer can be pruned, no INT8, and one clip size only")
        return found

    @property
    def size(self) -> int:
        """How many configurations there are."""
        return int(np.prod([len(values) for values in self.choices.values()], dtype=object))

    def config(self, params: Mapping[str, float | str]) -> Config:
        """What the sampler's choices mean."""
        clips = {clip.name: clip for clip in self.clips}
        return Config(
            ratios={name: float(params[f"prune.{name}"]) for name in self.prunable},
            int8=tuple(group.name for group in self.groups if params.get(f"precision.{group.name}") == "int8"),
            clip=clips[str(params["clip"])] if "clip" in params else self.clips[0],
        )

    def pruning(self, config: Config) -> dict[str, float]:
        """Its ratios by patterns of layers, 0 where nothing goes."""
        return {pattern: config.ratios[name] for name, patterns in self.prunable.items() for pattern in patterns}

    def first(self) -> list[Params]:
        """What every search begins with: the model as it is, in float and in INT8, then pruned evenly."""
        precisions: Sequence[Literal["float", "int8"]] = ("float", "int8") if self.int8 else ("float",)
        wanted = [(precision, 0.0) for precision in precisions]
        wanted += [(precisions[-1], ratio) for ratio in (0.5, 0.25, 0.75) if self.prunable]
        return [self._even(precision, ratio) for precision, ratio in wanted]

    def _even(self, precision: str, ratio: float) -> Params:
        of: dict[str, float | str] = {"prune": ratio, "precision": precision, "clip": self.clips[0].name}
        return {name: of[name.partition(".")[0]] for name in self.choices}

    def all(self) -> Iterator[Params]:
        """Every configuration there is, one after the other."""
        names = list(self.choices)
        return (dict(zip(names, values, strict=True)) for values in itertools.product(*self.choices.values()))

    def drawn(self, rng: np.random.Generator) -> Params:
        """Any configuration, each as likely as every other."""
        return {name: values[int(rng.integers(len(values)))] for name, values in self.choices.items()}


def groups_of(module: nn.Module) -> tuple[Group, ...]:
    """The stages of a module by its own names, in its own order, at most eight.

    A stage is a module at the top, or one of a numbered list there (`stages.0`). Where there are more, neighbours are
    put together. Raises ModelError for a module without convolutions and linear layers.
    """
    layers = [name for name, layer in module.named_modules() if isinstance(layer, (_ConvNd, nn.Linear))]
    stages = list(dict.fromkeys(_stage(name, module) for name in layers))
    if not stages:
        raise ModelError("there is nothing to search: the model has no convolution and no linear layer")
    parts = np.array_split(np.arange(len(stages)), min(len(stages), _MOST_GROUPS))
    return tuple(_group([stages[int(index)] for index in part]) for part in parts)


def _stage(layer: str, module: nn.Module) -> str:
    first, *rest = layer.split(".")
    children = [name for name, _ in module.get_submodule(first).named_children()]
    is_list = bool(children) and all(re.fullmatch(r"\d+", name) for name in children)
    if not (rest and is_list and any(len(list(child.children())) for child in module.get_submodule(first).children())):
        return first
    return f"{first}.{rest[0]}"


def _group(stages: Sequence[str]) -> Group:
    name = stages[0] if len(stages) == 1 else f"{stages[0]}..{stages[-1]}"
    return Group(name=name, modules=tuple(stages))


def prunable(
    module: nn.Module, input_shape: Sequence[int], groups: Sequence[Group], channel_multiple: int
) -> tuple[dict[str, tuple[str, ...]], int]:
    """The groups that have channels to take out, with the patterns of their layers' names, and the multiple to use.

    That is `channel_multiple` or its largest half, quarter, ... by which every such group can be cut: a narrow model
    has stages of less than twice the target's multiple.
    """
    widths = _cut_widths(module, input_shape, 1)
    free = _patterns_of(groups, widths)
    narrowest = min((max(_within(groups, name, widths)) for name in free), default=2)
    multiple = channel_multiple
    while multiple > 1:
        if 2 * multiple <= narrowest and _patterns_of(groups, _cut_widths(module, input_shape, multiple)) == free:
            return free, multiple
        multiple //= 2
    return free, 1


def _cut_widths(module: nn.Module, input_shape: Sequence[int], multiple: int) -> dict[str, int]:
    """Layers that lose channels where all shall lose half -> outputs they have now."""
    try:
        plan = plan_pruning(module, input_shape, PruneRequest(_TRIED_RATIO, channel_multiple=multiple))
    except ModelError:  # it cannot be traced: nothing of it can be pruned
        return {}
    layers = {name for name, layer in module.named_modules() if isinstance(layer, (_ConvNd, nn.Linear))}
    return {one.layer: one.outputs.before for one in plan.cuts if one.outputs and one.layer in layers}


def _within(groups: Sequence[Group], name: str, widths: Mapping[str, int]) -> list[int]:
    (group,) = (group for group in groups if group.name == name)
    return [width for layer, width in widths.items() if group.holds(layer)]


def _patterns_of(groups: Sequence[Group], layers: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    found = {group.name: tuple(_patterns(group, layers)) for group in groups}
    return {name: patterns for name, patterns in found.items() if patterns}


def _patterns(group: Group, layers: Mapping[str, int]) -> Iterator[str]:
    """Patterns that fit the group's layers, without any that fits none of `layers`."""
    for module in group.modules:
        if module in layers:
            yield module
        if any(layer.startswith(f"{module}.") for layer in layers):
            yield f"{module}.*"
