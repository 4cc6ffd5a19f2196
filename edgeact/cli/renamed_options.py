"""Earlier spellings of options, which still work and are not shown in the help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

__all__ = ["RENAMED", "with_current_names"]

_BOTH = {"--calibration-clips": "--clips", "--evaluation-videos": "--videos", "--finetune-epochs": "--epochs"}

RENAMED: Mapping[str, Mapping[str, str]] = {
    "export": {**_BOTH, "--calib": "--data", "--calib-method": "--method", "--finetune-lr": "--lr"},
    "search": _BOTH,
}
"""By verb, the earlier spelling of an option and its current name."""


def with_current_names(arguments: Sequence[str], warn: Callable[[str], None]) -> list[str]:
    """Return the command line `arguments` (verb first) with every earlier spelling replaced by the current name.

    `warn` gets one line for each replaced option.
    """
    renamed = RENAMED.get(arguments[0], {}) if arguments else {}
    current = []
    for argument in arguments:
        spelling, equals, value = argument.partition("=")
        if name := renamed.get(spelling):
            warn(f"warning: {spelling} is deprecated, use {name}")
        current.append(f"{name or spelling}{equals}{value}")
    return current
