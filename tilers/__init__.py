"""Slides to patches: readers, resolution, tissue, grid, quality."""
