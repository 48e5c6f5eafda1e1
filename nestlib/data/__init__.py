"""Data sets by name (`nestlib.data.datasets.load_dataset`), and what is done to their batches."""
