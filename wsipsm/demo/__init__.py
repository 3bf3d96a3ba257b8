"""A drawn slide with known truth, and the comparison of a result with it."""
