"""Both towers, the model and the named architectures."""
