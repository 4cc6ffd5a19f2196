"""The format of native programs, the file of their tensors, and the enumerations shared with C."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeact.runtime.native import program
from edgeact.runtime.native.library import ISA_CODES
from edgeact.runtime.native.program import (
    BINARY_OPERATORS,
    OPCODES,
    REDUCTIONS,
    UNARY_OPERATORS,
    Program,
    join_tensors,
)
from tests.messages import names
from tests.runtime.native.making import every_instruction

SHAPES = arrays.array_shapes(min_dims=1, max_dims=5, max_side=5)
TENSORS = st.one_of(
    arrays.arrays(np.int8, SHAPES), arrays.arrays(np.float32, SHAPES, elements=st.floats(-1e6, 1e6, width=32))
)


@given(st.lists(TENSORS, min_size=1, max_size=6))
def test_tensors_are_aligned_and_read_back(tensors: list[np.ndarray]) -> None:
    refs, data = join_tensors(tensors)
    end = 0
    for ref, tensor in zip(refs, tensors, strict=True):
        assert ref.offset % 64 == 0
        assert ref.offset >= end
        end = ref.offset + tensor.nbytes
        read = np.frombuffer(data, ref.dtype, tensor.size, ref.offset).reshape(ref.shape)
        np.testing.assert_array_equal(read, tensor)
    assert len(data) >= end


def test_a_transposed_tensor_is_written_in_its_logical_order() -> None:
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    (ref,), data = join_tensors([transposed])
    assert ref.shape == (3, 2)
    np.testing.assert_array_equal(np.frombuffer(data, np.float32, 6).reshape(3, 2), transposed)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.float16])
def test_other_dtypes_are_refused(dtype: type) -> None:
    with pytest.raises(ValueError, check=names("dtype")):
        join_tensors([np.zeros(3, dtype)])


def test_a_program_survives_json() -> None:
    built, _ = every_instruction()
    assert Program.model_validate_json(built.to_json()) == built


def test_json_keys_are_those_of_format_version_1() -> None:
    """Bundles hold programs under these names: a changed key would make them unreadable."""
    document = json.loads(every_instruction()[0].to_json())
    assert document.keys() == {"format_version", "features", "arrays", "constants", "tensors", "steps", "logits"}
    assert document["features"][0].keys() == {"size", "channels", "zero"}
    keys = {step["kind"]: set(step) - {"kind"} for step in document["steps"]}
    assert keys["input"] == {"to", "channels", "size", "block", "step"}
    assert keys["conv"] == {"features", "channel", "weights", "stride", "pad", "out", "stores"}
    assert keys["pool"] == {"features", "to", "kernel", "stride", "pad"}
    assert keys["reduce"] == {"op", "array", "over", "to"}
    assert keys["small-conv"] == {"array", "weights", "bias", "pad", "to"}
    assert keys["round"] == {"array", "to", "channel", "step"}
    assert keys["restore"] == {"features", "channel", "channels", "step", "to", "to_channel"}
    (epilogue, _) = next(step for step in document["steps"] if step["kind"] == "conv")["stores"]
    assert {"relu_sum", "onto", "summands"} < epilogue.keys()
    assert epilogue["summands"][0].keys() == {"features", "channel", "scale"}


def _enumeration(prefix: str, first: str) -> list[str]:
    """Return the members of the C enumeration that begins with `prefix + first`, lower-case and without prefix."""
    header = (Path(program.__file__).parent / "csrc" / "engine.h").read_text()
    match = re.search(rf"enum {{ ({prefix}{first}\b[^}}]*)}}", header)
    assert match is not None
    return [name.strip().removeprefix(prefix).lower().replace("_", "-") for name in match[1].split(",")]


def test_enumerations_have_the_order_of_the_c_header() -> None:
    assert _enumeration("EA_", "MUL") == list(BINARY_OPERATORS)
    assert _enumeration("EA_", "RELU") == list(UNARY_OPERATORS)
    assert _enumeration("EA_REDUCE_", "SUM") == list(REDUCTIONS)
    persisted = {"float-conv": "small-conv", "quantize": "round", "dequantize": "restore"}
    assert [persisted.get(name, name) for name in _enumeration("EA_OP_", "INPUT")] == list(OPCODES)
    assert _enumeration("EA_", "AVX2") == list(ISA_CODES)
