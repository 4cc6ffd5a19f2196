"""X3D, "X3D: Expanding Architectures for Efficient Video Recognition", Feichtenhofer, CVPR 2020, table 3: size S.

Depthwise convolutions, squeeze-and-excitation in every second block and swish, in the form of the public code; size S
is 13x160x160.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

__all__ = ["x3d_s"]

_DEPTHS = (3, 5, 11, 7)
_EXPANSION = 2.25
_HIDDEN = 2048
_SE_RATIO = 16
_SE_MULTIPLE = 8
_Kernel = tuple[int, int, int]


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(_SE_MULTIPLE, round(channels / _SE_RATIO / _SE_MULTIPLE) * _SE_MULTIPLE)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool3d(1), nn.Conv3d(channels, hidden, 1), nn.ReLU(), nn.Conv3d(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = x * self.gate(x).sigmoid()
        return gated


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: Literal[1, 2], *, squeezed: bool) -> None:
        super().__init__()
        inner, strides = int(outputs * _EXPANSION), (1, stride, stride)
        self.branch = nn.Sequential(
            *(*_conv(inputs, inner, (1, 1, 1)), nn.ReLU()),
            *_conv(inner, inner, (3, 3, 3), strides, groups=inner),
            *((_SqueezeExcite(inner),) if squeezed else ()),
            *(nn.SiLU(), *_conv(inner, outputs, (1, 1, 1))),
        )
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Sequential(*_conv(inputs, outputs, (1, 1, 1), strides)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = (self.branch(x) + self.shortcut(x)).relu()
        return summed


def x3d_s(width: int = 24, classes: int = 400) -> nn.Module:
    """Build X3D-S with random weights; `width` is the paper's 24, or less to try the benchmark."""
    first = nn.Conv3d(3, width, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
    layers: list[nn.Module] = [first, *_conv(width, width, (5, 1, 1), groups=width), nn.ReLU()]
    inputs = width
    for stage, depth in enumerate(_DEPTHS):
        outputs = width << stage
        for index in range(depth):
            layers.append(_Block(inputs, outputs, 2 if index == 0 else 1, squeezed=index % 2 == 0))
            inputs = outputs
    last = int(inputs * _EXPANSION)
    head = (
        *_conv(inputs, last, (1, 1, 1)),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Conv3d(last, _HIDDEN, 1, bias=False),
    )
    return nn.Sequential(*layers, *head, nn.ReLU(), nn.Flatten(), nn.Linear(_HIDDEN, classes))


def _conv(
    inputs: int, outputs: int, kernel: _Kernel, stride: _Kernel = (1, 1, 1), *, groups: int = 1
) -> tuple[nn.Module, ...]:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    return conv, nn.BatchNorm3d(outputs)
