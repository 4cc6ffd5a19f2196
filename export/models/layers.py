"""Layers shared by the backbones."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["HalvingMaxPool", "OwnStart", "channel_mlp", "conv_bn", "initialize", "spatial_mean"]

Triple = tuple[int, int, int]


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int | Triple = 3,
    stride: int | Triple = 1,
    *,
    groups: int = 1,
    relu: bool = True,
) -> nn.Sequential:
    """Conv3d without bias, 'same' padding at stride 1, then batch norm and, if asked, ReLU."""
    sizes = (kernel, kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (sizes[0] // 2, sizes[1] // 2, sizes[2] // 2)
    layers: list[nn.Module] = [
        nn.Conv3d(inputs, outputs, sizes, stride, padding, groups=groups, bias=False),
        nn.BatchNorm3d(outputs),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def channel_mlp(channels: int, reduction: int) -> nn.Sequential:
    """Linear layers without bias through a bottleneck of `channels // reduction`, at least 1, with ReLU between."""
    hidden = max(channels // reduction, 1)
    return nn.Sequential(
        nn.Linear(channels, hidden, bias=False), nn.ReLU(inplace=True), nn.Linear(hidden, channels, bias=False)
    )


class HalvingMaxPool(nn.Module):
    """Max pooling that halves T, H and W, rounding up, in step with a 3x3x3 convolution of stride 2.

    An axis of one is left alone: OpenVINO and TensorRT refuse a kernel larger than its axis.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, T, H, W)` -> `(N, C, ceil(T / 2), ceil(H / 2), ceil(W / 2))`."""
        kernel = [min(2, edge) for edge in x.shape[2:]]
        return functional.max_pool3d(x, kernel, ceil_mode=True)


class OwnStart(nn.Module):
    """A module that starts from values of its own, whatever backbone it stands in."""

    def start(self) -> None:
        """Set them; called when everything else has been initialized."""
        raise NotImplementedError


def spatial_mean(x: Tensor) -> Tensor:
    """Mean over T, H and W: `(N, C, T, H, W)` -> `(N, C)`."""
    return x.mean(dim=(2, 3, 4))


def initialize(module: nn.Module) -> None:
    """Kaiming-normal convolutions, unit batch norms, as torchvision's video ResNets; then every `OwnStart`."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm3d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01)
        if isinstance(layer, (nn.Conv3d, nn.Linear)) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for layer in module.modules():
        if isinstance(layer, OwnStart):
            layer.start()
