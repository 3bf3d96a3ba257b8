"""A drawn slide with known truth."""
