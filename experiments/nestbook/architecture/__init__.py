"""What a built NesT says of itself: its shapes, and which patches reach which block."""
