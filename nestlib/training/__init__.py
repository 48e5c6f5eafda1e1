"""Trainers: `classifier.train` and `gan.train` share `loop`, `checkpoint` and `optim`."""
