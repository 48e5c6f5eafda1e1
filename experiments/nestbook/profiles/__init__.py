"""What NesT's time goes into, and how it grows with its input."""
