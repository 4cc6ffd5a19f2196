"""From an INT8 ONNX graph to a program of the native engine: `scan` reads the graph, `place` decides where all goes."""
