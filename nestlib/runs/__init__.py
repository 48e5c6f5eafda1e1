"""From recipes to records: one run, a sweep of them, a queue of Slurm; what they left, by name."""
