"""Models: backbones and attention modules, one literal registry, checkpoints and costs."""
