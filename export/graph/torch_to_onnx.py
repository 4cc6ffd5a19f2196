"""PyTorch to a static FP32 ONNX graph, and that graph to the older opsets TensorRT dialects ask for."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from edgeact.clip import ClipSpec
from edgeact.errors import ConversionError
from edgeact.export.graph.fft_lowering import lower_transforms

__all__ = ["INPUT_NAME", "OUTPUT_NAME", "at_opset", "drop_unused_initializers", "to_onnx"]

INPUT_NAME = "clip"
OUTPUT_NAME = "logits"
_EXPORT_OPSET = 18  # the lowest that torch's exporter writes by itself
_ONNX_DOMAIN = ("", "ai.onnx")
# Attributes that came later and, with static shapes and constant axes, say nothing.
_NEWER_ATTRIBUTES = {"Split": "num_outputs", "Reshape": "allowzero"}
_REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare")


def to_onnx(module: nn.Module, clip: ClipSpec) -> onnx.ModelProto:
    """The module as FP32 ONNX, opset 18, batch 1, static shapes, batch norms folded.

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
    except Exception as error:  # the exporter wraps whatever went wrong in classes of its own
        raise ConversionError(_reason(error)) from error
    if program is None:
        raise ConversionError("the ONNX exporter returned nothing for this model")
    model = program.model_proto
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]  # stack traces with paths of this machine
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    _name_nodes(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A copy of `model` restated in an older opset (13 to 18); the function stays the same.

    Between 18 and 13 only a few operators changed more than the types they accept: reductions took their axes as an
    attribute; some attributes did not exist. Everything else is proved by the checker against the older schemas.
    Raises ConversionError naming the operator that has no older form.
    """
    old = onnx.ModelProto()
    old.CopyFrom(model)
    if opset >= _opset_of(model):
        return old
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in old.graph.initializer}
    for node in old.graph.node:
        if node.op_type in _REDUCTIONS:
            _axes_to_attribute(node, constants)
        if newer := _NEWER_ATTRIBUTES.get(node.op_type):
            _drop_attribute(node, newer)
    next(entry for entry in old.opset_import if entry.domain in _ONNX_DOMAIN).version = opset
    old.ir_version = min(old.ir_version, 8)  # what ONNX 1.10 to 1.12, the parsers of TensorRT 8, can read
    drop_unused_initializers(old)
    try:
        onnx.checker.check_model(old, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionError(
            f"the graph cannot be written in opset {opset}: {str(error).splitlines()[0]}; "
            "choose a target with a newer TensorRT, or replace that operator in the model"
        ) from error
    return old


def _axes_to_attribute(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> None:
    if len(node.input) < 2 or not node.input[1]:
        return
    axes = constants.get(node.input[1])
    if axes is None:
        raise ConversionError(f"layer '{node.name}' ({node.op_type}) computes its axes; expected constants")
    del node.input[1]
    _drop_attribute(node, "noop_with_empty_axes")  # says nothing where there are axes
    node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes]))


def _drop_attribute(node: onnx.NodeProto, name: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def drop_unused_initializers(model: onnx.ModelProto) -> None:
    """Remove constants that no node reads any more, in place."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _opset_of(model: onnx.ModelProto) -> int:
    return int(next(entry.version for entry in model.opset_import if entry.domain in _ONNX_DOMAIN))


def _name_nodes(model: onnx.ModelProto) -> None:
    """Every node gets a name, so that an error can say which layer it means."""
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    head = lines[0] if lines else type(cause).__name__
    where = next((line for line in lines if "target:" in line or "File " in line), "")
    return (
        f"the model cannot be converted to ONNX: {head}{f' at {where}' if where else ''}; "
        "replace data-dependent control flow and unsupported operators by static ones"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about packages nobody asked for out of the user's terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
