"""What a checkpoint is asked, with what is known of a part."""

from __future__ import annotations

from reporters.profiles import Profile
from wsi_pipeline.cases import Part


def instruction_for(profile: Profile, part: Part) -> str:
    """The profile's prompt with what is known of the part; lines about what is not known are left out."""
    return _fill(profile.prompt, part)


def merge_instruction(profile: Profile, part: Part, findings: str) -> str:
    """The profile's instruction for merging, with the listed findings; the profile must have one."""
    assert profile.merge_prompt
    return _fill(profile.merge_prompt, part, findings)


def _fill(template: str, part: Part, findings: str = "") -> str:
    known = {"tissue": part.tissue, "procedure": part.procedure, "context": part.context}
    lines = []
    for line in template.split("\n"):
        used = [name for name in known if f"{{{name}}}" in line]
        if all(known[name] for name in used):
            lines.append(line.format(**known, findings=findings))
    return "\n".join(lines)
