"""A second reader: what each patch shows by itself, in the eyes of a small network on its tokens.

It writes nothing. What it is for is doubt: a slide's line that its patches do not bear out is less likely to be right,
which the writer's own probabilities do not tell (decision 24).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from reporters.plan import Window
from reporters.schema import Finding
from wsi_pipeline.errors import ModelError
from wsi_pipeline.models.checkpoint import SECOND_READER
from wsi_pipeline.store.tokens import TokenStore

HIDDEN = 128
_AT_ONCE = 1 << 14
"""Tokens that are read at a time."""
_UNKNOWN = -5.0
"""Backing of a line that says nothing it knows; most lines that are wrong have more."""

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
    """

    classifier: PatchClassifier
    classes: tuple[Class, ...]

    @property
    def dim(self) -> int:
        """Width of the tokens that it reads."""
        return self.classifier.first.in_features

    def backing(
        self, findings: Sequence[Finding], specimen: str | None, window: Window, tokens: Mapping[str, TokenStore]
    ) -> float:
        """How well the least borne out of the lines about slides is borne out by its slide's patches.

        Of a line that names a finding: the highest score that any patch has for it, or how far that lies above the
        highest for another finding, whichever is less. Of one that says nothing is found: by how much the highest for
        any finding lies below that. Lines of a specimen, or about something, that it does not know are not borne out.

        Args:
            findings: of single slides, as answers in lines have them.
            specimen: that they are of.
            window: the sequence they were written from: of its patches only.
            tokens: of its slides.
        """
        known = [n for n, (name, _) in enumerate(self.classes) if specimen and specimen.startswith(name)]
        said = {finding.slides[0]: _said(self.classes, known, finding) for finding in findings}
        if not known or any(says is None for says in said.values()):
            return _UNKNOWN
        shares = [share for share in window.slides if share.slide in said]
        return min(
            (
                _borne_out(said[share.slide], known, self._highest(tokens[share.slide], share.patches, known[0]))
                for share in shares
            ),
            default=_UNKNOWN,
        )

    @torch.inference_mode()
    def _highest(self, store: TokenStore, patches: Sequence[int], nothing: int) -> NDArray[np.float32]:
        """(classes,) highest score of any of the patches."""
        per_patch = store.facts.tokens_per_patch
        step = max(1, _AT_ONCE // per_patch)
        highest = np.full(len(self.classes), -np.inf, np.float32)
        for start in range(0, len(store), step):
            stop = min(start + step, len(store))
            some = [n - start for n in patches if start <= n < stop]
            if some:
                rows = torch.from_numpy(store.read(start, stop, per_patch)[some])
                scores = self.classifier(rows, torch.full((len(rows),), nothing)).amax(0)
                highest = np.maximum(highest, scores.numpy())
        return highest


def _said(classes: Sequence[Class], known: Sequence[int], finding: Finding) -> int | None:
    """Which class a slide's line says; None for none of them."""
    text = finding.sentences[0].text if finding.sentences else ""
    says = [n for n in known if text.startswith(classes[n][1])]
    return max(says, key=lambda n: len(classes[n][1]), default=None)


def _borne_out(said: int | None, known: Sequence[int], highest: NDArray[np.float32]) -> float:
    others = max((float(highest[n]) for n in known[1:] if n != said), default=0.0)
    return -others if said == known[0] else min(float(highest[said]), float(highest[said]) - others)


def save_second_reader(folder: Path, classifier: PatchClassifier, classes: Sequence[Class]) -> None:
    """Beside a checkpoint's weights; no tensors of its own, so that nobody takes them for the checkpoint's."""
    weights = {name: tensor.numpy(force=True) for name, tensor in classifier.state_dict().items()}
    np.savez(folder / SECOND_READER, classes=np.array(classes), **weights)


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
    except (BadZipFile, zlib.error, EOFError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        cause = f"is no second reader ({type(error).__name__})"
        raise ModelError(file, cause, "delete it: confidence then goes without, if calibrated so") from None
    return SecondReader(classifier.eval(), classes)
