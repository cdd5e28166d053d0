"""Patches to tokens, batched on whatever device there is."""
