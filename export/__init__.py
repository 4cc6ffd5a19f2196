"""The exporter: models, training, converters, quantization, rewrites, the pipeline."""

from edgeact.extras import need

need("export", "torch", "onnx", "onnxscript", "onnxruntime", "safetensors", "cv2", "scipy")
