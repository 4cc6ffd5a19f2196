"""Restate modules that use `torch.fft` without complex numbers: transforms become constant matrix products.

Neither TensorRT nor OpenVINO has a usable DFT, and exporters write complex tensors as slices of stacked ones. So the
complex part of a module is rewritten before the module is converted to ONNX: its exported ATen graph is copied with two
real values in the place of every complex one. At this stage shapes are static, every function of the user (`rfft2`,
`fftn`, `ihfft`, shifts, norms, paddings) is decomposed into ATen's three transforms, and real and imaginary parts are
still named as such. Translating single operators to ONNX would have to stack the parts again after each operator, and a
rewrite of the ONNX graph would have to undo that.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Target, map_aggregate
from torch.utils._python_dispatch import TorchDispatchMode

from edgeact.errors import ConversionError
from edgeact.export.graph.fft_matrices import (
    Basis,
    ComplexPair,
    Direction,
    complex_to_complex,
    complex_to_real,
    real_to_complex,
)

__all__ = ["lower_transforms"]

aten = torch.ops.aten

_TRANSFORMS = (aten._fft_r2c, aten._fft_c2r, aten._fft_c2c)
_TRANSFORM_OVERLOADS: tuple[Target, ...] = tuple(op.default for op in _TRANSFORMS)


def lower_transforms(module: nn.Module, example: Tensor) -> nn.Module:
    """Return `module` for inputs of `example`'s shape without complex numbers; `module` itself if it has no transform.

    Equal to `torch.fft` up to rounding (float32, matrices computed in float64); the result shares the parameters.
    Raises ConversionError naming the layer if a complex tensor meets an operation that has no real form here.
    """
    with torch.no_grad(), _TransformWatch() as watch:  # type: ignore[no-untyped-call]  # the base is not annotated
        module(example)
    if not watch.found_transform:
        return module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export calls functions that torch deprecates
        program = torch.export.export(module, (example,))
        table = torch.export.default_decompositions().items()  # type: ignore[no-untyped-call]
        graph = program.run_decompositions({op: rule for op, rule in table if _is_composite(op)}).module()
    lowered = _Lowering(cast(fx.GraphModule, graph)).transform()
    lowered.graph.eliminate_dead_code()
    lowered.recompile()
    return lowered


def _is_composite(op: object) -> bool:
    """Return whether the operator is decomposed first: `torch.fft`'s functions into shapes and ATen's transforms."""
    return str(op).startswith("aten.fft_") or op == aten.pad.default


class _TransformWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # the base is not annotated
    """A dispatch mode that notes whether any operator is a Fourier transform."""

    found_transform = False

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        self.found_transform = self.found_transform or func.overloadpacket in _TRANSFORMS
        return func(*args, **(kwargs or {}))


class _Lowering(fx.Transformer):
    """A copy of a graph, node by node, in which a complex value is a `ComplexPair` of real ones.

    Values are proxies of the new graph; they stand for tensors and are typed as such.
    """

    node: fx.Node

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False  # else errors get torch.fx's traceback appended
        self.stacked: dict[fx.Node, ComplexPair] = {}

    def run_node(self, n: fx.Node) -> object:
        self.node = n
        return super().run_node(n)

    def call_module(self, target: Target, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """Leave the call out: an exported graph calls only checks of its inputs' shapes."""

    def get_attr(  # type: ignore[override]  # in place of one proxy a pair of them
        self, target: Target, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> fx.Proxy | ComplexPair:
        value = self.fetch_attr(str(target))
        if not (isinstance(value, Tensor) and value.is_complex()):
            return super().get_attr(target, (), {})
        name = str(target).replace(".", "_")
        real, imag = (part.detach().clone() for part in (value.real, value.imag))
        return ComplexPair(self._buffer(f"{name}_real", real), self._buffer(f"{name}_imag", imag))

    def call_function(self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, object]) -> object:
        assert callable(target)
        if target == aten.select.int and (part := self._stacked_part(*args)) is not None:
            return part
        if not any(map(_is_complex, (self.node, *self.node.all_input_nodes))):
            return super().call_function(target, args, dict(kwargs))
        if target == aten.view_as_real.default:
            return self._stack(_as_pair(args[0]))
        if target in _PARTWISE:
            return _by_parts(target, args, kwargs)
        if target in _BILINEAR:
            return _product(target, *args)
        if target in _FORMS:
            result = _FORMS[target](*args, **kwargs)
            return result.real if isinstance(result, ComplexPair) and not _is_complex(self.node) else result
        if target in _TRANSFORM_OVERLOADS:
            return self._transform(target, *args)
        raise self._refusal(f"{target} on complex numbers")

    def output(self, target: Target, args: tuple[fx.node.Argument, ...], kwargs: Mapping[str, object]) -> object:
        if any(map(_is_complex, self.node.all_input_nodes)):
            raise self._refusal("a complex result of the model")
        return super().output(target, args, dict(kwargs))

    def _transform(self, target: Target, x: Tensor | ComplexPair, axes: list[int], norm: int, mode: int) -> object:
        """Lower one of ATen's transforms; `mode` is one-sided, forward, or the last size, by transform."""
        if target == aten._fft_c2r.default:
            return complex_to_real(_as_pair(x), _value(self.node).shape, axes, norm, self._constant)
        shape = _value(self.node.all_input_nodes[0]).shape
        if target == aten._fft_r2c.default and mode:
            return real_to_complex(cast(Tensor, x), shape, axes, norm, self._constant)
        direction: Direction = "forward" if mode or target == aten._fft_r2c.default else "inverse"
        return complex_to_complex(_as_pair(x), shape, axes, norm, direction, self._constant)

    def _stack(self, pair: ComplexPair) -> Tensor:
        stack = torch.stack([pair.real, pair.imag], -1)
        self.stacked[cast(fx.Proxy, stack).node] = pair
        return stack

    def _stacked_part(self, x: object, axis: int, index: int) -> Tensor | None:
        """Return the part that `.real` or `.imag` selects from a result of `_stack`, without the stack."""
        pair = self.stacked.get(x.node) if isinstance(x, fx.Proxy) else None
        if pair is None or axis % _value(self.node.all_input_nodes[0]).ndim != _value(self.node).ndim:
            return None
        return pair.imag if index % 2 else pair.real

    def _constant(self, basis: Basis) -> Tensor:
        return self._buffer(basis.name, basis.matrix())

    def _buffer(self, name: str, value: Tensor) -> Tensor:
        self.module.register_buffer(name, value)
        return cast(Tensor, super().get_attr(name, (), {}))

    def _refusal(self, operation: str) -> ConversionError:
        stack = list(self.node.meta.get("nn_module_stack", {"": ("", None)}).values())
        layer = f"layer '{stack[-1][0]}'" if stack[-1][0] else "the model"
        return ConversionError(
            f"{layer}: expected Fourier transforms with sums, products, absolute values and changes of shape between "
            f"them, got {operation}, which has no form in real numbers here; compute on .real and .imag instead"
        )


