"""A pruning as data: the plan that a checkpoint stores, and its application to a module."""
