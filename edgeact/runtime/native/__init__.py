"""An INT8 engine of our own for x86-64 processors with AVX-512 VNNI or AMX: `csrc` computes, the rest prepares it."""
