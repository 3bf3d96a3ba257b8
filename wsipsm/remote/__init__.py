"""Slides by address: checks of addresses, downloads, and the cache that keeps the slides."""
