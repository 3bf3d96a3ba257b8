"""Readers of published sets, one module for each, in the layout of their authors."""
