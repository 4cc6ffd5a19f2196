"""What can be chosen of one backbone or one attention module beyond `NetworkConfig`, written `?key=value&key=value`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

__all__ = ["AttentionOptions", "PartOptions", "Stages", "option_text"]


def _split(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


Stages = Annotated[tuple[int, ...], BeforeValidator(_split)]
"""Stages by number, counted from 1, in text as '3,4'."""


class PartOptions(BaseModel):
    """Options of one part, each with its default; a subclass a part, a field an option."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def text(self) -> dict[str, str]:
        """The options that differ from their defaults, as they are written."""
        fields = type(self).model_fields
        chosen = {key: getattr(self, key) for key, field in fields.items() if getattr(self, key) != field.default}
        return {key: option_text(value) for key, value in chosen.items()}


class AttentionOptions(PartOptions):
    """Options every attention module has."""

    stages: Stages = ()
    """After which stages it stands; none named means after every one."""

    def stands_after(self, stage: int, last: int) -> bool:
        """Whether there is a module after `stage` of a backbone of `last` stages.

        A default that such a short backbone has none of means its last stage.
        """
        there = [one for one in self.stages if one <= last] or [last]
        return not self.stages or stage in there


def option_text(value: object) -> str:
    """A value as it is written after `option=`."""
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(int(value)) if isinstance(value, bool) else str(value)
