"""Checks of a module by one forward pass, with errors that say what to change."""

from __future__ import annotations

import torch
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.errors import EdgeactError, ModelError, WeightsError
from edgeact.export.models.factory import first_line

__all__ = ["check_forward", "count_classes"]


def count_classes(source: str, module: nn.Module, clip: ClipSpec) -> int:
    """Run `module` on a clip of zeros and return the number of its logits.

    Raises ModelError if the module does not take the clip, or does not return one tensor `(1, classes)`.
    """
    try:
        with torch.no_grad():
            logits: object = module(torch.zeros(clip.input_shape))
    except EdgeactError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise ModelError(
            f"'{source}' does not take a clip of shape {clip.input_shape} (N, C, T, H, W): {first_line(error)}; "
            "set --clip-frames and --size to what it was trained with"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or logits.shape[0] != 1:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(f"'{source}' must return one tensor of logits (1, classes), got {got}")
    return int(logits.shape[1])


def check_forward(source: str, module: nn.Module, clip: ClipSpec, labels: tuple[str, ...]) -> None:
    """Check that `module` takes its clip, returns a logit per label and holds finite values.

    Raises ModelError or WeightsError.
    """
    count = count_classes(source, module, clip)
    if count != len(labels):
        raise ModelError(
            f"'{source}' returns {count} logits, but there are {len(labels)} labels; "
            "give --labels FILE with one line per class"
        )
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"'{source}': tensor '{name}' holds NaN or infinity; train or convert the weights again")
