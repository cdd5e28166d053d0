"""Make and train checkpoints: what the phantom is trained with, and fine-tuning grows from."""
