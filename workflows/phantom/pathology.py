"""The phantom's little pathology: organs, diagnoses, how each looks, and how a report says it.

Looks are stylised on purpose. They share vocabulary with real histology (crypts, acini, follicles, nests),
not its difficulty; nothing learnt here says anything about a patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

VERSION = 1
"""Raised whenever the same seed would give another slide or text."""


@dataclass(frozen=True)
class Motif:
    """A texture of round structures in stroma; lengths in µm, stains as concentrations around 0–1.5.

    Around jittered centres lie a lumen, an epithelium of nuclei, and stroma between.
    """

    spacing: float
    outer: float
    lumen: float
    stretch: float = 1.0
    """Structures are this much longer than wide."""
    wobble: float = 0.15
    """Irregularity of outlines."""
    lumen_eosin: float = 0.0
    lumen_nuclei: float = 0.0
    wall_nuclei: float = 0.7
    wall_haem: float = 0.35
    wall_eosin: float = 0.35
    stroma_eosin: float = 0.6
    stroma_nuclei: float = 0.12
    stroma_haem: float = 0.05
    fibre: float = 0.25
    """Streakiness of the stroma."""
    infiltrate: float = 0.0
    """Fraction of the stroma under clusters of inflammatory cells."""
    fat: float = 0.0
    """Fraction replaced by adipocytes."""
    files: float = 0.0
    """Strength of single files of cells through the stroma."""


@dataclass(frozen=True)
class Diagnosis:
    """One diagnosis of one organ."""

    text: str
    motif: Motif
    malignant: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Organ:
    """An organ: what normal looks like and what can be found. The first diagnosis is the benign one."""

    name: str
    procedure: str
    diagnoses: tuple[Diagnosis, ...]

    @property
    def benign(self) -> Diagnosis:
        """No lesion."""
        return self.diagnoses[0]

    def __str__(self) -> str:
        return self.name


_COLON = Motif(spacing=88, outer=36, lumen=15, wobble=0.1, stroma_nuclei=0.25, stroma_eosin=0.45)
_BREAST = Motif(spacing=150, outer=46, lumen=12, wobble=0.3, stroma_eosin=0.85, stroma_nuclei=0.06, fibre=0.45, fat=0.4)
_PROSTATE = Motif(
    spacing=165,
    outer=66,
    lumen=44,
    wobble=0.32,
    stroma_eosin=0.75,
    stroma_nuclei=0.1,
    fibre=0.55,
    wall_haem=0.25,
)
_NODE = Motif(
    spacing=250, outer=100, lumen=70, wobble=0.12, lumen_eosin=0.3, lumen_nuclei=0.4, wall_nuclei=0.95,
    wall_haem=0.55, stroma_nuclei=0.72, stroma_haem=0.35, stroma_eosin=0.25, fibre=0.1,
)  # fmt: skip

ORGANS = (
    Organ("Colon", "biopsy", (
        Diagnosis("No pathologic change", _COLON),
        Diagnosis("Tubular adenoma, low grade", replace(
            _COLON, spacing=72, outer=34, lumen=7, stretch=2.4, wall_haem=0.8, wall_nuclei=0.95)),
        Diagnosis("Hyperplastic polyp", replace(
            _COLON, spacing=120, outer=56, lumen=40, wobble=0.5, wall_haem=0.15, wall_eosin=0.5)),
        Diagnosis("Chronic active colitis", replace(
            _COLON, spacing=150, outer=38, lumen=12, stroma_nuclei=0.55, infiltrate=0.55)),
        Diagnosis("Adenocarcinoma, moderately differentiated", replace(
            _COLON, spacing=185, outer=84, lumen=46, wobble=0.6, lumen_eosin=0.9, lumen_nuclei=0.25,
            wall_haem=0.7, wall_nuclei=0.9, stroma_nuclei=0.1, fibre=0.6, stroma_eosin=0.35), malignant=True),
    )),
    Organ("Breast", "core biopsy", (
        Diagnosis("Benign breast tissue", _BREAST),
        Diagnosis("Fibroadenoma", replace(
            _BREAST, spacing=120, outer=24, lumen=8, stretch=3.5, fat=0.0, stroma_eosin=0.3, stroma_haem=0.22,
            fibre=0.15, stroma_nuclei=0.2)),
        Diagnosis("Ductal carcinoma in situ, high grade", replace(
            _BREAST, spacing=240, outer=100, lumen=42, wobble=0.12, lumen_eosin=1.2, lumen_nuclei=0.05,
            wall_haem=0.65, wall_nuclei=0.85, fat=0.0), malignant=True),
        Diagnosis("Invasive ductal carcinoma, grade 2", replace(
            _BREAST, spacing=74, outer=30, lumen=0, wobble=0.6, wall_haem=0.6, wall_nuclei=0.9, fat=0.0,
            fibre=0.6), malignant=True),
        Diagnosis("Invasive lobular carcinoma", replace(
            _BREAST, spacing=400, outer=20, lumen=4, fat=0.0, files=1.0, fibre=0.2, stroma_eosin=0.7),
            malignant=True),
    )),
    Organ("Prostate", "needle biopsy", (
        Diagnosis("Benign prostatic tissue", _PROSTATE),
        Diagnosis("Chronic prostatitis", replace(_PROSTATE, infiltrate=0.5, stroma_nuclei=0.3)),
        Diagnosis("High grade prostatic intraepithelial neoplasia", replace(
            _PROSTATE, outer=76, lumen=24, wobble=0.25, wall_haem=0.85, wall_nuclei=1.0)),
        Diagnosis("Acinar adenocarcinoma, Gleason score 3 + 3 = 6", replace(
            _PROSTATE, spacing=62, outer=26, lumen=11, wobble=0.1, wall_haem=0.3, wall_nuclei=0.6,
            stroma_eosin=0.55), malignant=True),
        Diagnosis("Acinar adenocarcinoma, Gleason score 4 + 4 = 8", replace(
            _PROSTATE, spacing=44, outer=44, lumen=9, wobble=0.35, wall_haem=0.55, wall_nuclei=0.85,
            wall_eosin=0.5), malignant=True),
    )),
    Organ("Lymph node", "excision", (
        Diagnosis("Reactive follicular hyperplasia", _NODE),
        Diagnosis("Granulomatous lymphadenitis", replace(
            _NODE, spacing=210, outer=84, lumen=76, lumen_eosin=0.95, lumen_nuclei=0.1, wall_nuclei=0.6)),
        Diagnosis("Follicular lymphoma, low grade", replace(
            _NODE, spacing=128, outer=62, lumen=50, lumen_nuclei=0.55, lumen_eosin=0.25, wall_haem=0.8,
            stroma_nuclei=0.6), malignant=True),
        Diagnosis("Diffuse large B cell lymphoma", replace(
            _NODE, spacing=66, outer=16, lumen=13, lumen_nuclei=0.0, lumen_eosin=0.15, wall_nuclei=0.6,
            wall_haem=0.5, stroma_nuclei=0.6, stroma_haem=0.55, stroma_eosin=0.15), malignant=True),
        Diagnosis("Metastatic adenocarcinoma", replace(
            _NODE, spacing=170, outer=74, lumen=30, wobble=0.45, lumen_eosin=0.0, lumen_nuclei=0.0,
            wall_haem=0.4, wall_nuclei=0.7, wall_eosin=0.9), malignant=True),
    )),
)  # fmt: skip


def organ_named(name: str) -> Organ:
    """The organ of that name.

    Raises:
        KeyError: there is none.
    """
    return next(organ for organ in ORGANS if organ.name.casefold() == name.casefold())


def write_report(organ: Organ, diagnosis: Diagnosis, lesion_on: Sequence[bool]) -> str:
    """The report text of a part whose slide i + 1 shows the lesion where `lesion_on[i]`.

    One line per slide, then the bottom line, which the lines above let a reader check.
    """
    lines = [f"Slide {n}: {(diagnosis if shown else organ.benign).text}" for n, shown in enumerate(lesion_on, 1)]
    seen = [str(n) for n, shown in enumerate(lesion_on, 1) if shown] or [str(n) for n in range(1, len(lesion_on) + 1)]
    return "\n".join([*lines, f"{organ.name}, {organ.procedure};", diagnosis.text, f"Seen on: {', '.join(seen)}"])
