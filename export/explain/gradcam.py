"""Grad-CAM (Selvaraju et al., ICCV 2017, section 3) of a video network: which positions contribute to a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeact.errors import ModelError
from edgeact.export.models.hooks import forward_hooks

__all__ = ["GradCam", "grad_cam"]


@dataclass(frozen=True, eq=False)
class GradCam:
    """Contribution of each position to one class."""

    layer: str
    """Path of the module whose output is explained."""
    index: int
    """Index of the logit."""
    map: NDArray[np.float32]
    """`(T', H', W')`, the size of that output, not below 0."""
    logits: NDArray[np.float32]
    """`(classes,)`."""


def grad_cam(module: nn.Module, clip: Tensor, index: int | None = None) -> GradCam:
    """Compute Grad-CAM for one clip at the last activation `(1, C, T', H', W')` that is not the output of a pooling.

    The map is relu(sum over c of a_c A_c), with A the activation and a_c the mean over T', H' and W' of the logit's
    gradient with respect to A_c. `index` is the logit to explain; None: the largest. Raises ModelError if no module has
    an output of five axes.
    """
    last: list[tuple[str, Tensor]] = []

    def keep(path: str, layer: nn.Module, _inputs: tuple[Tensor, ...], output: object) -> None:
        is_pooling = "Pool" in type(layer).__name__
        if isinstance(output, Tensor) and output.ndim == 5 and not is_pooling:
            last[:] = [(path, output)]

    layers = {path: layer for path, layer in module.named_modules() if path}
    with torch.enable_grad(), forward_hooks(layers, keep):
        logits: Tensor = module(clip.detach().requires_grad_())
    if not last:
        raise ModelError(
            f"'{type(module).__name__}' has no activation for Grad-CAM: expected a layer with an output "
            "(1, C, T, H, W), got none"
        )
    (path, activation), top = last[0], int(logits[0].argmax()) if index is None else index
    (gradient,) = torch.autograd.grad(logits[0, top], activation)
    weighted = (activation * gradient.mean(dim=(2, 3, 4), keepdim=True)).sum(dim=1)[0]
    return GradCam(path, top, torch.relu(weighted).detach().numpy(), logits[0].detach().numpy())
