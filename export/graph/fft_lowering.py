"""Modules that use `torch.fft`, restated without complex numbers: transforms become constant matrix products.

Neither TensorRT nor OpenVINO has a usable DFT, and exporters write complex tensors as slices of stacked ones. So the
complex part of a module is rewritten before ONNX is: its exported ATen graph is copied with two real values in the
place of every complex one. This is the place where shapes are static, whatever a user wrote (`rfft2`, `fftn`, `ihfft`,
shifts, norms, paddings) has come down to ATen's three transforms, and real and imaginary parts are still named as such:
translating single operators to ONNX would have to stack them again after each, and a rewrite of the ONNX graph would
have to undo that.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.utils._python_dispatch import TorchDispatchMode

from edgeact.errors import ConversionError
from edgeact.export.graph.fft_matrices import (
    Basis,
    Direction,
    Pair,
    complex_to_complex,
    complex_to_real,
    real_to_complex,
)

__all__ = ["lower_transforms"]

aten = torch.ops.aten

_TRANSFORMS = (aten._fft_r2c, aten._fft_c2r, aten._fft_c2c)


def lower_transforms(module: nn.Module, example: Tensor) -> nn.Module:
    """`module` for inputs of `example`'s shape without complex numbers; `module` itself where it transforms nothing.

    Equal to `torch.fft` up to rounding (float32, matrices computed in float64); the result shares the parameters.
    Raises ConversionError naming the layer where a complex tensor meets an operation that has no real form here.
    """
    with torch.no_grad(), _Watch() as watch:  # type: ignore[no-untyped-call]  # the base is not annotated
        module(example)
    if not watch.seen:
        return module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export uses what torch itself has deprecated
        program = torch.export.export(module, (example,))
        table: Any = torch.export.default_decompositions()
        composite = {op: how for op, how in table.items() if _is_composite(op)}
        graph = program.run_decompositions(composite).module()
    lowered = _Lowering(cast(fx.GraphModule, graph)).transform()
    lowered.graph.eliminate_dead_code()
    lowered.recompile()
    return lowered


def _is_composite(op: Any) -> bool:
    """Whether the operator is taken apart first: `torch.fft`'s functions into shapes and ATen's transforms."""
    return str(op).startswith("aten.fft_") or op == aten.pad.default


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # the base is not annotated
    """Sees whether anything is transformed."""

    seen = False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.seen = self.seen or func.overloadpacket in _TRANSFORMS
        return func(*args, **(kwargs or {}))


class _Lowering(fx.Transformer):
    """Copies a graph node by node; a complex value is a `Pair` of real ones."""

    node: fx.Node

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False  # keeps errors to their own words
        self.stacked: dict[fx.Node, Pair] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.node = n
        return super().run_node(n)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Left out: all that an exported graph calls are checks of its inputs' shapes."""

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        value = self.fetch_attr(target)
        if not (isinstance(value, Tensor) and value.is_complex()):
            return super().get_attr(target, args, kwargs)
        parts = {"real": value.detach().real.clone(), "imag": value.detach().imag.clone()}
        return Pair(*(self._buffer(f"{target.replace('.', '_')}_{name}", part) for name, part in parts.items()))

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target == aten.select.int and (part := self._part(*args)) is not None:
            return part
        if not any(map(_is_complex, (self.node, *self.node.all_input_nodes))):
            return super().call_function(target, args, kwargs)
        if target == aten.view_as_real.default:
            return self._stack(args[0])
        if target in _PARTWISE:
            return _by_parts(target, args, kwargs)
        if target in _BILINEAR:
            return _product(lambda a, b: target(a, b), *args)
        if target in _FORMS:
            result = _FORMS[target](*args, **kwargs)
            return result.real if isinstance(result, Pair) and not _is_complex(self.node) else result
        if target in (op.default for op in _TRANSFORMS):
            return self._transform(target, *args)
        raise self._refusal(f"{target} on complex numbers")

    def output(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if any(map(_is_complex, self.node.all_input_nodes)):
            raise self._refusal("a complex result of the model")
        return super().output(target, args, kwargs)

    def _transform(self, target: Any, x: Any, axes: list[int], norm: int, mode: Any) -> Any:
        """`mode` is one-sided, forward, or the last size, by transform."""
        if target == aten._fft_c2r.default:
            return complex_to_real(_pair(x), _value(self.node).shape, axes, norm, self._constant)
        shape = _value(cast(fx.Node, self.node.args[0])).shape
        if target == aten._fft_r2c.default and mode:
            return real_to_complex(x, shape, axes, norm, self._constant)
        direction: Direction = "forward" if mode or target == aten._fft_r2c.default else "inverse"
        return complex_to_complex(_pair(x), shape, axes, norm, direction, self._constant)

    def _stack(self, pair: Pair) -> Any:
        stack: Any = torch.stack([pair.real, pair.imag], -1)
        self.stacked[stack.node] = pair
        return stack

    def _part(self, x: Any, axis: int, index: int) -> Tensor | None:
        """What `.real` and `.imag` have become: a part of what `_stack` stacked, without the stack."""
        pair = self.stacked.get(x.node) if isinstance(x, fx.Proxy) else None
        if pair is None or axis % _value(cast(fx.Node, self.node.args[0])).ndim != _value(self.node).ndim:
            return None
        return pair.imag if index % 2 else pair.real

    def _constant(self, basis: Basis) -> Tensor:
        return self._buffer(basis.name, basis.matrix())

    def _buffer(self, name: str, value: Tensor) -> Tensor:
        self.module.register_buffer(name, value)
        return cast(Tensor, super().get_attr(name, (), {}))

    def _refusal(self, what: str) -> ConversionError:
        stack = list(self.node.meta.get("nn_module_stack", {"": ("", None)}).values())
        layer = f"layer '{stack[-1][0]}'" if stack[-1][0] else "the model"
        return ConversionError(
            f"{layer}: {what} has no form in real numbers here; expected Fourier transforms with sums, products, "
            "absolute values and changes of shape between them; compute on .real and .imag instead"
        )


def _value(node: fx.Node) -> Tensor:
    return cast(Tensor, node.meta["val"])


def _is_complex(node: fx.Node) -> bool:
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(one, Tensor) and one.is_complex() for one in values)


