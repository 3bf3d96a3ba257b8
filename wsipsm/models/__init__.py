"""Networks, their cards and weights."""
