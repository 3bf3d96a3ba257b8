"""Pure scores: label images, points, and how outlines become labels."""
