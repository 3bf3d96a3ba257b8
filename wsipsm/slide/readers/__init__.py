"""One module a way to read a slide; `slide/open.py` tries them in order."""
