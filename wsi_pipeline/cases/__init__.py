"""Cases, parts and slides, and how a folder or a manifest becomes them."""

from wsi_pipeline.cases.identity import refuse_mixed_patients
from wsi_pipeline.cases.layouts import discover
from wsi_pipeline.cases.manifest import read_manifest
from wsi_pipeline.cases.model import Case, Part, Slide, make_case

__all__ = ["Case", "Part", "Slide", "discover", "make_case", "read_manifest", "refuse_mixed_patients"]
