"""Options of a backbone or an attention module, written `?key=value&key=value` in a formula."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

__all__ = ["AttentionOptions", "PartOptions", "Stages", "option_text"]


def _split(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


Stages = Annotated[tuple[int, ...], BeforeValidator(_split)]
"""Numbers of stages, counted from 1; written '3,4'."""


class PartOptions(BaseModel):
    """Options of a backbone or an attention module: a subclass per part, a field with a default per option."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def text(self) -> dict[str, str]:
        """Return the options that differ from their defaults, as written in a formula."""
        fields = type(self).model_fields
        chosen = {key: getattr(self, key) for key, field in fields.items() if getattr(self, key) != field.default}
        return {key: option_text(value) for key, value in chosen.items()}


class AttentionOptions(PartOptions):
    """Options of every attention."""

    stages: Stages = ()
    """Stages that the attention follows; none named means all."""

    def stands_after(self, stage: int, last: int) -> bool:
        """Say whether the attention follows `stage` of a backbone of `last` stages.

        If the backbone has none of the stages named, the attention follows the last one.
        """
        followed = [number for number in self.stages if number <= last] or [last]
        return not self.stages or stage in followed


def option_text(value: object) -> str:
    """Return a value as written after `option=`."""
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(int(value)) if isinstance(value, bool) else str(value)
