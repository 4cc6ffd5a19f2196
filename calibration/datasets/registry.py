"""Data sets by name, and the one-line specifications that the command line takes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl

from edgeact.calibration.datasets.base import Dataset
from edgeact.errors import DatasetError, UnknownNameError, UsageError
from edgeact.progress import OnProgress

__all__ = ["DATASETS", "LOADING_STEP", "absolute_spec", "load_dataset"]

LOADING_STEP = "preparing the data set"
"""Title of the progress of `load_dataset` if it is one of several steps."""

DATASETS = {
    "folder": "edgeact.calibration.datasets.folder:load_folder",
    "hmdb51": "edgeact.calibration.datasets.hmdb51:load_hmdb51",
    "kinetics": "edgeact.calibration.datasets.kinetics:load_kinetics",
    "stick-actions": "edgeact.calibration.datasets.stick_actions:load_stick_actions",
    "ucf101": "edgeact.calibration.datasets.ucf101:load_ucf101",
}
"""Name -> loader. A loader takes the path (None if the spec has none), the options, and a progress callback."""

_Loader = Callable[[Path | None, dict[str, str], OnProgress | None], Dataset]


def load_dataset(spec: str, on_progress: OnProgress | None = None) -> Dataset:
    """Load the data set of `spec`: 'name:/path?key=value&key=value', or the path of a folder of class folders.

    Examples: 'ucf101:/data/UCF-101?split=1', 'kinetics:/data/val.csv', 'stick-actions', '/data/my-clips'.
    `on_progress(done, total)` counts the videos that are rendered or checked; it is not called if there is nothing to
    do. Raises UnknownNameError for an unknown name, UsageError for an unknown option, DatasetError if the files are not
    as expected.
    """
    if Path(spec).is_dir() and spec not in DATASETS:
        return _loader("folder")(Path(spec), {}, on_progress)
    name, _, rest = spec.partition("?")[0].partition(":")
    if "/" in name:
        raise DatasetError(
            f"data set: there is no folder '{spec}'; expected an existing folder or 'name:/path?key=value'"
        )
    if name not in DATASETS:
        raise UnknownNameError("data set", name, DATASETS)
    root = Path(rest).expanduser() if rest else None
    return _loader(name)(root, _options(spec.partition("?")[2]), on_progress)


def absolute_spec(spec: str) -> str:
    """Return `spec` with its path, if any, made absolute, for processes with other working folders."""
    if Path(spec).is_dir() and spec not in DATASETS:
        return str(Path(spec).absolute())
    head, mark, query = spec.partition("?")
    name, colon, path = head.partition(":")
    return f"{name}{colon}{Path(path).expanduser().absolute() if path else ''}{mark}{query}"


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise UsageError(f"expected options as 'key=value&key=value', got '{query}'") from None
    options = dict(pairs)
    if len(options) != len(pairs):
        raise UsageError(f"options '{query}': expected every option once")
    return options


def _loader(name: str) -> _Loader:
    module, _, attribute = DATASETS[name].partition(":")
    return cast(_Loader, getattr(importlib.import_module(module), attribute))
