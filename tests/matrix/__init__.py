"""The export matrix at full size: `make matrix`."""
