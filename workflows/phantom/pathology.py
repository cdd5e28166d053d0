"""The phantom's little pathology: organs, diagnoses, how each looks, and what is easily taken for it.

Looks are stylised on purpose. They share vocabulary with real histology (crypts, acini, follicles, nests),
not its difficulty; nothing learnt here says anything about a patient.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

VERSION = 3
"""Raised whenever the same seed would give another slide or text; frozen by `tests/workflows/test_frozen.py`."""


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

    def toward(self, other: Motif, share: float) -> Motif:
        """This where `share` is 0, `other` where it is 1, every measure in proportion between."""
        mixed = {f.name: (1 - share) * getattr(self, f.name) + share * getattr(other, f.name) for f in fields(self)}
        return Motif(**mixed)


@dataclass(frozen=True)
class Diagnosis:
    """One diagnosis of one organ. A lesion has a mimic: benign tissue that shares some of its traits, not all."""

    name: str
    motif: Motif
    mimic: Motif | None = None
    grade: str = ""
    malignant: bool = False

    @property
    def text(self) -> str:
        """Name and grade as a report says them."""
        return f"{self.name}, {self.grade}" if self.grade else self.name

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

    @property
    def lesions(self) -> tuple[Diagnosis, ...]:
        """All others."""
        return self.diagnoses[1:]

    def diagnosis(self, text: str) -> Diagnosis:
        """The diagnosis of that text.

        Raises:
            KeyError: there is none.
        """
        return next(d for d in self.diagnoses if d.text.casefold() == text.casefold())

    def __str__(self) -> str:
        return self.name


_COLON = Motif(spacing=88, outer=36, lumen=15, wobble=0.1, stroma_nuclei=0.25, stroma_eosin=0.45)
_BREAST = Motif(spacing=150, outer=46, lumen=12, wobble=0.3, stroma_eosin=0.85, stroma_nuclei=0.06, fibre=0.45, fat=0.4)
_PROSTATE = Motif(
    spacing=165, outer=66, lumen=44, wobble=0.32, stroma_eosin=0.75, stroma_nuclei=0.1, fibre=0.55, wall_haem=0.25
)
_NODE = Motif(
    spacing=250, outer=100, lumen=70, wobble=0.12, lumen_eosin=0.3, lumen_nuclei=0.4, wall_nuclei=0.95,
    wall_haem=0.55, stroma_nuclei=0.72, stroma_haem=0.35, stroma_eosin=0.25, fibre=0.1,
)  # fmt: skip

ORGANS = (
    Organ("Colon", "biopsy", (
        Diagnosis("No pathologic change", _COLON),
        Diagnosis(  # mimic: reactive crypts, dark but round
            "Tubular adenoma, low grade",
            replace(_COLON, spacing=72, outer=34, lumen=7, stretch=2.4, wall_haem=0.8, wall_nuclei=0.95),
            replace(_COLON, spacing=88, outer=38, lumen=15, wall_haem=0.8, wall_nuclei=0.95)),
        Diagnosis(  # mimic: dilated crypts, wide but smooth and thin-walled
            "Hyperplastic polyp",
            replace(_COLON, spacing=120, outer=56, lumen=27, wobble=0.6, wall_haem=0.15, wall_eosin=0.5),
            replace(_COLON, spacing=125, outer=54, lumen=40, wobble=0.04)),
        Diagnosis(  # mimic: a lymphoid aggregate, cells without crypts
            "Chronic active colitis",
            replace(_COLON, spacing=150, outer=38, lumen=12, stroma_nuclei=0.55, infiltrate=0.55),
            replace(_COLON, spacing=600, outer=12, lumen=0, stroma_nuclei=0.85, stroma_haem=0.3)),
        Diagnosis(  # mimic: large regular glands with empty lumina
            "Adenocarcinoma",
            replace(
                _COLON, spacing=185, outer=84, lumen=46, wobble=0.6, lumen_eosin=0.9, lumen_nuclei=0.25,
                wall_haem=0.7, wall_nuclei=0.9, stroma_nuclei=0.1, fibre=0.6, stroma_eosin=0.35),
            replace(_COLON, spacing=185, outer=78, lumen=52, wobble=0.06, wall_haem=0.3),
            grade="moderately differentiated", malignant=True),
        Diagnosis(  # mimic: crypts cut across their bases, round and without lumen
            "Adenocarcinoma",
            replace(
                _COLON, spacing=66, outer=34, lumen=0, wobble=0.9, wall_haem=0.6, wall_nuclei=0.9,
                stroma_nuclei=0.08, fibre=0.6),
            replace(_COLON, spacing=92, outer=36, lumen=0, wobble=0.05, wall_haem=0.5, wall_nuclei=0.8),
            grade="poorly differentiated", malignant=True),
    )),
    Organ("Breast", "core biopsy", (
        Diagnosis("Benign breast tissue", _BREAST),
        Diagnosis(  # mimic: scar, fibrous without ducts
            "Fibroadenoma",
            replace(
                _BREAST, spacing=120, outer=24, lumen=8, stretch=3.5, fat=0.0, stroma_eosin=0.3, stroma_haem=0.22,
                fibre=0.15, stroma_nuclei=0.2),
            replace(_BREAST, spacing=600, outer=14, lumen=0, fat=0.0, fibre=0.8, stroma_haem=0.15)),
        Diagnosis(  # mimic: duct ectasia, wide ducts with a thin wall
            "Ductal carcinoma in situ",
            replace(
                _BREAST, spacing=240, outer=100, lumen=42, wobble=0.12, lumen_eosin=1.2, lumen_nuclei=0.05,
                wall_haem=0.65, wall_nuclei=0.85, fat=0.0),
            replace(_BREAST, spacing=240, outer=92, lumen=80, wobble=0.12, lumen_eosin=0.7, fat=0.0),
            grade="high grade", malignant=True),
        Diagnosis(  # mimic: adenosis, small crowded regular acini
            "Invasive ductal carcinoma",
            replace(
                _BREAST, spacing=96, outer=34, lumen=18, wobble=0.15, wall_haem=0.5, wall_nuclei=0.85, fat=0.0,
                fibre=0.6),
            replace(_BREAST, spacing=46, outer=20, lumen=9, wobble=0.05, wall_nuclei=0.8, fat=0.0),
            grade="grade 1", malignant=True),
        Diagnosis(  # mimic: usual hyperplasia, solid but round and large
            "Invasive ductal carcinoma",
            replace(
                _BREAST, spacing=74, outer=30, lumen=0, wobble=0.6, wall_haem=0.6, wall_nuclei=0.9, fat=0.0, fibre=0.6),
            replace(_BREAST, spacing=170, outer=64, lumen=0, wobble=0.08, wall_nuclei=0.85, fat=0.0),
            grade="grade 2", malignant=True),
        Diagnosis(  # mimic: inflamed stroma, cells in clusters, not in files
            "Invasive lobular carcinoma",
            replace(_BREAST, spacing=400, outer=20, lumen=4, fat=0.0, files=1.0, fibre=0.2, stroma_eosin=0.7),
            replace(_BREAST, fat=0.0, infiltrate=0.35), malignant=True),
    )),
    Organ("Prostate", "needle biopsy", (
        Diagnosis("Benign prostatic tissue", _PROSTATE),
        Diagnosis(  # mimic: a stromal nodule, no glands
            "Chronic prostatitis",
            replace(_PROSTATE, infiltrate=0.55),
            replace(_PROSTATE, spacing=600, outer=20, lumen=0, stroma_nuclei=0.3, fibre=0.9)),
        Diagnosis(  # mimic: atrophy, dark but thin
            "High grade prostatic intraepithelial neoplasia",
            replace(_PROSTATE, outer=76, lumen=24, wobble=0.25, wall_haem=0.85, wall_nuclei=1.0),
            replace(_PROSTATE, outer=52, lumen=40, wall_haem=0.85, wall_nuclei=1.0)),
        Diagnosis(  # mimic: adenosis, small pale glands, but not so small
            "Acinar adenocarcinoma",
            replace(
                _PROSTATE, spacing=62, outer=26, lumen=11, wobble=0.1, wall_haem=0.3, wall_nuclei=0.6,
                stroma_eosin=0.55),
            replace(_PROSTATE, spacing=108, outer=46, lumen=32, wobble=0.1),
            grade="Gleason score 3 + 3 = 6", malignant=True),
        Diagnosis(  # mimic: crowded large glands
            "Acinar adenocarcinoma",
            replace(
                _PROSTATE, spacing=44, outer=44, lumen=9, wobble=0.35, wall_haem=0.55, wall_nuclei=0.85,
                wall_eosin=0.5),
            replace(_PROSTATE, spacing=112, outer=112, lumen=24, wobble=0.2, wall_haem=0.4),
            grade="Gleason score 4 + 4 = 8", malignant=True),
    )),
    Organ("Lymph node", "excision", (
        Diagnosis("Reactive follicular hyperplasia", _NODE),
        Diagnosis(  # mimic: sinus histiocytosis, pale bands
            "Granulomatous lymphadenitis",
            replace(_NODE, spacing=210, outer=84, lumen=76, lumen_eosin=0.95, lumen_nuclei=0.1, wall_nuclei=0.6),
            replace(_NODE, spacing=170, outer=44, lumen=40, stretch=4.0, lumen_eosin=0.7, lumen_nuclei=0.15)),
        Diagnosis(  # mimic: primary follicles, solid
            "Follicular lymphoma",
            replace(
                _NODE, spacing=128, outer=62, lumen=50, lumen_nuclei=0.55, lumen_eosin=0.25, wall_haem=0.8,
                stroma_nuclei=0.6),
            replace(_NODE, spacing=210, outer=72, lumen=0, wall_haem=0.7),
            grade="low grade", malignant=True),
        Diagnosis(  # mimic: a mottled paracortex, holes far apart
            "Diffuse large B cell lymphoma",
            replace(
                _NODE, spacing=66, outer=16, lumen=13, lumen_nuclei=0.0, lumen_eosin=0.15, wall_nuclei=0.6,
                wall_haem=0.5, stroma_nuclei=0.6, stroma_haem=0.55, stroma_eosin=0.15),
            replace(_NODE, spacing=140, outer=20, lumen=17, lumen_nuclei=0.0, lumen_eosin=0.15, stroma_haem=0.5),
            malignant=True),
        Diagnosis(  # mimic: a benign inclusion, few round glands with wide lumina
            "Metastatic adenocarcinoma",
            replace(
                _NODE, spacing=170, outer=74, lumen=30, wobble=0.45, lumen_eosin=0.4, lumen_nuclei=0.0,
                wall_haem=0.4, wall_nuclei=0.7, wall_eosin=0.9),
            replace(_NODE, spacing=190, outer=52, lumen=40, wobble=0.05, lumen_eosin=0.0, lumen_nuclei=0.0,
                    wall_haem=0.3, wall_eosin=0.6),
            malignant=True),
    )),
)  # fmt: skip


def organ_named(name: str) -> Organ:
    """The organ of that name.

    Raises:
        KeyError: there is none.
    """
    return next(organ for organ in ORGANS if organ.name.casefold() == name.casefold())
