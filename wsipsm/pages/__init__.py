"""Pages that a person looks at: one HTML file each, with nothing from the network."""
