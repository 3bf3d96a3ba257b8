"""Published sets, methods to compare a model with, scores on a set, and tables of them."""
