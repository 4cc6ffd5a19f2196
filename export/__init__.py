"""The exporter: models, training, converters, quantization, rewrites, the build.

The package is callable: `edgeact.export(model, target)` is `edgeact.api.export`.
"""

from edgeact.callable_package import make_callable
from edgeact.extras import need

need("export", "torch", "onnx", "onnxscript", "onnxruntime", "safetensors", "cv2", "scipy")
make_callable(__name__, "edgeact.api:export")
