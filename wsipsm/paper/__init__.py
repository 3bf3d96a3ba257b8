"""The engine of the paper as it is printed: its networks, trained pixel by pixel, and its figure."""
