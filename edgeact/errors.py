"""Every error edgeact raises on purpose, with the exit code the command line ends with.

    EdgeactError                      1   an error the user can act on; bugs are never children of it
    ├── UsageError                    2   the call itself is wrong (ValueError)
    │   ├── UnknownNameError          2   no such model, target, backend ...; names the nearest (KeyError)
    │   └── MissingFileError          2   a bundle or record that does not exist (FileNotFoundError)
    ├── MissingExtraError             3   an absent optional dependency; says what to install (ModuleNotFoundError)
    ├── DataError                     4   videos, data sets, labels
    │   ├── VideoError                4   a video that cannot be opened or holds no frame
    │   │   └── MissingVideoError     4   a video file that does not exist (FileNotFoundError)
    │   ├── DatasetError              4   a data set or split that is not what its loader expects
    │   │   └── MissingDatasetError   4   a folder or list of a data set that does not exist (FileNotFoundError)
    │   ├── MissingLabelsError        4   a labels file that does not exist (FileNotFoundError)
    │   └── CalibrationError          4   too few or unfit clips to calibrate on
    ├── BundleError                   5   a bundle that must not be used
    │   ├── BundleTruncatedError      5   the file ends too early or is no bundle at all
    │   ├── BundleTamperedError       5   a member's SHA-256 is not the manifest's
    │   ├── BundlePathError           5   a member name that would leave the bundle
    │   ├── BundleBombError           5   sizes that do not add up, or exceed the limits
    │   ├── BundleVersionError        5   written by an unknown major version of the format
    │   ├── BundleSchemaError         5   the manifest does not follow the schema
    │   └── UntrustedEngineError      5   an engine (executable code) that nobody vouched for
    ├── ModelError                    6   a model or its weights are not as declared
    │   ├── WeightsError              6   weights that do not fit, or hold NaN or infinity
    │   │   └── MissingWeightsError   6   a weights file that does not exist (FileNotFoundError)
    │   └── InputError                6   an array whose shape, dtype or values the model does not take (ValueError)
    ├── ConversionError               7   an artifact cannot be built; names the layer and what to do
    │   ├── LintError                 7   a graph that the target's TensorRT dialect refuses
    │   └── ParityError               7   an artifact that does not agree with PyTorch
    ├── DeviceError                   8   the hardware, driver or backend of this machine cannot do the work
    │   ├── BackendUnavailableError   8   a backend that is not installed or finds no device
    │   └── SelfCheckError           13   artifacts that compute other results here than the bundle states
    ├── GateError                     9   a comparison that did not pass
    │   ├── RegressionError           9   measured slower than the baseline allows
    │   ├── BaselineError            11   nothing was compared: no baseline, or one of another machine, model ...
    │   │   └── MissingBaselineError 11   a baseline file that does not exist (FileNotFoundError)
    │   └── BudgetError              12   no trial of a search keeps its budgets; the record is written
    └── StorageError                 10   the disk is full or not writable; nothing was lost (OSError)

A class in parentheses is the standard class that the error derives from too, so that `except ValueError` or
`except FileNotFoundError` catches what a Python user expects. A message says what, expected, got, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeact.self_check_results import SelfCheckFailed

__all__ = [
    "BackendUnavailableError",
    "BaselineError",
    "BudgetError",
    "BundleBombError",
    "BundleError",
    "BundlePathError",
    "BundleSchemaError",
    "BundleTamperedError",
    "BundleTruncatedError",
    "BundleVersionError",
    "CalibrationError",
    "ConversionError",
    "DataError",
    "DatasetError",
    "DeviceError",
    "EdgeactError",
    "GateError",
    "InputError",
    "LintError",
    "MissingBaselineError",
    "MissingDatasetError",
    "MissingExtraError",
    "MissingFileError",
    "MissingLabelsError",
    "MissingVideoError",
    "MissingWeightsError",
    "ModelError",
    "ParityError",
    "RegressionError",
    "SelfCheckError",
    "StorageError",
    "UnknownNameError",
    "UntrustedEngineError",
    "UsageError",
    "VideoError",
    "WeightsError",
]


_FEW_NAMES = 6


class EdgeactError(Exception):
    """Base of every error a user can act on."""

    exit_code = 1

    def __str__(self) -> str:
        """Return the message as written; KeyError would quote it."""
        return Exception.__str__(self)


class UsageError(EdgeactError, ValueError):
    """The call itself is wrong."""

    exit_code = 2


class UnknownNameError(UsageError, KeyError):
    """A name that is not in its registry; the message lists the nearest known names."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(set(known)))
        near = difflib.get_close_matches(name, self.known, n=3, cutoff=0.5)
        hints = [f"did you mean {' or '.join(near)}?"] if near else []
        if not near or len(self.known) <= _FEW_NAMES:
            hints.append(f"known: {', '.join(self.known)}")
        super().__init__(f"unknown {kind} '{name}'; {' '.join(hints)}")

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, tuple[str, ...]]]:
        """Pickle by the constructor's arguments: errors of a worker process travel to its caller."""
        return type(self), (self.kind, self.name, self.known)


