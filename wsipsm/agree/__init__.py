"""A cohort's results compared with a reference's."""
