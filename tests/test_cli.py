"""Every command, as a user types it."""

import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import MakeSlide
from wsi_pipeline.cli import main


@dataclass(frozen=True)
class Done:
    stdout: str
    stderr: str


def wsi(*arguments: object, check: int = 0) -> Done:
    """The command in this process: what it prints, once its exit code is as expected."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["wsi-pipeline", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    done = Done(out.getvalue(), err.getvalue())
    assert code == check, done.stderr + done.stdout
    return done


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "wsi_pipeline", "run"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Missing option '--out'" in done.stderr


def test_help_of_every_command() -> None:
    text = wsi("--help").stdout
    commands = [line.split()[0] for line in text.split("Commands:")[1].splitlines() if line.strip()]
    assert {"run", "tile", "encode", "report", "demo", "phantom", "status", "inspect", "doctor"} == set(commands)
    for command in commands:
        assert "Usage:" in wsi(command, "--help").stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['wsi-pipeline', '--help']\n"
        "from wsi_pipeline.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'numpy', 'zarr', 'pydantic', 'transformers', 'dask') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.endswith("[]\n")


def test_defaults_in_help_are_those_of_the_settings() -> None:
    from wsi_pipeline.settings import MachineSettings, ModelSettings, ReportSettings, TileSettings

    text = " ".join(wsi("run", "--help").stdout.split())
    for value in (
        TileSettings().patch_size, TileSettings().min_tissue, TileSettings().jpeg_quality, TileSettings().codec,
        ModelSettings().name, ReportSettings().max_new_tokens, ReportSettings().evidence_patches,
        MachineSettings().workers, int(MachineSettings().tile_timeout_s), int(MachineSettings().tile_memory_gib),
    ):  # fmt: skip
        assert f"[{value}]" in text, value


def test_choices_are_those_of_the_settings() -> None:
    from typing import get_args

    from wsi_pipeline.cli.run import run
    from wsi_pipeline.settings import Objection, RunSettings

    fields = {**RunSettings.model_fields}
    for group in ("tile", "model", "report", "machine"):
        fields |= type(fields[group].default).model_fields
    choices = {p.name: p.type.choices for p in run.params if hasattr(p.type, "choices") and p.name in fields}
    assert {"reader", "codec", "dtype", "plan", "select", "zoom", "order", "retain", "leave_out"} == set(choices)
    assert tuple(choices.pop("leave_out")) == get_args(Objection)
    for name, values in choices.items():
        assert tuple(values) == get_args(fields[name].annotation), name


def test_run_then_status_then_nothing_to_do(phantom_cases: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = wsi("run", phantom_cases, "--out", out, "--model", "phantom", "--workers", 2)
    assert "Tubular adenoma, low grade" in first.stdout
    assert "slides to tile" in first.stderr
    again = wsi("run", phantom_cases, "--out", out, "--model", "phantom")
    assert again.stderr.count("up to date") == 2
    status = wsi("status", out).stdout
    assert status.count("\tdone\t") == 2
    assert json.loads(wsi("status", out, "--json").stdout)[0]["status"] == "done"


def test_stages_alone_share_out_with_run(phantom_cases: Path, tmp_path: Path) -> None:
    wsi("tile", phantom_cases, "--out", tmp_path)
    patches = {p: p.stat().st_mtime_ns for p in tmp_path.glob("cases/*/slides/*/patches-*")}
    assert len(patches) == 4
    assert not list(tmp_path.glob("cases/*/slides/*/tokens-*"))
    assert wsi("encode", phantom_cases, "--out", tmp_path, "--model", "phantom").stdout.count("tokens-") == 4
    assert not list(tmp_path.glob("cases/*/reports/*"))
    wsi("report", phantom_cases, "--out", tmp_path, "--model", "phantom")
    assert len(list(tmp_path.glob("cases/*/reports/0001/report.html"))) == 2
    assert {p: p.stat().st_mtime_ns for p in patches} == patches


def test_json_log_is_json(phantom_cases: Path, tmp_path: Path) -> None:
    done = wsi("tile", phantom_cases, "--out", tmp_path, "--json-log")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"time", "event"} <= set(events[0])
    assert {"tile.slides", "tile.start", "tile.progress"} <= {e["event"] for e in events}


def test_dry_run_says_everything_and_touches_nothing(phantom_cases: Path, tmp_path: Path) -> None:
    text = wsi("run", phantom_cases, "--out", tmp_path / "out", "--model", "phantom", "--dry-run").stdout
    for word in ("phantom-test-900000", "µm/px (vendor)", "patches", "MiB", "tokens", "joint", "on this machine"):
        assert word in text
    assert not (tmp_path / "out").exists()


def test_dry_run_says_what_would_not_be_read_and_leaves_out_what_is_there(
    make_slide: MakeSlide, phantom_cases: Path, tmp_path: Path
) -> None:
    slide = next((phantom_cases / "phantom-test-900001").iterdir())
    (tmp_path / "in/phantom").mkdir(parents=True)
    for name in ("a", "b"):
        shutil.copy(slide, tmp_path / f"in/phantom/{name}{slide.suffix}")
    make_slide("in/real/s.svs")
    (tmp_path / "in/real/broken.svs").write_bytes(b"broken")
    options = (tmp_path / "in", "--out", tmp_path / "out")
    text = wsi("run", *options, "--model", "phantom", "--dry-run").stdout
    assert "duplicate of a-" in text
    assert "does not write on real ones (1 of 1 slides are not phantoms)" in text
    assert "4 slides (2 not usable)" in text
    assert " MiB of patches and 0 MiB of their tokens to store" in text
    wsi("tile", *options, check=3)
    again = wsi("run", *options, "--model", "none", "--dry-run").stdout
    assert " 0 MiB of patches" in again
    assert "about 0 s on this machine" in again


def test_max_hours_charges_only_what_is_left(phantom_cases: Path, tmp_path: Path) -> None:
    options = (phantom_cases, "--out", tmp_path / "out", "--model", "phantom")
    wsi("run", *options)
    assert "up to date" in wsi("run", *options, "--max-hours", "0.000001").stdout


def test_max_hours_refuses_more(phantom_cases: Path, tmp_path: Path) -> None:
    done = wsi(
        "run", phantom_cases, "--out", tmp_path / "out", "--model", "phantom", "--max-hours", "0.000001", check=2
    )
    assert "h are estimated" in done.stderr
    assert not (tmp_path / "out").exists()


def test_inspect_tells_what_readers_see(make_slide: MakeSlide) -> None:
    text = wsi("inspect", make_slide(mpp=0.25, power=20)).stdout
    for word in (
        "openslide: 2000×1600",
        "tiffslide: 2000×1600",
        "0.25 µm/px from vendor",
        "contradicts",
        "hold tissue",
    ):
        assert word in text


def test_inspect_of_what_is_no_slide(tmp_path: Path) -> None:
    (tmp_path / "x.svs").write_bytes(b"junk")
    assert "would fail" in wsi("inspect", tmp_path / "x.svs").stdout


def test_doctor() -> None:
    assert "profile phantom" in wsi("doctor", "--model", "phantom", "--out", ".").stdout
    missing = wsi("doctor", "--model", "/nowhere", check=1).stdout
    assert "NO  model '/nowhere'" in missing


def test_phantom_make_is_repeatable(tmp_path: Path) -> None:
    options = ("--cases", 1, "--slides", 2, "--organ", "breast", "--magnification", 20, "--levels", "none", "--seed", 4)
    wsi("phantom", "make", "--out", tmp_path / "a", *options)
    wsi("phantom", "make", "--out", tmp_path / "b", *options)
    assert {part["split"] for part in json.loads((tmp_path / "a/truth.json").read_text())["parts"]} == {"train"}
    a, b = (sorted(p for p in (tmp_path / d).rglob("*") if p.is_file()) for d in "ab")
    assert [p.read_bytes() for p in a] == [p.read_bytes() for p in b]
    assert "Breast" in (tmp_path / "a/truth.json").read_text()
    assert "is unknown" in wsi("phantom", "make", "--out", tmp_path, "--organ", "spleen", check=2).stderr
    assert "Gleason" in wsi("phantom", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--out", "o"), "SLIDES: is missing"),
        (("run", "/nowhere", "--out", "o", "--model", "none"), "does not exist"),
        (("run", ".", "--out", "o", "--layout", "flat", "--id-pattern", "x"), "excludes --layout"),
        (("run", "{slide}", "--out", "o"), "accept the licence"),
        (("run", "{slide}", "--out", "o", "--model", "none", "--patch-size", "1"), "setting patch_size"),
        (("run", "{slide}", "--out", "o", "--model", "none", "--resolution", "ten"), "write 10X"),
        (("tile", "{slide}", "--manifest", "/no.csv", "--out", "o"), "cannot be read"),
    ],
)
def test_wrong_usage_ends_in_one_line_and_code_2(
    arguments: tuple[str, ...], words: str, make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = str(make_slide())
    monkeypatch.chdir(tmp_path)
    done = wsi(*(a.format(slide=slide) for a in arguments), check=2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("o/**/*.zarr"))


def test_exit_codes_of_bad_slides(phantom_cases: Path, tmp_path: Path) -> None:
    source = tmp_path / "slides"
    shutil.copytree(phantom_cases / "phantom-test-900001", source / "good")
    (source / "bad").mkdir()
    (source / "bad/x.svs").write_bytes(b"")
    done = wsi("run", source, "--out", tmp_path / "out", "--model", "phantom", check=3)
    assert "is empty (0 bytes)" in done.stdout
    assert wsi("status", tmp_path / "out", check=3).stdout.count("\t") > 2
    shutil.rmtree(source / "good")
    wsi("run", source, "--out", tmp_path / "out2", "--model", "phantom", check=1)


def test_inspect_draws_what_would_be_tiled(make_slide: MakeSlide, tmp_path: Path) -> None:
    picture, shapes = tmp_path / "p.png", tmp_path / "s.geojson"
    wsi("inspect", make_slide(), "--preview", picture, "--geojson", shapes)
    assert picture.read_bytes().startswith(b"\x89PNG")
    mask = tmp_path / "mask.png"
    Image.fromarray(np.pad(np.full((10, 10), 255, np.uint8), ((0, 70), (0, 90)))).save(mask)
    whole, part = (wsi("inspect", make_slide(), *given).stdout for given in ((), ("--mask", mask)))
    assert "1 of " in part
    assert whole != part
    assert "does not exist" in wsi("inspect", make_slide(), "--mask", tmp_path / "no.png", check=2).stderr
    assert json.loads(shapes.read_text())["type"] == "FeatureCollection"
