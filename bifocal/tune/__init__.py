"""Hyperparameter search: a space and an objective become trials; nothing here trains."""
