"""Training: loop, quantization-aware training, distillation, fine-tuning of pruned models."""
