"""The steps of a slide's run, one per module; each calls functions of the other rooms and computes little itself."""
