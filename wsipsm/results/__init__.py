"""The content of a result folder: its slide, its scorings, and the code and machine that made it."""
