"""Prior self-activation maps (PSM), and the pseudo labels that are made of them from pixels alone."""
