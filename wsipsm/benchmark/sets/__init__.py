"""One module a published set, as its authors lay it out on a disk."""
