"""Training of the shipped checkpoints: corpus, objectives, the loop, and the runs by name."""
