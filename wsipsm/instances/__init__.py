"""Nuclei: from score maps to outlines, and from these to tables."""
