"""Static quantization and what it leaves in float."""
