"""Data sets by name, and the one-line specs that the command line takes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl

from edgeact.calibration.datasets.base import Dataset
from edgeact.errors import DatasetError, UnknownNameError, UsageError

__all__ = ["DATASETS", "load_dataset"]

DATASETS = {
    "folder": "edgeact.calibration.datasets.folder:load_folder",
    "hmdb51": "edgeact.calibration.datasets.hmdb51:load_hmdb51",
    "kinetics": "edgeact.calibration.datasets.kinetics:load_kinetics",
    "stick-actions": "edgeact.calibration.datasets.stick_actions:load_stick_actions",
    "ucf101": "edgeact.calibration.datasets.ucf101:load_ucf101",
}
"""Each loader takes the path (None where the spec has none) and the spec's options."""


def load_dataset(spec: str) -> Dataset:
    """Load the data set that `spec` names: 'name:/path?key=value&key=value', or a folder of class folders as it is.

    Examples: 'ucf101:/data/UCF-101?split=1', 'kinetics:/data/val.csv', 'stick-actions', '/data/my-clips'.
    Raises UnknownNameError for another name, UsageError for an option the data set does not have, DatasetError where
    its files are not as expected.
    """
    if Path(spec).is_dir() and spec not in DATASETS:
        return _loader("folder")(Path(spec), {})
    name, _, rest = spec.partition("?")[0].partition(":")
    if "/" in name:
        raise DatasetError(f"there is no folder '{spec}'; a spec is 'name:/path?key=value' or an existing folder")
    if name not in DATASETS:
        raise UnknownNameError("data set", name, DATASETS)
    return _loader(name)(Path(rest).expanduser() if rest else None, _options(spec.partition("?")[2]))


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise UsageError(f"expected options as 'key=value&key=value', got '{query}'") from None
    options = dict(pairs)
    if len(options) != len(pairs):
        raise UsageError(f"an option is given twice in '{query}'")
    return options


def _loader(name: str) -> Callable[[Path | None, dict[str, str]], Dataset]:
    module, _, attribute = DATASETS[name].partition(":")
    return cast(Callable[[Path | None, dict[str, str]], Dataset], getattr(importlib.import_module(module), attribute))
