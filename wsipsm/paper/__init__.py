"""The paper's engine as published: its networks, which are trained on the class of each pixel, and its figure."""
