"""Names and shapes of other packages' checkpoints, written down from their public code."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["HARA_DEPTHS", "filled", "hara", "torchvision_r3d_18"]

Shapes = dict[str, tuple[int, ...]]

HARA_DEPTHS = {"resnet3d-18": (2, 2, 2, 2), "resnet3d-50": (3, 4, 6, 3), "resnext3d-101": (3, 4, 23, 3)}


def torchvision_r3d_18(width: int = 64, classes: int = 400) -> Shapes:
    """`torchvision.models.video.r3d_18().state_dict()`."""
    shapes: Shapes = {"stem.0.weight": (width, 3, 3, 7, 7), **_batch_norm("stem.1", width)}
    inputs = width
    for stage in (1, 2, 3, 4):
        outputs = width << (stage - 1)
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            shapes[f"{name}.conv1.0.weight"] = (outputs, inputs, 3, 3, 3)
            shapes |= _batch_norm(f"{name}.conv1.1", outputs)
            shapes[f"{name}.conv2.0.weight"] = (outputs, outputs, 3, 3, 3)
            shapes |= _batch_norm(f"{name}.conv2.1", outputs)
            if inputs != outputs:
                shapes |= _downsample(name, inputs, outputs)
            inputs = outputs
    return shapes | {"fc.weight": (classes, inputs), "fc.bias": (classes,)}


def hara(model: str, width: int = 64, classes: int = 400, shortcut: str = "B") -> Shapes:
    """3D-ResNets-PyTorch's `resnet.resnet18`, `resnet.resnet50` or `resnext.resnet101`, by its name here.

    `shortcut`: 'A' has no tensors, 'B' one where shapes change, 'C' (of the Torch release) one in every block.
    """
    shapes: Shapes = {"conv1.weight": (width, 3, 7, 7, 7), **_batch_norm("bn1", width)}
    inputs = width
    for stage, depth in enumerate(HARA_DEPTHS[model], start=1):
        outputs = (width << (stage - 1)) * (1 if model == "resnet3d-18" else 4)
        for block in range(depth):
            name = f"layer{stage}.{block}"
            for number, shape in enumerate(_convolutions(model, inputs, outputs, width), start=1):
                shapes[f"{name}.conv{number}.weight"] = shape
                shapes |= _batch_norm(f"{name}.bn{number}", shape[0])
            if shortcut == "C" or (shortcut == "B" and block == 0 and (stage > 1 or inputs != outputs)):
                shapes |= _downsample(name, inputs, outputs)
            inputs = outputs
    return shapes | {"fc.weight": (classes, inputs), "fc.bias": (classes,)}


def _convolutions(model: str, inputs: int, outputs: int, width: int) -> list[tuple[int, ...]]:
    if model == "resnet3d-18":
        return [(outputs, inputs, 3, 3, 3), (outputs, outputs, 3, 3, 3)]
    middle, cardinality = (outputs // 2, width // 2) if model == "resnext3d-101" else (outputs // 4, 1)
    return [(middle, inputs, 1, 1, 1), (middle, middle // cardinality, 3, 3, 3), (outputs, middle, 1, 1, 1)]


def _batch_norm(name: str, channels: int) -> Shapes:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{vector}": (channels,) for vector in vectors} | {f"{name}.num_batches_tracked": ()}


def _downsample(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.downsample.0.weight": (outputs, inputs, 1, 1, 1)} | _batch_norm(f"{name}.downsample.1", outputs)


def filled(shapes: Shapes) -> dict[str, Tensor]:
    """Every tensor with values of its own; variances are positive."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    for number, (name, shape) in enumerate(shapes.items()):
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(number)
        elif name.endswith("running_var"):
            state[name] = torch.rand(shape, generator=generator) + 0.5
        else:
            state[name] = torch.randn(shape, generator=generator) / 10
    return state
