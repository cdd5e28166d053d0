"""Benchmarks of tiling run from their command line, on sizes that say nothing."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.benchmarks import run_benchmark
from workflows.phantom.drawing.cohort import draw_case
from workflows.phantom.drawing.contents import artefact
from workflows.phantom.drawing.pool import build_pool
from wsi_pipeline.store.patches import PatchStore


def test_fuzzing_counts_every_input() -> None:
    told = run_benchmark("fuzz_direct.py", "--inputs", "24")
    assert "24 damaged inputs of 8 slides" in told
    counts = [int(line.split()[0]) for line in told.splitlines()[2:]]
    assert sum(counts) == 24
    assert len(counts) > 1
    assert "ESCAPED" not in told
    assert "CRASHED" not in told


def test_fuzzed_tiling_stores_no_garbage() -> None:
    told = run_benchmark("fuzz_tiling.py", "--inputs", "16")
    assert "16 damaged inputs of 8 slides with levels" in told
    counts = [int(line.split()[0]) for line in told.splitlines()[2:]]
    assert sum(counts) == 16
    assert "stored, the same pixels" in told
    assert not any(word in told for word in ("ESCAPED", "GARBAGE", "CRASHED", "STALLED"))


def test_tiling_is_measured_beside_loops_and_limits() -> None:
    name = "20X, no levels, 240 px tiles"
    rows = json.loads(
        run_benchmark("tiling.py", "--edge", "1.6", "--slide", name, "--method", "limit: decode", "--json")
    )
    assert {row["slide"] for row in rows} == {name}
    methods = ["limit: decode", "limit: decode + encode", "wsi-pipeline, direct", "OpenSlide loop"]
    assert [row["method"] for row in rows] == methods
    assert len({row["patches"] for row in rows}) == 1
    assert all(row["rate"] > 0 and row["peak_gib"] > 0 for row in rows)


def test_tissue_is_scored_by_patch_and_specks_by_speck() -> None:
    conditions = ("H&E", "blank glass", "IHC-like specks")
    found = json.loads(run_benchmark("tissue.py", "--slides", "1", "--json", *(f"--condition={c}" for c in conditions)))
    assert found["H&E"]["hit"] > 10 * found["H&E"]["missed"]
    assert found["IHC-like specks"]["hit"] > 0
    assert set(found["blank glass"].values()) == {0}


def test_quality_is_scored_against_what_was_drawn(tmp_path: Path) -> None:
    told = run_benchmark("quality.py", "--slides", "1", "--workers", "1").splitlines()
    assert [line.split()[0] for line in told[3:]] == ["pen", "dark", "blurred"]
    spec = draw_case(767_003, "test", slides=1, width_mm=2.4, height_mm=2.0).parts[0].slides[0]
    (slide,) = build_pool(tmp_path, [spec], 1)
    focus = PatchStore(slide.store).quality["focus"]
    for sign, area in ((1, 1.0), (-1, 0.0)):
        shares = np.zeros_like(slide.shares)
        shares[sign * focus < np.median(sign * focus), ..., artefact("blur")] = 0.5
        row = sys.modules["quality"].scored([replace(slide, shares=shares)], "blurred")
        assert row["auroc"] == area
        assert row["much"] == row["some"] == len(focus) // 2
        assert row["much"] + row["clean"] == len(focus)
