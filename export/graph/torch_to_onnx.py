"""Convert a PyTorch module to a static FP32 graph, and such a graph to the older opsets that TensorRT releases read."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import onnx_ir as ir
import torch
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.errors import ConversionError
from edgeact.export.graph.edit import remove_unused, set_inputs, set_ints
from edgeact.export.graph.fft_lowering import lower_transforms
from edgeact.export.graph.proto import find_fault, from_proto
from edgeact.export.graph.values import constant_array, node_label, operand, opset_of, optional_operand

__all__ = ["INPUT_NAME", "OUTPUT_NAME", "at_opset", "to_onnx"]

INPUT_NAME = "clip"
OUTPUT_NAME = "logits"
_EXPORT_OPSET = 18  # the lowest that torch's exporter writes without a version converter
_IR_OF_TENSORRT_8 = 8  # the newest that the parsers of TensorRT 8 (ONNX 1.10 to 1.12) read
# Attributes that came later and have no effect on graphs of static shapes and constant axes.
_NEWER_ATTRIBUTES = {"Split": "num_outputs", "Reshape": "allowzero"}
_REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare")


def to_onnx(module: nn.Module, clip: ClipSpec) -> ir.Model:
    """Return the module as an FP32 graph, opset 18, batch 1, static shapes, batch norms folded.

    Fourier transforms become matrix products. The module is put in evaluation mode. The same module gives the same
    bytes, without paths of this machine.
    Input 'clip' float32 `(1, 3, T, H, W)`, output 'logits' float32 `(1, classes)`.
    Raises ConversionError with the exporter's own reason and the layer it names.
    """
    example = torch.zeros(clip.input_shape)
    try:
        with _quiet():
            program = torch.onnx.export(
                lower_transforms(module.eval(), example),
                (example,),
                dynamo=True,
                opset_version=_EXPORT_OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                verbose=False,
            )
    except ConversionError:
        raise
    except Exception as error:  # the exporter wraps every failure in classes of its own
        raise ConversionError(_reason(error)) from error
    if program is None:
        raise ConversionError("the ONNX exporter returned nothing for this model")
    proto = program.model_proto  # a copy of the weights: the module may be trained on
    _remove_metadata(proto)
    model = from_proto(proto)
    if fault := find_fault(model):
        raise ConversionError(f"the ONNX exporter wrote an invalid graph for this model: {fault}")
    return model


def at_opset(model: ir.Model, opset: int) -> ir.Model:
    """Return a copy of `model` restated in an older opset (13 to 18) that computes the same function.

    Between 18 and 13 only a few operators changed more than the types they accept: reductions took their axes as an
    attribute; some attributes did not exist. Everything else is proved by the checker against the older schemas.
    Raises ConversionError naming the operator that has no older form.
    """
    old = model.clone()
    if opset >= opset_of(model):
        return old
    for node in old.graph:
        if node.op_type in _REDUCTIONS:
            _axes_to_attribute(node)
        if newer := _NEWER_ATTRIBUTES.get(node.op_type):
            node.attributes.pop(newer, None)
    old.opset_imports[""] = opset
    old.ir_version = min(old.ir_version, _IR_OF_TENSORRT_8)
    remove_unused(old)
    if fault := find_fault(old):
        raise ConversionError(
            f"the graph cannot be written in opset {opset}: {fault}; "
            "choose a target with a newer TensorRT, or replace that operator in the model"
        )
    return old


def _axes_to_attribute(node: ir.Node) -> None:
    axes = optional_operand(node, 1)
    if axes is None:
        return
    array = constant_array(axes)
    if array is None:
        raise ConversionError(
            f"layer '{node_label(node)}' ({node.op_type}): expected constant axes, got computed ones; "
            "reduce over fixed axes in the model"
        )
    set_inputs(node, [operand(node, 0)])
    node.attributes.pop("noop_with_empty_axes", None)  # has no effect if there are axes
    set_ints(node, "axes", array.tolist())


def _remove_metadata(proto: onnx.ModelProto) -> None:
    """Remove the exporter's notes: stack traces with paths of this machine. Name every node for messages."""
    graph = proto.graph
    for entry in (proto, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del entry.metadata_props[:]
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{index}"


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    head = lines[0] if lines else type(cause).__name__
    place = next((line for line in lines if "target:" in line or "File " in line), "")
    return (
        f"the model cannot be converted to ONNX: {head}{f' at {place}' if place else ''}; "
        "replace data-dependent control flow and unsupported operators by static ones"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about optional packages out of the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
