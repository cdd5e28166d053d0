"""Every artefact on disk: where it lies, what its name means, how it is written and read."""
