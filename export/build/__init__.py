"""The build: stages from a model to a measured bundle."""
