"""INT8 inference engine for x86-64 (AVX-512 VNNI or AMX) and ARM: `csrc` computes, Python prepares and checks."""
