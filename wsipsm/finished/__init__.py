"""What is done with a finished result: scored again, checked."""
