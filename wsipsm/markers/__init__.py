"""Nuclear markers that DAB shows: what each is called, how its index is read, and from where its limits come."""
