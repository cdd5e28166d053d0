"""Write the shipped checkpoints' cards from figures of their training and the benchmarks' printed tables."""

from __future__ import annotations

import json
from pathlib import Path

from workflows.phantom.training.card import model_card
from wsi_pipeline.models.checkpoint import FIGURES, SHIPPED

ROOT = Path(__file__).resolve().parents[1]
TABLES = {
    "phantom": {
        "From slide files to report text": "phantom.txt",
        "The same slides handled differently": "robustness.txt",
        "How sure": "confidence.txt",
        "Where it looked": "evidence.txt",
    },
    "phantom-long": {"Lesions among very many patches": "needle_long.txt"},
}
HISTORY = {
    "phantom": """\
One run, stopped and gone on
with in between: the tower on an H100, the rest on two cores, where the slides took 21 minutes and their tokens 7
(docs/decisions/0023-copying-by-text.md). Tables below that name another checkpoint are of one before it;
with its second reader the confidence of this one reaches an AUROC of 0.953 on calibration seeds
(docs/decisions/0024-second-reader.md).""",
    "phantom-long": """\
These weights were made
over several days, cycle after cycle, on two cores and, for the long rows, on one H200 (whose minutes are counted among
those of the writer).""",
}


def page(checkpoint: str) -> str:
    """Its card as Markdown."""
    files = {heading: ROOT / "benchmarks/results" / name for heading, name in TABLES[checkpoint].items()}
    tables = {heading: file.read_text() for heading, file in files.items()}
    return model_card(json.loads((SHIPPED[checkpoint] / FIGURES).read_text()), tables, HISTORY[checkpoint])


if __name__ == "__main__":
    for name, folder in SHIPPED.items():
        (folder / "README.md").write_text(page(name))
