"""Write the shipped checkpoint's card from its training figures and the benchmarks' printed tables."""

from __future__ import annotations

import json
from pathlib import Path

from workflows.phantom.training.card import model_card
from wsi_pipeline.models.checkpoint import FIGURES

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "wsi_pipeline/models/phantom"
TABLES = {
    "From slide files to report text": "phantom.txt",
    "The same slides handled differently": "robustness.txt",
    "How sure": "confidence.txt",
    "Where it looked": "evidence.txt",
}


def page() -> str:
    """The card as Markdown."""
    results = ROOT / "benchmarks/results"
    tables = {heading: (results / name).read_text() for heading, name in TABLES.items() if (results / name).exists()}
    return model_card(json.loads((CHECKPOINT / FIGURES).read_text()), tables)


if __name__ == "__main__":
    (CHECKPOINT / "README.md").write_text(page())
