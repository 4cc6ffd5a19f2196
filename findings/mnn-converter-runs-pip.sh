#!/bin/sh
# MNN 3.6.1 (Python 3.11, numpy 2.4.6, onnx 1.23.2): `python -m MNN.tools.mnnconvert` first runs `pip install -U
# aliyun-log-python-sdk` if that package cannot be imported: the `pip` that PATH names, which need not be that of the running
# interpreter, and without a version. It does so before it reads its arguments. With the package, its source
# hands sizes and options of each conversion to a log service; no option or variable turns either off.
# Expected of a converter: it installs and sends nothing. The function behind it, `_tools.mnnconvert`, does neither.
# Seen (with a `pip` on PATH that only records its arguments): "install -U aliyun-log-python-sdk" from the module, nothing
# from the function; both convert the same ONNX file. Exits 1 if that changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check MNN==3.6.1 numpy==2.4.6 onnx==1.23.2
mkdir "$folder/bin"
printf '#!/bin/sh\necho "$@" >>"%s/calls"\n' "$folder" >"$folder/bin/pip"
chmod +x "$folder/bin/pip"
touch "$folder/calls"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import onnx

value = onnx.helper.make_tensor_value_info
graph = onnx.helper.make_graph(
    [onnx.helper.make_node("Relu", ["x"], ["y"])],
    "g",
    [value("x", onnx.TensorProto.FLOAT, [1, 4])],
    [value("y", onnx.TensorProto.FLOAT, [1, 4])],
)
onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10), "relu.onnx")
PYTHON
arguments="-f ONNX --modelFile relu.onnx --bizCode x --MNNModel"
PATH="$folder/bin:$PATH" "$folder/venv/bin/python" -c "
import sys, MNN, _tools
_tools.mnnconvert(['mnnconvert', *sys.argv[1:]])" $arguments by-function.mnn >/dev/null
test -s by-function.mnn
test ! -s calls || { echo "the function runs pip too"; exit 1; }
PATH="$folder/bin:$PATH" "$folder/venv/bin/python" -m MNN.tools.mnnconvert $arguments by-module.mnn >/dev/null 2>&1 || true
echo "pip was called with: $(cat calls)"
grep -qx "install -U aliyun-log-python-sdk" calls || { echo "the converter no longer runs pip"; exit 1; }
