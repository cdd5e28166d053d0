"""How well cases are read: against their truth, beside readers that see less, and where that ends."""
