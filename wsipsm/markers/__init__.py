"""Nuclear markers that DAB shows: their names, how their index is interpreted, and the sources of their limits."""
