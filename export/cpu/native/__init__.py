"""Compiler from INT8 ONNX graphs to programs of the native engine.

`lower` turns nodes into operations (`ir`), `fuse_adds` fuses residual additions into the epilogues of convolutions,
`buffers` allocates buffers for the tensors' channels, and `codegen` emits the instructions. `refusals` says what cannot
be lowered.
"""
