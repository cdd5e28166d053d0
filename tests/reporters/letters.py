"""A small profile whose tokens can be counted by eye, and plans by it."""

from reporters.plan import PartPlan
from reporters.planning import make_plan
from reporters.profiles import Profile
from reporters.sequence import Grammar
from wsi_pipeline.settings import ReportSettings

BOI, SOFT, EOI = 901, 902, 903


class Letters:
    """A tokenizer of one token per character."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        assert not add_special_tokens
        return [ord(c) for c in text]


PROFILE = Profile(
    name="letters", native_tokens=16, trained_tokens=(1, 4, 16), context=400, strategy="joint", patch_size=768,
    mpps=(1.0,), opening="<", slide_marker="S{n}:", marker_every={1: 4, 4: 2}, prompt="?", closing=">", end=".",
    max_slides=9,
)  # fmt: skip
GRAMMAR = Grammar(Letters(), PROFILE, BOI, SOFT, EOI)
MERGING = PROFILE.model_copy(update={"merge_prompt": "{findings}"})


def plan(counts: list[int], profile: Profile = PROFILE, **given: object) -> PartPlan:
    """Of slides of so many patches each, by given report settings."""
    patches = {f"s{i}": n for i, n in enumerate(counts)}
    grammar = Grammar(Letters(), profile, BOI, SOFT, EOI)
    return make_plan(patches, profile, grammar, "?", ReportSettings(max_new_tokens=50, **given), 768, 1.0)
