"""TensorRT: lint for its releases, FP16 typing, build recipes, the compiler for RTX GPUs, candidates for GPUs."""
