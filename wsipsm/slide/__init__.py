"""Slides: open them, and read boxes of their pixels at any pixel size."""