def _value(node: fx.Node) -> Tensor:
    return cast(Tensor, node.meta["val"])


def _is_complex(node: fx.Node) -> bool:
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(item, Tensor) and item.is_complex() for item in values)


def _is_real(value: object) -> TypeGuard[Tensor]:
    return not isinstance(value, (ComplexPair, complex))


def _as_pair(value: object) -> ComplexPair:
    """Return the parts of a value that may be complex; those of a number are numbers."""
    if isinstance(value, ComplexPair):
        return value
    if isinstance(value, (int, float, complex)):
        number = complex(value)
        return ComplexPair(cast(Tensor, number.real), cast(Tensor, number.imag))
    tensor = cast(Tensor, value)
    return ComplexPair(tensor, torch.zeros_like(tensor))


def _by_parts(target: Callable[..., Tensor], args: tuple[object, ...], kwargs: Mapping[str, object]) -> ComplexPair:
    """Apply an operation that treats real and imaginary part alike."""

    def result(part: str) -> Tensor:
        def choose(item: fx.node.Argument) -> fx.node.Argument:
            return getattr(item, part) if isinstance(item, ComplexPair) else item

        chosen = map_aggregate(cast(fx.node.Argument, (args, kwargs)), choose)
        chosen_args, chosen_kwargs = cast(tuple[Sequence[object], Mapping[str, object]], chosen)
        return target(*chosen_args, **chosen_kwargs)

    return ComplexPair(result("real"), result("imag"))


