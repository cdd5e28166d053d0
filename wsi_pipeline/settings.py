"""Every setting, with its default and meaning; unknown keys are refused.

`TileSettings`, `ModelSettings` and `ReportSettings` can change the content of an artefact and enter the
fingerprints of what depends on them. `MachineSettings` decides only where and how fast work runs and enters none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from wsi_pipeline.errors import UsageError

DEFAULT_MODEL = "google/medgemma-1.5-4b-it"

MICRONS_AT_10X = 1.0
"""µm per pixel that "10X" means here: 10 / magnification, the convention of 0.25 µm/px at 40X."""


class Settings(BaseModel):
    """Base of all settings: immutable, strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Objection = Literal["blurred", "dark", "pen"]
"""What is wrong with a patch; `docs/store.md` says from where on."""


class TileSettings(Settings):
    """Slides to patches."""

    patch_size: Annotated[int, Field(ge=32, le=4096)] = 768
    """Edge of a patch in pixels at the target resolution."""
    mpp: Annotated[float, Field(gt=0.05, le=20)] = MICRONS_AT_10X
    """Target resolution, µm per pixel."""
    mpp_tolerance: Annotated[float, Field(ge=0, le=0.05)] = 0.02
    """How far from it patches may be, as a share, where pixels then need no resampling: those of a stored level, or
    means of 2, 4 or 8 along an edge. With 0 all patches have exactly the target's."""
    reader: Literal["auto", "direct", "openslide", "tiffslide", "picture"] = "auto"
    """Who decodes the slide. An explicit choice never falls back."""
    default_mpp: Annotated[float, Field(gt=0)] | None = None
    """µm per pixel of level 0 for slides that state none."""
    force_mpp: Annotated[float, Field(gt=0)] | None = None
    """µm per pixel of level 0 for every slide, whatever it states."""
    allow_upsampling: bool = False
    """Tile slides that are more than 5 % coarser than the target."""
    min_tissue: Annotated[float, Field(ge=0, le=1)] = 0.05
    """A patch is kept from this fraction of tissue on."""
    codec: Literal["jpeg", "zstd"] = "jpeg"
    """How patches are stored: JPEG 4:4:4, or lossless."""
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 90
    """Of stored patches, with codec `jpeg`."""

    @field_validator("mpp", mode="before")
    @classmethod
    def _parse_magnification(cls, value: object) -> object:
        return parse_resolution(value) if isinstance(value, str) else value


class ModelSettings(Settings):
    """The checkpoint: its vision tower encodes patches, its language model writes."""

    name: str = DEFAULT_MODEL
    """A folder, a hub id, `phantom`, `phantom-long`, or `none` for measurements only."""
    revision: str | None = None
    """Hub revision; the resolved commit is recorded."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic; auto is bfloat16 on a GPU and float32 on a CPU."""
    context_tokens: Annotated[int, Field(ge=256)] | None = None
    """Longest sequence, answer included; default what the checkpoint was trained on. Beyond its positions those of its
    global layers are stretched (linear RoPE scaling); the report says so."""


