"""From recipes to records: a run, its weights, and Slurm's queue."""
