"""Search space: pruning ratio and precision of each stage, and the clip size."""

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
"""Version of the space; a study of another version is not continued."""

RATIO_STEP = 0.125
_RATIOS = tuple(RATIO_STEP * step for step in range(7))
_MOST_GROUPS = 8
_PROBED_RATIO = 0.5

Params = dict[str, float | str]
"""A configuration as the sampler has it: name of a choice -> value."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Group(_Part):
    """Layers that share one ratio and one precision: a stage, or neighboring stages if there are many."""

    name: str
    modules: tuple[str, ...]
    """Names of modules; a layer belongs to the group if it is one of them or inside one."""

    def holds(self, layer: str) -> bool:
        """Return whether the layer or parameter of that name belongs to the group."""
        return any(layer == module or layer.startswith(f"{module}.") for module in self.modules)


class ClipSize(_Part):
    """Frames of a clip, over the same duration, and edge of the square crop in pixels."""

    clip_frames: int = Field(gt=0)
    size: int = Field(gt=0)

    @property
    def name(self) -> str:
        """Name of the size, e.g. '8x112'."""
        return f"{self.clip_frames}x{self.size}"


class Config(_Part):
    """One point of the space: what a trial changes in the model."""

    ratios: Mapping[str, float]
    """Group -> share of its channels to prune; other groups keep all channels."""
    int8: tuple[str, ...]
    """Groups in INT8; all others are kept in float."""
    clip: ClipSize

    @property
    def summary(self) -> str:
        """Describe the point in a few words, e.g. 'prune stages.1 0.5; int8 stem; clips 8x112'."""
        ratios = ", ".join(f"{name} {ratio:g}" for name, ratio in self.pruned.items())
        return f"prune {ratios or 'nothing'}; int8 {', '.join(self.int8) or 'nowhere'}; clips {self.clip.name}"

    @property
    def pruned(self) -> dict[str, float]:
        """Groups with a ratio above 0."""
        return {name: ratio for name, ratio in self.ratios.items() if ratio > 0}


class Space(_Part):
    """Choices of one model on one target; stored in the study, which belongs to this space."""

    groups: tuple[Group, ...]
    prunable: Mapping[str, tuple[str, ...]]
    """Groups with prunable channels -> name patterns of their layers, as in `PruneRequest.ratios`."""
    channel_multiple: int
    int8: bool
    """Whether the target has INT8 and there are clips to calibrate on."""
    clips: tuple[ClipSize, ...] = Field(min_length=1)
    """Clip sizes, the model's first."""

    @property
    def choices(self) -> dict[str, tuple[float | str, ...]]:
        """Name of each choice -> its values."""
        choices: dict[str, tuple[float | str, ...]] = {f"prune.{name}": _RATIOS for name in self.prunable}
        if self.int8:
            choices |= {f"precision.{group.name}": ("int8", "float") for group in self.groups}
        if len(self.clips) > 1:
            choices["clip"] = tuple(clip.name for clip in self.clips)
        if not choices:
            raise ModelError("nothing to search: expected prunable layers, INT8 or several clip sizes, got none")
        return choices

    @property
    def size(self) -> int:
        """Number of configurations."""
        return int(np.prod([len(values) for values in self.choices.values()], dtype=object))

    def config(self, params: Mapping[str, float | str]) -> Config:
        """Return the configuration that the sampler's choices stand for."""
        clips = {clip.name: clip for clip in self.clips}
        return Config(
            ratios={name: float(params[f"prune.{name}"]) for name in self.prunable},
            int8=tuple(group.name for group in self.groups if params.get(f"precision.{group.name}") == "int8"),
            clip=clips[str(params["clip"])] if "clip" in params else self.clips[0],
        )

    def pruning(self, config: Config) -> dict[str, float]:
        """Return the pruning ratios of a configuration by name pattern of the layers."""
        return {pattern: config.ratios[name] for name, patterns in self.prunable.items() for pattern in patterns}

    def first(self) -> list[Params]:
        """Return the first configurations of each search: unpruned in float and in INT8, then pruned evenly."""
        precisions: Sequence[Literal["float", "int8"]] = ("float", "int8") if self.int8 else ("float",)
        wanted = [(precision, 0.0) for precision in precisions]
        wanted += [(precisions[-1], ratio) for ratio in (0.5, 0.25, 0.75) if self.prunable]
        return [self._even(precision, ratio) for precision, ratio in wanted]

    def _even(self, precision: str, ratio: float) -> Params:
        values: dict[str, float | str] = {"prune": ratio, "precision": precision, "clip": self.clips[0].name}
        return {name: values[name.partition(".")[0]] for name in self.choices}

    def all(self) -> Iterator[Params]:
        """Iterate over all configurations."""
        names = list(self.choices)
        return (dict(zip(names, values, strict=True)) for values in itertools.product(*self.choices.values()))

    def drawn(self, rng: np.random.Generator) -> Params:
        """Draw a configuration uniformly at random."""
        return {name: values[int(rng.integers(len(values)))] for name, values in self.choices.items()}


def groups_of(module: nn.Module) -> tuple[Group, ...]:
    """Return the stages of a module by name, in its order, at most eight.

    A stage is a top-level module, or an element of a numbered list there (`stages.0`). If there are more than eight,
    neighboring stages are merged. Raises ModelError for a module without convolutions and linear layers.
    """
    layers = [name for name, layer in module.named_modules() if isinstance(layer, (_ConvNd, nn.Linear))]
    stages = list(dict.fromkeys(_stage(name, module) for name in layers))
    if not stages:
        raise ModelError("nothing to search: expected a convolution or linear layer in the model, got none")
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
    """Return the groups with prunable channels, with the patterns of their layers, and the channel multiple to use.

    The multiple is `channel_multiple`, or its largest half, quarter and so on at which each of these groups can be
    pruned: a narrow model has stages of less than twice the target's multiple.
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
    """Return the layers that lose channels at a ratio of one half -> their outputs before."""
    try:
        plan = plan_pruning(module, input_shape, PruneRequest(_PROBED_RATIO, channel_multiple=multiple))
    except ModelError:  # a module that cannot be traced cannot be pruned
        return {}
    layers = {name for name, layer in module.named_modules() if isinstance(layer, (_ConvNd, nn.Linear))}
    return {cut.layer: cut.outputs.before for cut in plan.cuts if cut.outputs and cut.layer in layers}


def _within(groups: Sequence[Group], name: str, widths: Mapping[str, int]) -> list[int]:
    (group,) = (group for group in groups if group.name == name)
    return [width for layer, width in widths.items() if group.holds(layer)]


def _patterns_of(groups: Sequence[Group], layers: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    by_group = {group.name: tuple(_patterns(group, layers)) for group in groups}
    return {name: patterns for name, patterns in by_group.items() if patterns}


def _patterns(group: Group, layers: Mapping[str, int]) -> Iterator[str]:
    """Yield the name patterns of the group's layers that match at least one of `layers`."""
    for module in group.modules:
        if module in layers:
            yield module
        if any(layer.startswith(f"{module}.") for layer in layers):
            yield f"{module}.*"
