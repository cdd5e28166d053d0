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
The tower is what that
command gives, up to how a GPU rounds and sums. The writer is not: it is that of the checkpoint before
(local-6479e7bf193976c5), its projector fitted to the new tower by least squares, and then taught 1,100 steps on the
new tokens (docs/decisions/0021-tower-on-a-gpu.md); minutes and loss are of these. Tables below that name
that checkpoint are of it.""",
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
