"""INT8 inference engine for x86-64 (from AVX2 to AMX) and ARM: `csrc` computes, Python prepares and checks."""