class MissingFileError(UsageError, FileNotFoundError):
    """A bundle or record that does not exist."""


class MissingExtraError(EdgeactError, ModuleNotFoundError):
    """An optional dependency is absent."""

    exit_code = 3

    def __init__(self, module: str, extra: str, instead: str | None = None) -> None:
        todo = instead or f"run: pip install 'edgeact[{extra}]'"
        super().__init__(f"'{module}' is not installed; {todo}")
        self.name, self.extra, self.instead = module, extra, instead  # ImportError's constructor resets `name`

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str | None]]:
        """Pickle by the constructor's arguments: errors of a worker process travel to its caller."""
        return type(self), (self.name or "", self.extra, self.instead)


class DataError(EdgeactError):
    """Videos, data sets or labels are not as expected."""

    exit_code = 4


class VideoError(DataError):
    """A video that cannot be opened or holds no frame."""


class MissingVideoError(VideoError, FileNotFoundError):
    """A video file that does not exist."""


class DatasetError(DataError):
    """A data set or split that is not what its loader expects."""


class MissingDatasetError(DatasetError, FileNotFoundError):
    """A folder or list of a data set that does not exist."""


class MissingLabelsError(DataError, FileNotFoundError):
    """A labels file that does not exist."""


class CalibrationError(DataError):
    """Too few or unfit clips to calibrate on."""


class BundleError(EdgeactError):
    """A bundle that must not be used."""

    exit_code = 5


class BundleTruncatedError(BundleError):
    """The file ends too early or is no bundle at all."""


class BundleTamperedError(BundleError):
    """A member's SHA-256 is not the one the manifest states."""


class BundlePathError(BundleError):
    """A member name that would leave the bundle."""


class BundleBombError(BundleError):
    """Sizes that do not add up, or exceed the limits."""


class BundleVersionError(BundleError):
    """Written by an unknown major version of the format."""


class BundleSchemaError(BundleError):
    """The manifest does not follow the schema."""


class UntrustedEngineError(BundleError):
    """An engine is executable code and nobody vouched for this one."""


class ModelError(EdgeactError):
    """A model or its weights are not as declared."""

    exit_code = 6


class WeightsError(ModelError):
    """Weights that do not fit the model, or hold NaN or infinity."""


class MissingWeightsError(WeightsError, FileNotFoundError):
    """A weights file that does not exist."""


class InputError(ModelError, ValueError):
    """An array whose shape, dtype or values the model does not take."""


class ConversionError(EdgeactError):
    """An artifact cannot be built."""

    exit_code = 7


class LintError(ConversionError):
    """A graph that the target's TensorRT dialect refuses."""


class ParityError(ConversionError):
    """An artifact that does not agree with PyTorch within the limits of its precision."""


class DeviceError(EdgeactError):
    """The hardware, driver or backend of this machine cannot do the work."""

    exit_code = 8


class BackendUnavailableError(DeviceError):
    """A backend that is not installed or finds no device."""


class SelfCheckError(DeviceError):
    """Artifacts whose results of the golden clip on this machine are not those of the bundle."""

    exit_code = 13

    def __init__(self, message: str, failures: Iterable[SelfCheckFailed] = ()) -> None:
        super().__init__(message)
        self.failures = tuple(failures)


class GateError(EdgeactError):
    """A comparison that did not pass."""

    exit_code = 9


class RegressionError(GateError):
    """Measured slower than the baseline allows."""


class BaselineError(GateError):
    """A baseline that is absent or must not be compared with; a code apart, because nothing was measured as slower."""

    exit_code = 11


class MissingBaselineError(BaselineError, FileNotFoundError):
    """A baseline file that does not exist."""


class BudgetError(GateError):
    """No trial of a search keeps its budgets; a code apart, because nothing became slower."""

    exit_code = 12


class StorageError(EdgeactError, OSError):
    """The disk is full or not writable; nothing that existed before was lost."""

    exit_code = 10
