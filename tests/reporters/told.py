"""A writer that writes what it is told, and drafts by it."""

from types import SimpleNamespace

import numpy as np

from reporters.draft import draft_part
from reporters.plan import PartPlan, SlideShare, Window
from reporters.profiles import Profile
from reporters.sequence import Grammar
from reporters.writer import Draft
from tests.reporters.letters import Letters
from wsi_pipeline.cases import Part
from wsi_pipeline.settings import ReportSettings

PROFILE = Profile(
    name="told", native_tokens=16, trained_tokens=(1,), context=400, strategy="joint", patch_size=768, mpps=(1.0,),
    opening="<", slide_marker="S{n}:", prompt="Report.\nTissue: {tissue}\nContext: {context}", closing=">", end=".",
    answer="lines", merge_prompt="{findings}\nTissue: {tissue}\nMerge.",
)  # fmt: skip


class Told:
    """Writes its answers one after the other, looking at all patches with weights that are given or nearly alike."""

    looks: tuple[float, ...] = ()
    doubted: tuple[str, ...] = ()
    """Of these answers only every second sample says the same."""

    def __init__(self, *answers: str, answer: str = "lines", merge: str | None = PROFILE.merge_prompt) -> None:
        self.profile = PROFILE.model_copy(update={"answer": answer, "merge_prompt": merge})
        self.grammar = Grammar(Letters(), self.profile, 901, 902, 903)
        self.answers, self.asked = list(answers), []

    def write(self, sequence, tokens, longest, samples, seed):  # type: ignore[no-untyped-def]
        text = self.answers.pop(0)
        self.asked.append("".join(chr(i) for i in sequence.ids if i < 900))
        patches = len(sequence.grids)
        weights = np.array(self.looks or np.linspace(0.1, 0.2, patches), np.float32)
        attention = np.tile(weights, (len(text), 1)) if patches else None
        drawn = tuple("" if text in self.doubted and n % 2 else text for n in range(samples))
        ids, ends = np.zeros(len(text), np.int64), np.arange(1, len(text) + 1)
        return Draft(text, ids, ends, np.full(len(text), -0.5 / max(1, len(text))), attention, False, drawn)


def stored(names):  # type: ignore[no-untyped-def]
    """Patch and token stores of three patches each."""
    facts = {n: SimpleNamespace(slide_id=n, patch_level0=768.0, mpp=1.0) for n in names}
    patches = {n: SimpleNamespace(facts=facts[n], coords=np.array([[0, 0], [768, 0], [0, 768]])) for n in names}
    tokens = {n: SimpleNamespace(read=lambda a, b, t: np.zeros((b - a, t, 4), np.float32)) for n in names}
    return patches, tokens


def drafted(  # type: ignore[no-untyped-def]
    writer: Told, slides: int = 2, windows: bool = False, part: Part | None = None, groups: int = 1, samples: int = 0
):  # type: ignore[no-untyped-def]
    names = [f"s{i}" for i in range(slides)]
    shares = [SlideShare(slide=n, patches=(0, 1, 2)) for n in names]
    size = 1 if windows else slides // groups
    parted = [shares[i : i + size] for i in range(0, slides, size)]
    plan = PartPlan(
        strategy="windows" if windows else "joint" if groups == 1 else "groups", tokens_per_patch=1,
        patches_found=3 * slides, patches_read=3 * slides,
        windows=tuple(Window(slides=tuple(g), tokens=9) for g in parted),
    )  # fmt: skip
    rules = ReportSettings(max_new_tokens=50, samples=samples)
    return draft_part(part or Part(None, ()), plan, writer, *stored(names), rules)  # type: ignore[arg-type]
