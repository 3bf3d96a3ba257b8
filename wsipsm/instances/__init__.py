"""Score maps to nuclei to tables."""
