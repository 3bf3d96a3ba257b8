"""Many slides: what a cohort is made of, its order of work, its table, its page."""
