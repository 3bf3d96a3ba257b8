"""Published sets, what stands against a model, scores of a set, and their tables."""
