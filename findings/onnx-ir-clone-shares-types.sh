#!/bin/sh
# onnx-ir 1.1.0 (with onnx 1.23.2, numpy 2.4.6, Python 3.11): `Model.clone()` copies nodes and values, but the copied values refer
# to the same type objects. Setting `value.dtype` on the clone, which edits the type in place, changes the original model too.
# Expected of a clone: the original stays as it was. A new type object (`value.type = ir.TensorType(...)`) leaves it alone.
# Seen: original FLOAT before, FLOAT16 after the clone's value was set to FLOAT16. Exits 1 if that changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx-ir==1.1.0 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import onnx
import onnx_ir as ir

value = onnx.helper.make_tensor_value_info
graph = onnx.helper.make_graph(
    [onnx.helper.make_node("Relu", ["x"], ["y"], "relu")],
    "g",
    [value("x", onnx.TensorProto.FLOAT, [1, 4])],
    [value("y", onnx.TensorProto.FLOAT, [1, 4])],
)
model = ir.from_proto(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]))
clone = model.clone()
assert clone.graph.outputs[0] is not model.graph.outputs[0]
before = model.graph.outputs[0].dtype
clone.graph.outputs[0].dtype = ir.DataType.FLOAT16
after = model.graph.outputs[0].dtype
print(f"original before {before}, after the clone was edited {after}")
assert (before, after) == (ir.DataType.FLOAT, ir.DataType.FLOAT16), "onnx-ir's clone no longer shares its types"
PYTHON
