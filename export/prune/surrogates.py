"""What the dependency graph is shown in the place of modules whose channels it would follow wrongly.

torch-pruning follows channels through convolutions, linear layers, norms, element-wise sums and products, splits and
concatenations. It takes everything else for element-wise: a maximum over channels, a product of matrices, a transform.
A stand-in says the same of its module's channels in words the graph knows. It computes something else, and is only
ever run to be traced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from edgeact.export.models.attention.cbam import ChannelAttention
from edgeact.export.models.attention.eca import LocalGate
from edgeact.export.models.attention.fsam import Fam, Sam
from edgeact.export.models.attention.nst import When, Where
from edgeact.export.models.attention.se import SqueezeExcitation
from edgeact.export.models.attention.se_sa import SelfAttention
from edgeact.export.models.backbones.fourier3d import FourierUnit

__all__ = ["Follower", "standing_in"]

_NO_CHANNELS = "it weighs by means, peaks or neighbours of channels: none of its parameters belongs to one of them"


class Follower(nn.Module):
    """A module through which channels go, one by one."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.width = 0
        """Channels that came by last."""

    def forward(self, x: Tensor) -> Tensor:
        self.width = x.shape[1]
        return x * 1


class _Traced(nn.Module):
    """Base of stand-ins: the real layers as submodules, and where to put results that lead nowhere."""

    def __init__(self, name: str, real: nn.Module, loose_ends: list[Tensor]) -> None:
        super().__init__()
        self.follower = Follower(name)
        self.real = real
        self.loose_ends = loose_ends


class _Transparent(_Traced):
    def forward(self, x: Tensor) -> Tensor:
        seen: Tensor = self.follower(x)
        return seen


class _ChannelWeights(_Traced):
    """One weight a channel through two linear layers."""

    def forward(self, x: Tensor) -> Tensor:
        seen = self.follower(x)
        weights = self.real.get_submodule("fc")(seen.mean(dim=(2, 3, 4)))
        product: Tensor = seen * weights[:, :, None, None, None]
        return product


class _OneMap(_Traced):
    """One weight a position, by a convolution of all channels to one."""

    def forward(self, x: Tensor) -> Tensor:
        self.loose_ends.append(self.real.get_submodule("conv")(x))
        return x * 1


class _SelfAttention(_Traced):
    """f and g meet in a product that sums over their channels; h's are x's."""

    def forward(self, x: Tensor) -> Tensor:
        f, g, h = (self.real.get_submodule(name) for name in "fgh")
        self.loose_ends.append(f(x) * g(x))
        y: Tensor = x + h(x)
        return y


class _Fourier(_Traced):
    """Real and imaginary parts of a channel go in and come out beside each other, and make one channel again."""

    def forward(self, x: Tensor) -> Tensor:
        parts = self.real.get_submodule("conv")(torch.cat([x * 1, x * 1], dim=1))
        real, imag = torch.split(parts, [x.shape[1], x.shape[1]], dim=1)
        return real * imag


def _excitation(module: nn.Module) -> type[_Traced]:
    return _ChannelWeights if isinstance(module, SqueezeExcitation) and module.along == "channels" else _Transparent


_STAND_INS: dict[type[nn.Module], Callable[[nn.Module], type[_Traced]]] = {
    SqueezeExcitation: _excitation,
    ChannelAttention: lambda _: _ChannelWeights,
    Fam: lambda _: _ChannelWeights,
    Sam: lambda _: _Transparent,
    LocalGate: lambda _: _Transparent,
    When: lambda _: _OneMap,
    Where: lambda _: _OneMap,
    SelfAttention: lambda _: _SelfAttention,
    FourierUnit: lambda _: _Fourier,
}


@contextlib.contextmanager
def standing_in(module: nn.Module, skipped: dict[str, str]) -> Iterator[list[Tensor]]:
    """Stand-ins in the place of such modules for as long as this is open; yields their loose ends, traced outputs too.

    What stays for want of channels is added to `skipped`, layer to reason.
    """
    loose_ends: list[Tensor] = []
    real = [
        (name, part, _STAND_INS[type(part)](part)) for name, part in module.named_modules() if type(part) in _STAND_INS
    ]
    try:
        for name, part, stand_in in real:
            _put(module, name, stand_in(name, part, loose_ends))
            if stand_in is _Transparent:
                layers = [
                    key for key, layer in part.named_modules() if isinstance(getattr(layer, "weight", None), Tensor)
                ]
                skipped.update({f"{name}.{key}": _NO_CHANNELS for key in layers})
        yield loose_ends
    finally:
        for name, part, _ in real:
            _put(module, name, part)


def _put(module: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    module.get_submodule(parent).register_module(child, part)
