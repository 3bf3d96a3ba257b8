"""A cohort's results held against a reference's."""
