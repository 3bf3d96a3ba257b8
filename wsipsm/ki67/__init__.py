"""Stain per nucleus and the labelling index."""