def _product(op: Callable[..., Tensor], left: object, right: object) -> ComplexPair:
    if _is_real(left):
        pair = _as_pair(right)
        return ComplexPair(op(left, pair.real), op(left, pair.imag))
    first = _as_pair(left)
    if _is_real(right):
        return ComplexPair(op(first.real, right), op(first.imag, right))
    second = _as_pair(right)
    real = op(first.real, second.real) - op(first.imag, second.imag)
    return ComplexPair(real, op(first.real, second.imag) + op(first.imag, second.real))


def _sum(op: Callable[..., Tensor], left: object, right: object, **options: object) -> ComplexPair:
    first, second = _as_pair(left), _as_pair(right)
    return ComplexPair(op(first.real, second.real, **options), op(first.imag, second.imag, **options))


def _concatenated(target: Callable[..., Tensor], values: Sequence[object], *axis: int) -> ComplexPair:
    pairs = [_as_pair(value) for value in values]
    return ComplexPair(target([pair.real for pair in pairs], *axis), target([pair.imag for pair in pairs], *axis))


def _quotient(left: ComplexPair, right: object) -> ComplexPair:
    if _is_real(right):
        return ComplexPair(left.real / right, left.imag / right)
    divisor = _as_pair(right)
    squared = divisor.real * divisor.real + divisor.imag * divisor.imag
    return _quotient(_product(operator.mul, left, ComplexPair(divisor.real, -divisor.imag)), squared)


def _padded(x: ComplexPair, pad: Sequence[int], value: complex = 0) -> ComplexPair:
    filling = complex(value)
    real, imag = ((x.real, filling.real), (x.imag, filling.imag))
    return ComplexPair(*(aten.constant_pad_nd.default(part, pad, number) for part, number in (real, imag)))


def _polar(size: Tensor, angle: Tensor) -> ComplexPair:
    return ComplexPair(size * torch.cos(angle), size * torch.sin(angle))


# Operations that are linear over the real numbers and have one complex argument.
_PARTWISE = frozenset(
    {
        operator.getitem,
        aten.alias.default,
        aten.chunk.default,
        aten.clone.default,
        aten.contiguous.default,
        aten.detach.default,
        aten.expand.default,
        aten.flatten.using_ints,
        aten.flip.default,
        aten.index_select.default,
        aten.mean.default,
        aten.mean.dim,
        aten.movedim.int,
        aten.movedim.intlist,
        aten.narrow.default,
        aten.neg.default,
        aten.permute.default,
        aten.repeat.default,
        aten.reshape.default,
        aten.roll.default,
        aten.select.int,
        aten.slice.Tensor,
        aten.split.Tensor,
        aten.split_with_sizes.default,
        aten.squeeze.default,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.sum.default,
        aten.sum.dim_IntList,
        aten.transpose.int,
        aten.unbind.int,
        aten.unflatten.int,
        aten.unsqueeze.default,
        aten.view.default,
    }
)
_BILINEAR = frozenset({aten.bmm.default, aten.matmul.default, aten.mm.default, aten.mul.Tensor, aten.mul.Scalar})
_FORMS: dict[Target, Callable[..., object]] = {
    aten._conj.default: lambda x: ComplexPair(x.real, -x.imag),
    aten._to_copy.default: lambda x, **_options: _as_pair(x),
    aten.abs.default: lambda x: torch.sqrt(x.real * x.real + x.imag * x.imag),
    aten.add.Tensor: lambda a, b, **options: _sum(aten.add.Tensor, a, b, **options),
    aten.angle.default: lambda x: torch.atan2(x.imag, x.real),
    aten.cat.default: lambda values, *axis: _concatenated(torch.cat, values, *axis),
    aten.complex.default: ComplexPair,
    aten.conj.default: lambda x: ComplexPair(x.real, -x.imag),
    aten.constant_pad_nd.default: _padded,
    aten.div.Tensor: _quotient,
    aten.einsum.default: lambda text, values: _product(lambda a, b: torch.einsum(text, a, b), *values),
    aten.imag.default: lambda x: x.imag,
    aten.polar.default: _polar,
    aten.real.default: lambda x: x.real,
    aten.resolve_conj.default: lambda x: x,
    aten.stack.default: lambda values, *axis: _concatenated(torch.stack, values, *axis),
    aten.sub.Tensor: lambda a, b, **options: _sum(aten.sub.Tensor, a, b, **options),
    aten.to.dtype: lambda x, *_options, **_more: _as_pair(x),
    aten.view_as_complex.default: lambda x: ComplexPair(x.select(-1, 0), x.select(-1, 1)),
}
