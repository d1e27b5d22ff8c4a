"""Measurements of a model: zero-shot, retrieval, word order."""
