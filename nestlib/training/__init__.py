"""Trainers. `classifier.train` and `gan.train`; `loop` is what they share, `checkpoint` and `optim`
are its parts."""
