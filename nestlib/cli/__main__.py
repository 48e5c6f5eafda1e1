"""`python -m nestlib.cli`, as torchrun and Slurm's jobs start it."""

from nestlib.cli.main import main

main()
