"""Programs that would reach outside the engine's memory, or compute wrong results, are refused before they run."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeact.errors import ModelError
from edgeact.runtime.native import engine
from edgeact.runtime.native.packing import buffer_layouts
from edgeact.runtime.native.program import OPCODES, Buffer, Conv, Input, TensorRef
from edgeact.runtime.native.reading import read_program
from tests.messages import names
from tests.runtime.native.making import CLIP_SHAPE, ISAS, NEEDS_ENGINE, After, Before, every_instruction

PROGRAM, DATA = every_instruction()
GRAPH: dict[str, Any] = json.loads(PROGRAM.to_json())
KINDS = [step["kind"] for step in GRAPH["steps"]]
CONV, POOL, DENSE = KINDS.index("conv"), KINDS.index("pool"), KINDS.index("dense")
FLOAT_CONV, INPUT = KINDS.index("small-conv"), 0
QUANTIZE, DEQUANTIZE = KINDS.index("round"), KINDS.index("restore")
BINARY, UNARY, REDUCE = KINDS.index("binary"), KINDS.index("unary"), KINDS.index("reduce")
EPILOGUE = ("steps", CONV, "stores", 0)
FLOAT_EPILOGUE = ("steps", CONV, "stores", 1)
Path = tuple[str | int, ...]


def _changed(changes: dict[Path, Any]) -> dict[str, Any]:
    graph = copy.deepcopy(GRAPH)
    for path, value in changes.items():
        node: Any = graph
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = value
    return graph


def _read(graph: dict[str, Any], data: bytes = DATA) -> Any:
    return read_program(json.dumps(graph).encode(), data)


def test_the_program_that_is_changed_has_every_instruction() -> None:
    program, tensors = _read(GRAPH)
    assert program == PROGRAM
    assert {instruction.kind for instruction in program.instructions} == set(OPCODES)
    assert [tensor.shape for tensor in tensors] == [ref.shape for ref in program.tensors]


ONE_VALUE: dict[str, tuple[Path, Any]] = {
    "another version": (("format_version",), "2"),
    "an unknown field": (("color",), 1),
    "an unknown field of an instruction": (("steps", CONV, "color"), 1),
    "an unknown kind": (("steps", CONV, "kind"), "spiral"),
    "no instructions": (("steps",), []),
    "a buffer beyond": (("steps", CONV, "features"), 99),
    "a negative buffer": (("steps", CONV, "features"), -1),
    "a tensor beyond": (("steps", CONV, "weights"), 99),
    "an array beyond": (("steps", UNARY, "to"), 99),
    "logits beyond": (("logits",), 99),
    "logits that are no vector": (("logits",), GRAPH["steps"][FLOAT_CONV]["to"]),
    "another zero point": (("features", 0, "zero"), 64),
    "a tensor's offset beyond": (("tensors", 0, "offset"), 1 << 40),
    "a tensor's offset beyond all": (("tensors", 0, "offset"), 1 << 70),
    "a tensor's offset between": (("tensors", 0, "offset"), 32),
    "a tensor's shape beyond": (("tensors", 0, "shape"), [1 << 20]),
    "a tensor's size that overflows to 0 in 64 bits": (("tensors", 0, "shape"), [1 << 22, 1 << 21, 1 << 21]),
    "a tensor's size that overflows to -1 in 64 bits": (("tensors", 0, "shape"), [274177, 67280421310721 - 1]),
    "an empty tensor": (("tensors", 0, "shape"), [0]),
    "another type": (("tensors", 0, "dtype"), "float64"),
    "a buffer without channels": (("features", 0, "channels"), 0),
    "a buffer without pixels": (("features", 0, "size"), [2, 0, 3]),
    "a buffer whose size overflows to 0 in 64 bits": (("features", 1, "size"), [1 << 22, 1 << 21, 1 << 21]),
    "a buffer of 2 GiB": (("features", 1, "size"), [1 << 10, 1 << 10, 1 << 10]),
    "an array whose size overflows to 0 in 64 bits": (("arrays", 0), [1 << 20, 1 << 20, 1 << 20, 4]),
    "an array of 2 GiB": (("arrays", 0), [1 << 9, 1 << 10, 1 << 10, 1]),
    "an array without values": (("arrays", 0), [2, 3, 0, 5]),
    "a constant of another size": (("constants",), {"1": 0}),
    "a constant in int8": (("constants",), {"0": GRAPH["steps"][CONV]["weights"]}),
    "a negative constant": (("constants",), {"-1": 0}),
    "channels beyond the buffer": (("steps", CONV, "channel"), 3),
    "weights in float": (("steps", CONV, "weights"), GRAPH["steps"][FLOAT_CONV]["weights"]),
    "weights of other axes": (("steps", CONV, "weights"), 0),
    "no stride": (("steps", CONV, "stride"), [1, 0, 1]),
    "a stride beyond": (("steps", CONV, "stride"), [1, 1, 17]),
    "padding as large as the kernel": (("steps", CONV, "pad"), [3, 1, 1]),
    "negative padding": (("steps", CONV, "pad"), [-1, 1, 1]),
    "outputs behind the buffer": (("steps", CONV, "out"), [5, 3, 3]),
    "outputs beyond 32 bits": (("steps", CONV, "out"), [(1 << 32) + 2, 3, 3]),
    "no outputs": (("steps", CONV, "out"), [0, 3, 3]),
    "no epilogues": (("steps", CONV, "stores"), []),
    "outputs beyond the weights": ((*EPILOGUE, "last"), 19),
    "outputs before the first": ((*EPILOGUE, "first"), 18),
    "a scale of another length": ((*EPILOGUE, "scale"), GRAPH["steps"][CONV]["stores"][1]["scale"]),
    "a bias in int8": ((*EPILOGUE, "bias"), GRAPH["steps"][CONV]["weights"]),
    "an epilogue beyond the buffer": ((*EPILOGUE, "channel"), 3),
    "an epilogue to a buffer of another size": ((*EPILOGUE, "to"), 3),
    "an epilogue to its input": ((*EPILOGUE, "to"), GRAPH["steps"][CONV]["features"]),
    "an epilogue beyond the array": ((*FLOAT_EPILOGUE, "channel"), 2),
    "an epilogue to an array of another size": ((*FLOAT_EPILOGUE, "to"), GRAPH["steps"][FLOAT_CONV]["to"]),
    "accumulating in an array": ((*FLOAT_EPILOGUE, "onto"), True),
    "three summands": ((*EPILOGUE, "summands"), GRAPH["steps"][CONV]["stores"][0]["summands"] * 3),
    "a summand beyond its buffer": ((*EPILOGUE, "summands", 0, "channel"), 3),
    "a summand of another size": ((*EPILOGUE, "summands", 0, "features"), 3),
    "a summand that is written": ((*EPILOGUE, "summands", 0, "features"), GRAPH["steps"][CONV]["stores"][0]["to"]),
    "a summand's factor beyond float32": ((*EPILOGUE, "summands", 0, "scale"), 1e39),
    "a pool to a buffer of other channels": (("steps", POOL, "to"), 4),
    "a pool to its input": (("steps", POOL, "to"), GRAPH["steps"][POOL]["features"]),
    "a pool's window behind its input": (("steps", POOL, "stride"), [4, 1, 1]),
    "a pool's window before its input": (("steps", POOL, "pad"), [1, 0, 0]),
    "a pool without stride": (("steps", POOL, "stride"), [0, 1, 1]),
    "a pool's kernel beyond 32 bits": (("steps", POOL, "kernel"), [1, 1 << 33, 2]),
    "sizes that do not broadcast": (("steps", BINARY, "b"), 0),
    "a result smaller than an operand": (("steps", BINARY, "to"), GRAPH["steps"][REDUCE]["to"]),
    "a copy to an array of another size": (("steps", UNARY, "to"), 0),
    "a reduction that leaves another size": (("steps", REDUCE, "over"), [True, True, False, False]),
    "a reduction in place": (("steps", REDUCE, "to"), GRAPH["steps"][REDUCE]["array"]),
    "a dense layer with other inputs": (("steps", DENSE, "array"), 0),
    "a dense layer in place": (("steps", DENSE, "to"), GRAPH["steps"][DENSE]["array"]),
    "a dense layer's bias of another length": (("steps", DENSE, "bias"), 0),
    "a dense layer with int8 weights": (("steps", DENSE, "weights"), GRAPH["steps"][CONV]["weights"]),
    "a float convolution in place": (("steps", FLOAT_CONV, "to"), GRAPH["steps"][FLOAT_CONV]["array"]),
    "a float convolution's padding": (("steps", FLOAT_CONV, "pad"), [3, 0, 1]),
    "a float convolution's weights": (("steps", FLOAT_CONV, "weights"), GRAPH["steps"][CONV]["weights"]),
    "a float convolution's bias": (("steps", FLOAT_CONV, "bias"), 0),
    "a quantized array of another size": (("steps", QUANTIZE, "array"), GRAPH["steps"][FLOAT_CONV]["to"]),
    "a quantized array beyond the channels": (("steps", QUANTIZE, "channel"), 1),
    "a quantization scale of 0": (("steps", QUANTIZE, "step"), 0),
    "a quantization scale without a reciprocal in float32": (("steps", QUANTIZE, "step"), 1e-40),
    "a quantization scale beyond float32": (("steps", QUANTIZE, "step"), 1e39),
    "dequantized channels beyond the buffer": (("steps", DEQUANTIZE, "channel"), 15),
    "dequantized channels beyond the array": (("steps", DEQUANTIZE, "to_channel"), 3),
    "dequantized to another size": (("steps", DEQUANTIZE, "features"), GRAPH["steps"][CONV]["features"]),
    "a clip of other channels": (("steps", INPUT, "channels"), 4),
    "a clip of another size": (("steps", INPUT, "size"), [2, 8, 6]),
    "a block of size 0": (("steps", INPUT, "block"), [1, 2, 0]),
    "blocks of another size": (("steps", INPUT, "block"), [1, 2, 1]),
    "the clip last": (("steps",), GRAPH["steps"][::-1]),
    "the clip twice": (("steps",), [GRAPH["steps"][0], *GRAPH["steps"]]),
    "no clip": (("steps",), GRAPH["steps"][1:]),
}


@pytest.mark.parametrize("case", ONE_VALUE)
def test_one_wrong_value_is_refused(case: str) -> None:
    path, value = ONE_VALUE[case]
    with pytest.raises(ModelError, match=r"^native program: .*; export the model again$"):
        _read(_changed({path: value}))


def test_accumulating_in_signed_buffers_is_refused() -> None:
    to = GRAPH["steps"][CONV]["stores"][0]["to"]
    _read(_changed({(*EPILOGUE, "onto"): True}))
    pooled = GRAPH["steps"][POOL]["to"]
    signed: dict[Path, Any] = {("features", to, "zero"): 128, ("features", pooled, "zero"): 128}
    _read(_changed(signed))
    with pytest.raises(ModelError, check=names("conv")):
        _read(_changed({**signed, (*EPILOGUE, "onto"): True}))


def test_more_epilogues_than_the_engine_takes_are_refused() -> None:
    """The engine holds 24 for two tiles of 16 outputs, and would drop the others silently."""
    epilogue = {**GRAPH["steps"][CONV]["stores"][1], "first": 0, "last": 4}
    wide: Path = ("arrays", epilogue["to"])
    epilogues = [{**epilogue, "channel": 4 * index} for index in range(25)]
    size = [*GRAPH["arrays"][epilogue["to"]][:3], 100]
    _read(_changed({("steps", CONV, "stores"): epilogues[:24], wide: size}))
    with pytest.raises(ModelError, check=names("conv")):
        _read(_changed({("steps", CONV, "stores"): epilogues, wide: size}))


def test_overlapping_epilogues_are_refused() -> None:
    """The result would depend on the order of threads."""
    epilogue = GRAPH["steps"][CONV]["stores"][1]
    with pytest.raises(ModelError, check=names("conv")):
        _read(_changed({("steps", CONV, "stores"): [epilogue, {**epilogue, "channel": 0, "first": 0, "last": 4}]}))


def test_weights_without_channels_are_refused() -> None:
    """The engine divides by the number of windows."""
    weights: Path = ("tensors", GRAPH["steps"][CONV]["weights"], "shape")
    with pytest.raises(ModelError, check=names("0 elements")):
        _read(_changed({weights: [18, 3, 3, 3, 0]}))


def test_blocks_wider_than_the_engines_line_are_refused() -> None:
    """The engine scatters 1024 pixels at a time, and would never terminate."""
    wide: dict[Path, Any] = {("features", 0, "channels"): 3 * 1025, ("features", 0, "size"): [2, 6, 1]}
    clip: dict[Path, Any] = {("steps", INPUT, "size"): [2, 6, 1025], ("steps", INPUT, "block"): [1, 1, 1025]}
    steps: dict[Path, Any] = {("steps", CONV, "features"): 1, ("steps", CONV, "channel"): 0}
    with pytest.raises(ModelError, check=names("instruction 0, input")):
        _read(_changed({**wide, **clip, **steps}))


def test_buffers_that_exceed_32_bits_with_padding_are_refused() -> None:
    """The buffer itself takes less than 2 GiB, but with padding its offsets exceed int32."""
    program, tensors = _read(GRAPH)
    conv = program.instructions[CONV]
    large = Buffer(size=(1 << 13, 1 << 12, 1), channels=60, zero_point=0)
    assert isinstance(conv, Conv)
    buffers = tuple(large if index == conv.buffer else buffer for index, buffer in enumerate(program.buffers))
    with pytest.raises(ModelError, check=names("buffer 0 of the native program takes")):
        buffer_layouts(program.model_copy(update={"buffers": buffers}), tensors)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_tensor_that_is_not_finite_is_refused(value: float) -> None:
    ref: TensorRef = PROGRAM.tensors[GRAPH["steps"][DENSE]["weights"]]
    data = bytearray(DATA)
    data[ref.offset : ref.offset + 4] = np.float32(value).tobytes()
    with pytest.raises(ModelError, check=names("NaN or infinity")):
        _read(GRAPH, bytes(data))


@given(st.integers(0, max(ref.offset for ref in PROGRAM.tensors)))
def test_a_file_that_is_cut_off_is_refused(length: int) -> None:
    with pytest.raises(ModelError, check=names("native program")):
        _read(GRAPH, DATA[:length])


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(graph: bytes) -> None:
    with pytest.raises(ModelError, check=names("expected JSON of format version 1")):
        read_program(graph, DATA)


def _numbers(value: Any, path: Path = ()) -> list[Path]:
    if isinstance(value, dict):
        return [number for key, child in value.items() for number in _numbers(child, (*path, key))]
    if isinstance(value, list):
        return [number for index, child in enumerate(value) for number in _numbers(child, (*path, index))]
    return [path] if isinstance(value, int | float) else []


SMALL_NUMBERS = st.integers(-1, 40)
NUMBERS = st.one_of(SMALL_NUMBERS, st.sampled_from([64, 128, 1023, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 63]))
CHANGES = st.dictionaries(st.sampled_from(_numbers(GRAPH)), NUMBERS, min_size=1, max_size=3)


@NEEDS_ENGINE
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(CHANGES, st.sampled_from([Before, After]))
def test_a_program_that_passes_remains_within_its_memory(changes: dict[Path, Any], memory: type) -> None:
    """Change any three numbers: an access outside the memory ends the process."""
    try:
        program, tensors = _read(_changed(changes))
    except ModelError:
        return
    clip = program.instructions[0]
    assert isinstance(clip, Input)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "Memory", memory)
        opened = engine.Engine(program, tensors, 2, ISAS[len(changes) % len(ISAS)])
        try:
            opened.run(np.ones((clip.channels, *clip.size), np.float32))
        finally:
            opened.close()


def test_the_program_reads_clips_of_the_shape_that_tests_use() -> None:
    clip = PROGRAM.instructions[0]
    assert isinstance(clip, Input)
    assert (clip.channels, *clip.size) == CLIP_SHAPE
