"""Training on pseudo labels."""
