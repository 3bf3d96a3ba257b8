"""Thin joints, one a step."""
