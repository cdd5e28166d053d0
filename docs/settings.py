"""Print docs/settings.md from the settings themselves: `make docs`."""

from typing import get_args

from pydantic import BaseModel

from wsi_pipeline.settings import MachineSettings, ModelSettings, ReportSettings, RunSettings, TileSettings

_OPTIONS = {
    "mpp": "--resolution",
    "default_mpp": "--mpp",
    "name": "--model",
    "tile_timeout_s": "--tile-timeout",
    "tile_memory_gib": "--tile-memory",
}
_HEAD = """\
# Settings

Defaults of the command line and of the Python API, where they are keyword arguments: `wp.run(..., workers=4)`.
Unknown names are refused. The resolved settings are stored with each report. Changing one makes again exactly what
depends on it. What says which slides are read and how a run waits or stops (`--layout`, `--id-pattern`, `--manifest`,
`--wait`, `--dry-run`, `--max-hours`, `--json-log`) is told by `wsi-pipeline run --help`.
"""


def table(title: str, kind: type[BaseModel], fields: list[str] | None = None) -> str:
    """One group as a Markdown table."""
    rows = [f"\n## {title}\n", "| option | Python | default | one of | meaning |", "|---|---|---|---|---|"]
    for name, field in kind.model_fields.items():
        if fields is not None and name not in fields:
            continue
        option = _OPTIONS.get(name, "--" + name.replace("_", "-"))
        keyword = "model" if name == "name" else name
        meaning = " ".join((field.description or "").split())
        values = ", ".join(f"`{value}`" for value in get_args(field.annotation) if isinstance(value, str))
        rows.append(f"| `{option}` | `{keyword}` | `{field.default}` | {values} | {meaning} |")
    return "\n".join(rows)


def page() -> str:
    """The whole page."""
    groups = [
        table("Tiling: a change makes patches, tokens and report again", TileSettings),
        table("Model: a change makes the report again, and tokens where it asks for others", ModelSettings),
        table("Report: a change makes the report again, and tokens where its plan needs others", ReportSettings),
        table("Machine: a change makes nothing again", MachineSettings),
        table("Run", RunSettings, ["native_patches", "retain"]),
    ]
    return _HEAD + "\n".join(groups) + "\n"


if __name__ == "__main__":
    print(page(), end="")
