"""Headers, tiles and colours of image files, decoded without knowing what a slide is."""
