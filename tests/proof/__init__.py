"""The trained proof: narrow models of every paper, trained, quantized and compared. Not a part of `make test`."""
