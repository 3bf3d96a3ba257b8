"""The content of a result folder: whose it is, of which scoring, made by what."""
