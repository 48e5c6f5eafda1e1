"""What the paper compares NesT with, as recipes by name, and the rows of its tables."""
