"""CPUs: OpenVINO IR, the native engine's compiler, candidates for CPU targets."""
