"""TensorRT: graph dialects of its releases, lint, strong typing, engine builds, candidates for GPUs."""
