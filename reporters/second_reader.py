"""A second reader: what each patch shows by itself, in the eyes of a small network on its tokens.

It writes nothing. What it is for is doubt: a slide's line that its patches do not bear out is less likely to be right,
which the writer's own probabilities do not tell (decision 24).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from reporters.schema import Finding
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models.checkpoint import SECOND_READER
from wsi_pipeline.store.tokens import TokenStore

HIDDEN = 128
_AT_ONCE = 4096
"""Patches that are read at a time."""
_UNKNOWN = -5.0
"""Backing of a line that says none of what it knows; most lines that are wrong have more."""

Class = tuple[str, str]
"""What a specimen may show: the specimen, as a report's begins, and the text of a finding. The first one of every
specimen says that nothing is found."""


class PatchClassifier(nn.Module):
    """(n, T, D) tokens of patches to (n, classes) scores, the highest of the patch's T."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(dim, HIDDEN), nn.Linear(HIDDEN, classes)

    def forward(self, tokens: Tensor, nothing: Tensor) -> Tensor:
        """Scores beside that of class `nothing` (n,) of each patch, which is nought."""
        normed = functional.rms_norm(tokens, tokens.shape[-1:])
        scores = self.last(functional.gelu(self.first(normed)))
        beside = scores - scores.gather(2, nothing[:, None, None].expand(-1, scores.shape[1], 1))
        highest: Tensor = beside.amax(1)
        return highest


@dataclass(frozen=True)
class SecondReader:
    """A classifier of patches, and what it tells apart.

    Attributes:
        classifier: of tokens before the projector.
        classes: in its order.
        fingerprint: of the file it came from; a calibration holds for one.
    """

    classifier: PatchClassifier
    classes: tuple[Class, ...]
    fingerprint: str

    def backing(
        self, findings: Sequence[Finding], specimen: str | None, tokens: Mapping[str, TokenStore]
    ) -> float | None:
        """How well the least borne out of the lines about slides is borne out by its slide's patches.

        Of a line that names a finding: the highest score that any patch has for it, or how far that lies above the
        highest for another finding, whichever is less. Of one that says nothing is found: by how much the highest for
        any finding lies below that. None where the specimen, or a slide's tokens, are not known.
        """
        known = [n for n, (name, _) in enumerate(self.classes) if specimen and specimen.startswith(name)]
        if not known or not findings or any(finding.slides[0] not in tokens for finding in findings):
            return None
        return min(
            _borne_out(_said(self.classes, known, finding), known, self._highest(tokens[finding.slides[0]], known[0]))
            for finding in findings
        )

    @torch.inference_mode()
    def _highest(self, store: TokenStore, nothing: int) -> NDArray[np.float32]:
        """(classes,) highest score of any patch."""
        parts = []
        for start in range(0, len(store), _AT_ONCE):
            rows = torch.from_numpy(store.read(start, min(start + _AT_ONCE, len(store)), store.facts.tokens_per_patch))
            parts.append(self.classifier(rows, torch.full((len(rows),), nothing)).amax(0).numpy())
        return np.asarray(np.max(parts, 0), np.float32)


def _said(classes: Sequence[Class], known: Sequence[int], finding: Finding) -> int | None:
    """Which class a slide's line says; None for none of them."""
    text = finding.sentences[0].text if finding.sentences else ""
    says = [n for n in known if text.startswith(classes[n][1])]
    return max(says, key=lambda n: len(classes[n][1]), default=None)


def _borne_out(said: int | None, known: Sequence[int], highest: NDArray[np.float32]) -> float:
    if said is None:
        return _UNKNOWN
    others = max((float(highest[n]) for n in known[1:] if n != said), default=0.0)
    return -others if said == known[0] else min(float(highest[said]), float(highest[said]) - others)


def save_second_reader(folder: Path, classifier: PatchClassifier, classes: Sequence[Class]) -> None:
    """Beside a checkpoint's weights; no tensors of its own, so that nobody takes them for the checkpoint's."""
    weights = {name: tensor.numpy(force=True) for name, tensor in classifier.state_dict().items()}
    np.savez(folder / SECOND_READER, allow_pickle=False, classes=np.array(classes), **weights)


def find_second_reader(folder: Path) -> SecondReader | None:
    """The one that lies beside a checkpoint.

    Raises:
        ModelError: the file is none.
    """
    file = folder / SECOND_READER
    if not file.is_file():
        return None
    try:
        held = dict(np.load(file, allow_pickle=False))
        classes = tuple((str(name), str(text)) for name, text in held.pop("classes"))
        classifier = PatchClassifier(held["first.weight"].shape[1], len(classes))
        classifier.load_state_dict({name: torch.from_numpy(values) for name, values in held.items()})
    except (BadZipFile, KeyError, TypeError, ValueError, RuntimeError) as error:
        cause = f"is no second reader ({type(error).__name__})"
        raise ModelError(file, cause, "delete it: confidence then goes without, if calibrated so") from None
    return SecondReader(classifier.eval(), classes, hashlib.sha256(file.read_bytes()).hexdigest()[:16])
