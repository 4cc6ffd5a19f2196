"""Model formulas: `backbone[+attention][?option=value&option=value]`.

`resnet3d-50+eam?kernel=5&stages=3,4` is the backbone `resnet3d-50` with the attention `eam` of kernel size 5 after its
stages 3 and 4. An option belongs to the part that declares its name; a backbone and an attention share no option name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qsl

from pydantic import ValidationError
from torch import nn

from edgeact.errors import UnknownNameError, UsageError
from edgeact.export.models.attention.base import AttentionBuilder, no_attention
from edgeact.export.models.attention.registry import AttentionSpec, find_attention
from edgeact.export.models.backbones.registry import BackboneSpec, find_backbone
from edgeact.export.models.network_config import NetworkConfig
from edgeact.export.models.part_options import AttentionOptions, PartOptions

__all__ = ["Formula", "parse_formula"]

_C = TypeVar("_C", bound=PartOptions)


@dataclass(frozen=True)
class Formula:
    """A backbone, an optional attention, and the options of both."""

    backbone: BackboneSpec
    backbone_options: PartOptions
    attention: AttentionSpec | None = None
    attention_options: AttentionOptions | None = None

    def build(self, options: NetworkConfig) -> nn.Module:
        """Build the untrained module: float32 `(N, 3, T, H, W)` -> logits `(N, class_count)`."""
        attention: AttentionBuilder = no_attention
        if self.attention and self.attention_options:
            attention = self.attention.builder(self.attention_options, self.backbone.stages)
        return self.backbone.build(options, self.backbone_options, attention)

    def __str__(self) -> str:
        """Return the shortest text of this formula; equal formulas have equal texts."""
        name = self.backbone.name + (f"+{self.attention.name}" if self.attention else "")
        chosen = self.backbone_options.text() | (self.attention_options.text() if self.attention_options else {})
        return name + ("?" + "&".join(f"{key}={chosen[key]}" for key in sorted(chosen)) if chosen else "")


def parse_formula(text: str) -> Formula:
    """Parse a formula; raises UnknownNameError or UsageError, which name what was expected."""
    names, _, query = text.partition("?")
    backbone_name, plus, attention_name = names.partition("+")
    backbone = find_backbone(backbone_name)
    attention = find_attention(attention_name) if plus else None
    options = _options(text, query)
    backbone_options = {key: options.pop(key) for key in list(options) if key in backbone.options.model_fields}
    known = [*backbone.options.model_fields, *(attention.options.model_fields if attention else ())]
    for key in options:
        if not attention or key not in attention.options.model_fields:
            raise UnknownNameError(f"option of '{names}'", key, known)
    choices = _validated(text, attention.options, options) if attention else None
    for key in options:
        if key.endswith("stages") and not all(1 <= stage <= backbone.stages for stage in getattr(choices, key)):
            raise UsageError(f"model '{text}': expected {key} within 1 to {backbone.stages}, got {options[key]}")
    return Formula(backbone, _validated(text, backbone.options, backbone_options), attention, choices)


def _options(text: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise UsageError(f"model '{text}': expected option=value&option=value after '?', got '{query}'") from error
    options = dict(pairs)
    if len(options) < len(pairs):
        raise UsageError(f"model '{text}': expected every option once")
    return options


def _validated(text: str, kind: type[_C], options: dict[str, str]) -> _C:
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"model '{text}': option {where}: {first['msg']}, got '{first['input']}'") from error
