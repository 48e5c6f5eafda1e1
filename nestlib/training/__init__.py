"""Trainers. `classifier.train` is the loop; `checkpoint` and `optim` are its parts."""
