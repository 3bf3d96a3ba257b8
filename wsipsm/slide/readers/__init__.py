"""Readers of slides, one module for each kind; `slide/open.py` tries them in order."""
