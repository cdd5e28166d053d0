"""Draw the pictures of docs/phantom.md: every diagnosis beside its mimic, and slides beside their truth."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from workflows.phantom.drawing.cohort import draw_case
from workflows.phantom.drawing.layout import SlideSpec, lay_out
from workflows.phantom.drawing.painting import paint
from workflows.phantom.drawing.scanner import draw_scanner, scan
from workflows.phantom.drawing.slide import render
from workflows.phantom.drawing.tissue import FIELD_MPP, draw, match_light
from workflows.phantom.pathology import ORGANS, Motif, Organ

HERE = Path(__file__).parent
_PATCH_UM = 768
_EDGE = 200
_INK = (27, 31, 36)


def atlas() -> Image.Image:
    """Per organ its normal tissue and lesions, a patch each at 10X; below every lesion its benign mimic."""
    columns = max(len(organ.diagnoses) for organ in ORGANS)
    step, text = _EDGE + 8, 30
    row = 2 * _EDGE + text + 18
    sheet = Image.new("RGB", (columns * step, len(ORGANS) * row), "white")
    pen = ImageDraw.Draw(sheet)
    for y, organ in enumerate(ORGANS):
        for x, diagnosis in enumerate(organ.diagnoses):
            pen.multiline_text((x * step, y * row), textwrap.fill(diagnosis.text, 32), _INK, _font(11), spacing=1)
            sheet.paste(_swatch(organ, diagnosis.motif, 10 * y + x), (x * step, y * row + text))
            if diagnosis.mimic:
                mimic = _swatch(organ, diagnosis.mimic, 100 + 10 * y + x)
                sheet.paste(mimic, (x * step, y * row + text + _EDGE + 4))
    return sheet


def truths() -> Image.Image:
    """Slides beside their truth: tissue grey, lesion red, distractors amber."""
    drawn = [
        draw_case(seed, "demo", slides=1, organ=organ, diagnosis=diagnosis, mpp=1.0, width_mm=3.6, height_mm=2.8)
        for seed, organ, diagnosis in (
            (3, "Colon", "Adenocarcinoma, moderately differentiated"),
            (5, "Breast", "Invasive ductal carcinoma, grade 2"),
            (7, "Lymph node", "Follicular lymphoma, low grade"),
        )
    ]
    width, height = 600, 470
    sheet = Image.new("RGB", (2 * width + 12, len(drawn) * (height + 24)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, case in enumerate(drawn):
        (part,) = case.parts
        spec = part.slides[0]
        layout = lay_out(spec)
        top = row * (height + 24)
        pen.text((0, top + 3), f"{part.organ}: {part.findings[0]}", _INK, _font(14))
        sheet.paste(Image.fromarray(render(spec, layout)).resize((width, height), Image.Resampling.BOX), (0, top + 24))
        sheet.paste(Image.fromarray(_truth(spec)).resize((width, height)), (width + 12, top + 24))
    return sheet


def _truth(spec: SlideSpec) -> NDArray[np.uint8]:
    layout = lay_out(spec)
    picture = np.full((*layout.tissue.shape, 3), 250, np.uint8)
    picture[layout.tissue] = (205, 209, 214)
    picture[paint(spec, layout).content > 0] = (226, 176, 74)
    picture[layout.lesion > 0] = (179, 38, 30)
    return picture


def _swatch(organ: Organ, motif: Motif, seed: int) -> Image.Image:
    """One patch full of a motif, in the light of the normal tissue it replaces, sharp and evenly stained."""
    rng = np.random.default_rng(seed)
    side = round(_PATCH_UM / FIELD_MPP)
    stains = draw(rng, motif, (side, side))
    if motif != organ.benign.motif:
        stains = match_light(stains, draw(rng, organ.benign.motif, (side, side)))
    scanner = replace(draw_scanner(np.random.default_rng(4)), blur_um=0.0, drift=0.0, gamma=1.0)
    pixels = scan(rng, scanner, stains, None, np.zeros((side, side), bool), 1.0)
    return Image.fromarray(pixels).resize((_EDGE, _EDGE), Image.Resampling.BOX)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


if __name__ == "__main__":
    atlas().save(HERE / "phantom.jpg", quality=82)
    truths().save(HERE / "phantom-truth.jpg", quality=80)
