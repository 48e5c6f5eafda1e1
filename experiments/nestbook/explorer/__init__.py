"""Look into a NesT: prepared images for a page, and one's own in a live notebook."""
