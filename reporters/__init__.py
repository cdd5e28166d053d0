"""Tokens to report: profiles, plan, sequence, generators, evidence, schema, renderers, training."""
