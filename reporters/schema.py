"""The report as data: what `report.json` holds and every rendering shows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from reporters.plan import PartPlan

SCHEMA = 6

ALGORITHM = 11
"""Raised whenever the same tokens and settings would give another report."""

NOTICE = (
    "Preliminary machine draft for review by a pathologist. Not a diagnosis, not a medical device. "
    "Every statement must be checked on the glass before use."
)


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Evidence(_Data):
    """A patch tied to a sentence. `x`, `y`, `edge` are level-0 pixels of `slide`."""

    slide: str
    patch: int
    x: int
    y: int
    edge: float
    weight: float
    """Share of the attention on the patches of its slide (`Slide n:` lines) or window."""


class Sentence(_Data):
    """A sentence of the draft and what it rests on."""

    text: str
    method: Literal["attention", "inherited", "none"]
    """`attention`: patches the words looked at; `inherited`: of the findings it cites; `none`."""
    evidence: tuple[Evidence, ...] = ()
    cites: tuple[str, ...] = ()
    """Ids of findings."""
    seen_on: tuple[str, ...] = ()
    """Slides that the checkpoint says show it; none for what holds of all."""
    withheld: bool = False
    """A negative statement about a part that was not read whole; its text is replaced."""


class Finding(_Data):
    """What one window, or one slide's line, says."""

    id: str
    slides: tuple[str, ...]
    patches: int
    sentences: tuple[Sentence, ...]
    cited: bool = True
    truncated: bool = False


class Completeness(_Data):
    """What of a part was read."""

    slides: int
    slides_read: int
    patches_found: int
    patches_read: int
    patches_unreadable: int
    complete: bool
    negatives_kept: bool = False
    """Negative statements stay in spite of gaps, as `--allow-incomplete` asked."""
    gaps: tuple[str, ...] = ()
    """One line per thing that was not looked at."""
    addendum: str | None = None
    """That an addendum has to follow and for what, when the part is not complete."""


class Confidence(_Data):
    """What a calibration makes of the signs of an answer."""

    chance: float
    """That diagnoses, grades and specimen are all right and none is missing."""
    threshold: float
    """Of abstention."""
    abstained: bool
    domain: str
    """The calibration was made on so many `parts` of this domain."""
    parts: int


class PartReport(_Data):
    """The draft for one part."""

    name: str | None
    title: str
    tissue: str | None
    procedure: str | None
    context: str | None
    specimen: str | None
    """Organ and procedure as the checkpoint wrote them."""
    diagnosis: tuple[Sentence, ...]
    no_diagnosis: str | None
    """Why there is none."""
    leaning: tuple[Sentence, ...] = ()
    """What an abstaining checkpoint would have said."""
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...] = ()
    """Where the draft contradicts itself, or rests on nothing."""
    confidence: Confidence | None
    """None: not calibrated for this model, plan and domain."""
    logprob: float | None
    """Logarithm of the probability of what is found, word by word: one of the signs of a calibration, no confidence."""
    agreement: float | None = None
    """Share of answers drawn at random that conclude the same; None where none were drawn, or for free text."""
    backing: float | None = None
    """How well the least borne out of the lines about slides is borne out by the slide's patches one by one, in the
    scores of the checkpoint's second reader; None where it has none."""
    completeness: Completeness
    plan: PartPlan | None
    unparsed: tuple[str, ...] = ()
    """What the checkpoint wrote that fits no field, verbatim."""

    @property
    def answer(self) -> tuple[Sentence, ...]:
        """The diagnosis, or what an abstaining checkpoint leaned to."""
        return self.diagnosis or self.leaning

    @property
    def seen_on(self) -> tuple[str, ...]:
        """Slides that the checkpoint says show any of the answer."""
        return tuple(dict.fromkeys(slide for sentence in self.answer for slide in sentence.seen_on))


class SlideReport(_Data):
    """Facts about one slide that need no model."""

    id: str
    part: str | None
    stain: str
    status: str
    reason: str | None
    patches: int = 0
    patches_unreadable: int = 0
    patches_disagreeing: int = 0
    """Of the unreadable ones, those that decode and show something else than the overview."""
    tissue_mm2: float | None = None
    mpp: float | None = None
    """µm per pixel of the slide's finest level."""
    mpp_source: str | None = None
    patch_mpp: float | None = None
    """µm per pixel of its patches: what was asked for, or near it where pixels need no resampling."""
    reader: str | None = None
    warnings: tuple[str, ...] = ()
    quality: tuple[str, ...] = ()
    """Remarks, such as `12 % of patches blurred`."""


class Provenance(_Data):
    """What the draft came from. Together with the slides it determines the content."""

    software: str
    model: str
    model_revision: str | None
    profile: str | None
    encoder_dtype: str | None
    writer_dtype: str | None
    prompts: dict[str, str] = {}
    """SHA-256 of each part's instruction."""
    settings: dict[str, Any]
    fingerprint: str
    stores: dict[str, str]
    """Patch and token stores by slide."""


class Run(_Data):
    """When and where; the only block that differs between two runs of the same work."""

    finished: str
    seconds: float
    host: str
    device: str


class Report(_Data):
    """A case-level draft report."""

    schema_version: int = SCHEMA
    status: Literal["preliminary"] = "preliminary"
    notice: str = NOTICE
    case: str
    phantom: bool
    """All slides are synthetic."""
    parts: tuple[PartReport, ...]
    slides: tuple[SlideReport, ...]
    provenance: Provenance
    run: Run