class ReportSettings(Settings):
    """Tokens to report."""

    plan: Literal["auto", "windows", "joint", "groups", "mixed", "search"] = "auto"
    """How patches are shared out over contexts; auto follows the checkpoint's profile."""
    tokens_per_patch: Annotated[int, Field(ge=1)] | None = None
    """One of those the checkpoint was trained with; default the largest that fits. Refused with a mixed plan."""
    fine_patches: Annotated[int, Field(ge=1)] = 64
    """How many patches a mixed plan reads at the largest number of tokens, where all others get the smallest; of a
    search, how many stand out."""
    zoom: Literal["evidence", "novelty"] = "evidence"
    """Which patches a mixed plan reads finely: `evidence`, those that a first reading of all looked at most; `novelty`,
    those that lie far apart in tokens."""
    leave_out: tuple[Objection, ...] = ()
    """Patches of poor quality that are not read: `blurred`, `dark`, `pen`; default none, they are only counted."""
    max_patches: Annotated[int, Field(ge=1)] | None = None
    """Read only this many patches per part; default every patch."""
    select: Literal["random", "farthest"] = "random"
    """How `max_patches` are chosen: a seeded sample, or those far apart in tokens; slides get a share by their size."""
    order: Literal["spatial", "random"] = "spatial"
    """Of a slide's patches in a sequence: row by row (`spatial`), or shuffled by the seed."""
    slide_markers: bool = True
    """Whether a sequence tells its slides apart, as the checkpoint was trained."""
    coordinates: bool = False
    """Whether the place of each patch, in mm from the corner of its slide, is written before it."""
    max_new_tokens: Annotated[int, Field(ge=1, le=8192)] = 512
    """Longest text of one generation."""
    samples: Annotated[int, Field(ge=0, le=64)] | None = None
    """Answers drawn at random beside each one written; how many conclude the same goes into confidence. Default as many
    as a calibration that holds for the answer was made with, else none; never of free text."""
    seed: int = 0
    """Of all random choices."""
    evidence_patches: Annotated[int, Field(ge=0, le=64)] = 4
    """Patches shown per sentence."""
    allow_incomplete: bool = False
    """Keep negative statements for parts with unread slides."""
    domain: str | None = None
    """Where the slides come from, as a calibration of the checkpoint calls it; phantoms are known by themselves."""


class MachineSettings(Settings):
    """Where and how fast; never what."""

    workers: Annotated[int, Field(ge=1)] = 1
    """Slides of one case tiled at the same time; each gets its share of the cores, so leave it at 1 for cases of one
    slide."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Patches per encoder batch; default 16 on a CPU and 32 on a GPU, halved when memory runs out."""
    tile_timeout_s: Annotated[float, Field(gt=0)] = 4 * 3600
    """A slide that takes longer to tile has failed."""
    tile_memory_gib: Annotated[float, Field(gt=0)] = 4.0
    """A slide whose tiling takes more memory has failed; counts per worker."""
    dask_scheduler: str | None = None
    """Address of a dask scheduler whose workers tile (they must see the same files)."""


class RunSettings(Settings):
    """All settings of one run."""

    tile: TileSettings = TileSettings()
    model: ModelSettings = ModelSettings()
    report: ReportSettings = ReportSettings()
    machine: MachineSettings = MachineSettings()
    native_patches: bool = False
    """Patches of the size the checkpoint was trained on, whatever `patch_size` says."""
    retain: Literal["reports", "tokens", "all"] = "all"
    """What stays in OUT once a report is published."""


def gather(given: Mapping[str, Any]) -> RunSettings:
    """Settings from one flat mapping, such as a command's options: `{"model": "phantom", "workers": 2}`.

    Raises:
        UsageError: a name that no setting has.
        pydantic.ValidationError: a value out of range.
    """
    rest = dict(given)
    groups: dict[str, Any] = {key: rest.pop(key) for key in ("retain", "native_patches") if key in rest}
    if "model" in rest:
        rest["name"] = rest.pop("model")
    for group, field in RunSettings.model_fields.items():
        if isinstance(field.default, Settings):
            kind = type(field.default)
            groups[group] = kind.model_validate({k: rest.pop(k) for k in list(rest) if k in kind.model_fields})
    if rest:
        raise UsageError(f"setting {sorted(rest)[0]!r}", "is unknown", "see docs/settings.md for all names")
    return RunSettings.model_validate(groups)


def parse_resolution(text: str) -> float:
    """Parse `10X`, `1.0`, `1.0mpp` or `1um` to µm per pixel.

    Raises:
        ValueError: the text is none of these.
    """
    cleaned = text.strip().lower().replace("µm", "").replace("um", "").replace("mpp", "").strip()
    try:
        if cleaned.endswith("x"):
            return 10 * MICRONS_AT_10X / float(cleaned[:-1])
        return float(cleaned)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{text!r} is no resolution: write 10X, or µm per pixel as in 1.0") from None
