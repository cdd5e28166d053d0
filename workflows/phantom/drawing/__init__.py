"""Phantom slides and cases, from a seed to files, patches and their truth."""
