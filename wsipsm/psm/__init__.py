"""Prior self-activation maps: pseudo labels from pixels alone."""
