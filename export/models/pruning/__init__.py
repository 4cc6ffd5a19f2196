"""A pruning as data: the plan a checkpoint carries, and its application to a module."""
