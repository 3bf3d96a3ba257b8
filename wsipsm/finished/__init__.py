"""Work on a finished result: it is scored again, or checked."""
