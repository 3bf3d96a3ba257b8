"""Files for people and for QuPath."""
