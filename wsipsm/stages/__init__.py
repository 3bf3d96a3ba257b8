"""The steps of a run, one a module; each joins functions of the other packages and computes little itself."""
