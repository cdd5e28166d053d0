"""The recipe of the phantom checkpoint: what its tower and its writer learn from, and how long."""
