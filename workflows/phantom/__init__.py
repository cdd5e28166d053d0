"""Phantom slides: synthetic H&E-like slides of known truth, to test the whole instrument with.

`pathology`, `wording` and `seeds` say what there is; `drawing` makes slides and cases of it, `training` the checkpoint
that reads them, `measuring` the figures of how well.
"""
