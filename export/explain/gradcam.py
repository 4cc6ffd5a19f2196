"""Grad-CAM (Selvaraju et al., ICCV 2017, section 3) of a video network: which places speak for a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeact.errors import ModelError

__all__ = ["GradCam", "grad_cam"]


@dataclass(frozen=True, eq=False)
class GradCam:
    """How much each place speaks for the class: `map` float32 `(T', H', W')` at the features' own size, not below 0."""

    layer: str
    """Path of the module whose output it is."""
    index: int
    """Which logit."""
    map: NDArray[np.float32]
    logits: NDArray[np.float32]
    """All of them, `(classes,)`."""


def grad_cam(module: nn.Module, clip: Tensor, index: int | None = None) -> GradCam:
    """Grad-CAM at the last features `(1, C, T', H', W')` of `module` that are no pooling's, for one clip.

    relu(sum over c of a_c A_c), with A the features and a_c the mean over T', H' and W' of the logit's gradient by A_c.
    `index`: which logit; None: the largest. Raises ModelError where the network has no features of five axes.
    """
    last: list[tuple[str, Tensor]] = []
    names = {layer: name for name, layer in module.named_modules() if name}

    def keep(layer: nn.Module, _inputs: object, output: object) -> None:
        is_pooling = "Pool" in type(layer).__name__
        if isinstance(output, Tensor) and output.ndim == 5 and not is_pooling:
            last[:] = [(names[layer], output)]

    handles = [layer.register_forward_hook(keep) for layer in names]
    try:
        with torch.enable_grad():
            logits: Tensor = module(clip.detach().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    if not last:
        raise ModelError(f"'{type(module).__name__}' has no layer with an output (1, C, T, H, W); Grad-CAM needs one")
    (layer, features), top = last[0], int(logits[0].argmax()) if index is None else index
    (gradient,) = torch.autograd.grad(logits[0, top], features)
    weighed = (features * gradient.mean(dim=(2, 3, 4), keepdim=True)).sum(dim=1)[0]
    return GradCam(layer, top, torch.relu(weighed).detach().numpy(), logits[0].detach().numpy())
