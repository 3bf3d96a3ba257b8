"""Work on a finished result: scoring it again, checking it."""
