"""The documents agree with the program: examples run, links lead somewhere, tables are current."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from wsi_pipeline.cli import cli
from wsi_pipeline.models.checkpoint import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("wsi_pipeline/models/*/README.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def test_the_python_example_of_the_readme_runs_as_a_script(phantom_cases: Path, tmp_path: Path) -> None:
    (example,) = blocks(ROOT / "README.md", "python")
    shutil.copytree(phantom_cases, tmp_path / "slides")
    (tmp_path / "example.py").write_text(example)
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "(768, 768, 3)" in done.stdout
    assert "Tubular adenoma, low grade" in done.stdout


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in blocks(page, "console"):
            found += [(page.name, line[2:]) for line in block.splitlines() if line.startswith("$ wsi-pipeline")]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_in_the_documents_exist_with_their_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    given = {word.split("=")[0] for word in words if word.startswith("--")}
    assert given <= known, (page, line)
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    assert len(arguments) >= len([w for w in words[:1] if not w.startswith("-")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_settings_page_is_current() -> None:
    page = runpy.run_path(str(ROOT / "docs/settings.py"))["page"]
    assert (ROOT / "docs/settings.md").read_text() == page(), "run `make docs`"


def test_the_readme_quotes_the_benchmarks() -> None:
    readme = (ROOT / "README.md").read_text()
    printed = (ROOT / "benchmarks/results/phantom.txt").read_text()
    rows = re.findall(r"^\| ([a-z0-9 ]+) \| ([0-9-]+) \| (\d+) \| (\d\.\d+) \|", readme, re.MULTILINE)
    assert len(rows) >= 6
    for reader, slides, n, exact in rows:
        assert re.search(rf"{reader} +{slides} +{n} +{exact} ", printed), reader
    assert "@@" not in readme


def test_the_needles_figure_and_table_are_what_the_benchmark_printed() -> None:
    drawn = runpy.run_path(str(ROOT / "docs/needle_figure.py"))
    printed = (ROOT / "benchmarks/results/needle.txt").read_text()
    assert (ROOT / "docs/needle.svg").read_text() == drawn["figure"](printed), "run `make docs`"
    printed = printed.split("measured before")[0]
    page = (ROOT / "docs/long-context.md").read_text().split("### Searched")[1].split("###")[0]
    told = re.findall(
        r"^\| ([\d,]+) \| (none|\d+) \| (.+?) \| (\d+) \| (\d\.\d+) .*?\| (\d\.\d+) \|", page, re.MULTILINE
    )
    assert len(told) >= 6
    for patches, lesion, reader, cases, diseased, exact in told:
        row = rf"^ +{patches} +[\d,]+ +{lesion}  {re.escape(reader)} +{cases} +{diseased} .* {exact} +\d"
        assert re.search(row, printed, re.MULTILINE), (patches, lesion, reader)


@pytest.mark.parametrize("name", SHIPPED)
def test_cards_are_current(name: str) -> None:
    page = runpy.run_path(str(ROOT / "docs/card.py"))["page"]
    assert (SHIPPED[name] / "README.md").read_text() == page(name), "run `make docs`"


def test_nothing_names_a_path_of_the_machine_it_was_made_on() -> None:
    for path in [*ROOT.glob("*.*"), *ROOT.glob("*/**/*")]:
        if path.suffix in {".py", ".md", ".txt", ".toml", ".jinja", ".json", ".css"} and ".venv" not in path.parts:
            assert not re.search(r"/(work|root|home)/\w", path.read_text(errors="ignore")), path


def test_thresholds_of_quality_are_those_of_the_code() -> None:
    from tilers.quality import COLUMNS
    from wsi_pipeline.store.verdicts import BLURRED_BELOW, BLURRED_BESIDE, DARK_ABOVE, PEN_ABOVE

    text = (ROOT / "docs" / "store.md").read_text()
    blurred = f"blurred below {BLURRED_BELOW:g}, or below {BLURRED_BESIDE:g} of"
    for words in (blurred, f"nuclei) above {DARK_ABOVE:g}", f"black pigment) above {PEN_ABOVE:g}"):
        assert words in text
    assert [line.split("`")[1] for line in text.split("### Quality")[1].splitlines() if "| `" in line[:3]] == [*COLUMNS]
