"""Contrastive losses: features to gradients of features."""
