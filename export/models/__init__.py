"""The model graphs, one literal registry, and what they cost."""
