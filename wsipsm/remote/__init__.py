"""Slides by address: which are allowed, how they are fetched, where they are kept."""
