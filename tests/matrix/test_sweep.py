"""The export matrix, narrow: every model on every runtime and release in every precision."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeact.errors import ConversionError, UnknownNameError
from edgeact.export.graph.proto import from_proto
from edgeact.export.models.attention.registry import ATTENTIONS
from edgeact.export.models.registry import MODELS, find_model
from edgeact.layer_reasons import AttentionGate
from edgeact.phrases import phrase
from edgeact.precision import Precision
from tests.export.graph.exported import trial
from tests.matrix import sweep as matrix
from tests.matrix.sweep import BOARDS, PRECISIONS, Cell, Size, Trial, matrix_models, prepare, runtimes, try_board

NARROW = Size(width=8, clip_frames=4, size=32, classes=5)
# OpenVINO computes FP16 artifacts in bfloat16 where the processor has AMX: 8 bits through up to a hundred layers. And
# its convolutions of odd channel counts, which MSF's branches have, then leave part of their output unwritten, as
# PyTorch's do (`export.train`): the exporter sees that and ships another artifact.
_BFLOAT16_DB = 20.0


def test_every_row_and_every_attention_is_tried() -> None:
    names = matrix_models()
    assert set(names) >= set(MODELS)
    assert len(names) == len(set(names))
    used = {formula.attention.name for name in names if (formula := find_model(name).formula).attention}
    assert used == set(ATTENTIONS)


def test_the_columns_are_the_targets_asked_for() -> None:
    rtx = [f"tensorrt-rtx SM {sm}" for sm in ("8.6", "8.9", "12.0")]
    jetson = [f"tensorrt {release}" for release in ("8.4", "8.5", "8.6", "10.3", "10.16", "11.4")]
    assert list(runtimes()) == ["onnxruntime", "openvino", *rtx, *jetson]


@pytest.mark.slow
@pytest.mark.parametrize("board", ["cpu", "rtx-4090", "agx-orin-64gb"])
@pytest.mark.parametrize("name", matrix_models())
def test_every_model_goes_everywhere_and_agrees(name: str, board: str) -> None:
    """SM 8.6 and 12.0 get the very graph of SM 8.9; they are compiled for below."""
    for precision in PRECISIONS:
        cells = try_board(trial(name), board, precision)
        assert cells
        for cell in cells:
            in_bfloat16 = (cell.runtime, cell.precision) == ("openvino", "fp16")
            assert cell.outcome == "agrees" or (in_bfloat16 and _is_expected(name, cell)), cell


def _is_expected(name: str, cell: Cell) -> bool:
    if name.startswith("msf-"):
        return cell.reason != "" or cell.parity is not None
    return cell.parity is not None and cell.parity.snr_db is not None and cell.parity.snr_db > _BFLOAT16_DB


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_all_columns_of_a_model_are_filled(precision: Precision) -> None:
    found = [cell for board in BOARDS for cell in try_board(trial("cnn3d+se"), board, precision)]
    assert {cell.runtime for cell in found} == set(runtimes())
    assert all(cell.precision == precision for cell in found)
    if precision == "int8":
        assert all(phrase(AttentionGate()) in cell.float_layers for cell in found)


@pytest.mark.slow
def test_boards_tried_together_say_what_each_says_alone() -> None:
    boards = ("rtx-3090", "rtx-5090")
    together = matrix.try_model("cnn3d", NARROW, 1, lambda _title: None, boards)
    alone = [cell for board in boards for one in PRECISIONS for cell in try_board(trial("cnn3d"), board, one)]

    def told(cell: Cell) -> tuple[object, ...]:
        return cell.runtime, cell.precision, cell.outcome, *sorted(cell.float_layers.items())

    assert {told(cell) for cell in together} == {told(cell) for cell in alone}
    assert {cell.runtime for cell in together} == {"onnxruntime", "tensorrt-rtx SM 8.6", "tensorrt-rtx SM 12.0"}


def _ending_in(operator: str, *constants: float) -> Trial:
    """A trial whose graph ends in an operator that not every tool knows."""
    good = trial("cnn3d")
    model = ir.to_proto(good.master)
    model.graph.node[-1].output[0] = "before"
    names = [f"constant {index}" for index in range(len(constants))]
    for name, value in zip(names, constants, strict=True):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(5, value, np.float32), name))
    model.graph.node.append(onnx.helper.make_node(operator, ["before", *names], ["logits"], name="the_last"))
    return Trial(good.model, from_proto(model), good.data, good.threads)


def test_a_hole_tells_what_the_tool_said() -> None:
    (cell,) = try_board(_ending_in("Bernoulli"), "rtx-4090", "fp32")
    assert (cell.runtime, cell.outcome, cell.parity) == ("tensorrt-rtx SM 8.9", "hole", None)
    assert "TensorRT for RTX refuses the graph" in cell.reason
    assert "'the_last' (Bernoulli)" in cell.reason


def test_no_release_answers_for_anothers_refusal() -> None:
    """TensorRT has LayerNormalization since 8.6; the logits are others then, which is told, too."""
    cells = try_board(_ending_in("LayerNormalization", 1.0), "agx-orin-64gb", "fp32")
    assert {cell.runtime for cell in cells} == {name for name in runtimes() if name.startswith("tensorrt ")}
    holes = {cell.runtime: cell.reason for cell in cells if cell.outcome == "hole"}
    assert set(holes) == {"tensorrt 8.4", "tensorrt 8.5"}
    assert all("got LayerNormalization, which came with 8.6" in reason for reason in holes.values())
    assert {cell.outcome for cell in cells if cell.runtime not in holes} == {"disagrees"}


def test_a_model_that_cannot_be_converted_is_a_line_of_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise ConversionError("the model cannot be converted to ONNX: because")

    monkeypatch.setattr(matrix, "to_onnx", refuse)
    steps: list[str] = []
    cells = matrix.try_model("cnn3d", NARROW, 1, steps.append)
    assert [(cell.runtime, cell.precision) for cell in cells] == [
        (one, two) for one in runtimes() for two in PRECISIONS
    ]
    assert {(cell.outcome, cell.reason) for cell in cells} == {
        ("hole", "the model cannot be converted to ONNX: because")
    }
    assert steps == ["ONNX"]
    with pytest.raises(UnknownNameError):
        prepare("cnn4d", NARROW, 1)
