"""Look into a NesT: prepared images for a page, and your own in a live notebook."""
