"""INT8 inference engine for x86-64 processors with AVX-512 VNNI or AMX: `csrc` computes, Python prepares and checks."""
