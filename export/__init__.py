"""The exporter: models, training, converters, quantization, rewrites, the pipeline."""
