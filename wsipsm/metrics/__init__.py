"""Scores of label images and points against a reference, agreement of measurements, and outlines as label images."""
