"""Phantom slides: synthetic H&E-like slides of known truth, to test the whole instrument with."""
