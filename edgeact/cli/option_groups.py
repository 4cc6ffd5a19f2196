"""Options that several verbs share: one dataclass a group, one field an option, written once."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import get_type_hints

__all__ = ["with_option_groups"]


def with_option_groups(verb: Callable[..., None]) -> Callable[..., None]:
    """Return `verb` with every parameter that is a dataclass replaced by the fields of that dataclass.

    typer reads the signature of the returned function, so that every field becomes an option; `verb` itself is called
    with the dataclasses. Names must be unique over all groups of a verb.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint) and isinstance(hint, type)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(verb).parameters.items():
        if name in groups:
            parameters += _options(groups[name])
        else:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(verb)
    def flat_verb(**values: object) -> None:
        grouped = {
            name: group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        verb(**values, **grouped)

    flat_verb.__dict__["__signature__"] = inspect.Signature(parameters)
    flat_verb.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat_verb


def _options(group: type) -> list[inspect.Parameter]:
    """Return the fields of `group` as keyword-only parameters."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(group)
    ]
