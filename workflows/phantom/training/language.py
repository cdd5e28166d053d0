"""How one speaks to the phantom checkpoint, and every word it knows."""

from __future__ import annotations

from collections.abc import Iterator

from reporters.profiles import Profile
from workflows.phantom.drawing.cohort import MAX_SLIDES
from workflows.phantom.pathology import ORGANS
from workflows.phantom.training.lessons import GRIDS
from workflows.phantom.training.recipe import CONTEXT
from workflows.phantom.wording import PartFinding, merged_report, write_report

PROFILE = Profile(
    name="phantom",
    native_tokens=16,
    trained_tokens=GRIDS,
    mixes=True,
    context=CONTEXT,
    strategy="joint",
    patch_size=768,
    mpps=(1.0,),
    opening="<bos><start_of_turn>user\n",
    slide_marker="Slide {n}:",
    marker_every={1: 8, 4: 6},
    prompt="\nReport this part.",
    merge_prompt="{findings}\nMerge.",
    closing="<end_of_turn>\n<start_of_turn>model\n",
    end="<end_of_turn>",
    max_slides=MAX_SLIDES,
    answer="lines",
    domain="phantom",
)


def all_texts() -> Iterator[str]:
    """Every word a report, a marker or a prompt can hold."""
    yield PROFILE.opening.replace("<", "\n").replace(">", "\n") + PROFILE.prompt + "user\nmodel\n"
    yield str(PROFILE.merge_prompt).format(findings="F1: F2: ; [F1, F2]")
    yield from (f"Slide {n}:, {n} F{n} slides {n}" for n in range(1, 51))
    for organ in ORGANS:
        yield write_report(organ, 2, ())
        for lesion in organ.lesions:
            for findings in ([PartFinding(lesion, (1,), "focal")], [PartFinding(lesion, (1, 2), "extensive")]):
                yield write_report(organ, 3, findings)
                yield merged_report(organ, 3, tuple(findings))
