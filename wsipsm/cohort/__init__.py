"""Cohorts of many slides: which slides belong to one, the order of work, the table and the page."""