def _pair(value: Any) -> Pair:
    """What may be complex, as its parts."""
    if isinstance(value, Pair):
        return value
    if isinstance(value, (int, float, complex)):
        return Pair(cast(Any, complex(value).real), cast(Any, complex(value).imag))
    return Pair(value, torch.zeros_like(value))


def _by_parts(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pair:
    """An operation that treats real and imaginary part alike."""

    def of(part: str) -> Any:
        chosen = map_aggregate((args, kwargs), lambda one: getattr(one, part) if isinstance(one, Pair) else one)
        return target(*chosen[0], **chosen[1])

    return Pair(of("real"), of("imag"))


def _product(op: Callable[[Any, Any], Tensor], left: Any, right: Any) -> Pair:
    if not isinstance(left, (Pair, complex)):
        return Pair(op(left, right.real), op(left, right.imag))
    if not isinstance(right, (Pair, complex)):
        return Pair(op(left.real, right), op(left.imag, right))
    real = op(left.real, right.real) - op(left.imag, right.imag)
    return Pair(real, op(left.real, right.imag) + op(left.imag, right.real))


def _sum(op: Callable[..., Tensor], left: Any, right: Any, **options: Any) -> Pair:
    left, right = _pair(left), _pair(right)
    return Pair(op(left.real, right.real, **options), op(left.imag, right.imag, **options))


def _joined(target: Callable[..., Tensor], values: Sequence[Any], *axis: int) -> Pair:
    pairs = [_pair(value) for value in values]
    return Pair(target([pair.real for pair in pairs], *axis), target([pair.imag for pair in pairs], *axis))


def _quotient(left: Any, right: Any) -> Pair:
    if not isinstance(right, (Pair, complex)):
        return Pair(left.real / right, left.imag / right)
    divisor = _pair(right)
    size = divisor.real * divisor.real + divisor.imag * divisor.imag
    return _quotient(_product(operator.mul, left, Pair(divisor.real, -divisor.imag)), size)


def _padded(x: Any, pad: Sequence[int], value: Any = 0) -> Pair:
    filling = complex(value)
    parts = ((x.real, filling.real), (x.imag, filling.imag))
    return Pair(*(aten.constant_pad_nd.default(part, pad, number) for part, number in parts))


def _polar(size: Any, angle: Any) -> Pair:
    return Pair(size * torch.cos(angle), size * torch.sin(angle))


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
_FORMS: dict[Any, Callable[..., Any]] = {
    aten._conj.default: lambda x: Pair(x.real, -x.imag),
    aten._to_copy.default: lambda x, **_options: _pair(x),
    aten.abs.default: lambda x: torch.sqrt(x.real * x.real + x.imag * x.imag),
    aten.add.Tensor: lambda a, b, **options: _sum(aten.add.Tensor, a, b, **options),
    aten.angle.default: lambda x: torch.atan2(x.imag, x.real),
    aten.cat.default: lambda values, *axis: _joined(torch.cat, values, *axis),
    aten.complex.default: Pair,
    aten.conj.default: lambda x: Pair(x.real, -x.imag),
    aten.constant_pad_nd.default: _padded,
    aten.div.Tensor: _quotient,
    aten.einsum.default: lambda text, values: _product(lambda a, b: torch.einsum(text, a, b), *values),
    aten.imag.default: lambda x: x.imag,
    aten.polar.default: _polar,
    aten.real.default: lambda x: x.real,
    aten.resolve_conj.default: lambda x: x,
    aten.stack.default: lambda values, *axis: _joined(torch.stack, values, *axis),
    aten.sub.Tensor: lambda a, b, **options: _sum(aten.sub.Tensor, a, b, **options),
    aten.to.dtype: lambda x, *_options, **_more: _pair(x),
    aten.view_as_complex.default: lambda x: Pair(x.select(-1, 0), x.select(-1, 1)),
}
