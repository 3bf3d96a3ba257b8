"""Checks of the picture: whether what the slide shows supports the numbers that are computed from it."""
