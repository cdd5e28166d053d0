"""Cases composed from a bank: as large as asked, and decided by exactly the patches that were put in."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import BENCHMARKS, run_benchmark
from workflows.checkpoints import Model
from workflows.phantom.drawing.cohort import draw_case
from workflows.phantom.drawing.pool import build_pool, shows_plainly
from workflows.phantom.measuring.haystack import Bank, Case, Patches, compose
from workflows.phantom.measuring.needle import EVERY, READERS, read, read_from_files
from workflows.phantom.measuring.single_slides import encoded
from workflows.phantom.measuring.tower import probe
from workflows.phantom.pathology import ORGANS, organ_named
from wsi_pipeline.cases import Part
from wsi_pipeline.settings import ModelSettings, RunSettings


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Normal tokens are negative, those of a lesion positive."""
    rng = np.random.default_rng(0)

    def tokens(n: int, sign: int) -> Patches:
        places = np.stack([np.full(n, sign), np.arange(n)], 1)
        return Patches(sign * (1 + rng.random((n, 4, 128), np.float32)), places)

    normal = {organ.name: [tokens(9, -1), tokens(14, -2)] for organ in ORGANS}
    lesions = {(o.name, d.text): [tokens(2, 1), tokens(6, 1)] for o in ORGANS for d in o.lesions}
    return Bank(normal, lesions, {organ.name: [tokens(8, -3)] for organ in ORGANS})


@pytest.mark.parametrize(("patches", "slides"), [(7, 1), (100, 5), (1000, 50), (4000, 50)])
@pytest.mark.parametrize("lesion", [0, 1, 4])
def test_cases_hold_what_was_asked_for(bank: Bank, patches: int, slides: int, lesion: int) -> None:
    for seed in range(5):
        case = compose(bank, np.random.default_rng(seed), ORGANS[seed % 4], patches, lesion)
        assert case.organ == ORGANS[seed % 4]
        assert (case.patches, len(case.slides)) == (patches, slides)
        shown = [np.flatnonzero((rows > 0).all((1, 2))) for rows in (slide.tokens for slide in case.slides)]
        assert sum(map(len, shown)) == lesion
        assert (case.lesion in case.organ.lesions) == bool(lesion)
        for slide in case.slides:
            assert ((slide.tokens[:, 0, 0] > 0) == (slide.places[:, 0] > 0)).all()
        # a bank of 23 normal patches: all of them before any comes again
        assert case.distinct >= min(patches, 23) - 1
        foreign = [int((slide.places[:, 0] == -3).sum()) for slide in case.slides]
        assert sum(foreign) in ((0,) if lesion else (1, 4))
        assert [n for n, some in enumerate(shown, 1) if len(some)] == ([case.shown_on] if lesion else [])
        if case.shown_on:
            where = shown[case.shown_on - 1]
            assert where[-1] - where[0] == lesion - 1


def test_every_reader_reads_and_those_that_see_less_take_less(bank: Bank) -> None:
    model = Model(ModelSettings(name="phantom"))
    case = compose(bank, np.random.default_rng(3), ORGANS[0], 200, 1)
    readings = {name: read(model, case, reader, seed=3) for name, reader in READERS.items()}
    tokens = {name: reading.tokens for name, reading in readings.items()}
    for reading in readings.values():
        assert reading.diseased or not (reading.on_its_slide or reading.false_slides)
    everything = tokens[EVERY]
    assert tokens["a random slide"] <= tokens["126 of one slide"] < tokens["126 shared"] < everything
    assert tokens["126 farthest"] < everything
    assert tokens["joint, T = 1"] < tokens["mixed, by novelty"] < tokens["mixed, two passes"]
    assert tokens["best single slide"] > everything


_FEW = ("--patches", "40", "--cases", "2", "--lesions", "1", "--plans", EVERY)


def test_the_table_has_a_row_per_reader_and_lesion(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr("banks.build_bank", lambda *_: bank)
    printed = run_benchmark("needle.py", *_FEW, "--plans", "windows", "--workers", "1")
    row = r"^ +40 +\d+ +(none|1)  ([a-z() ]+?) +2 .* +([\d,]+) +\d+\.\d+ +\d+\.\d +\d+\.\d$"
    rows = re.findall(row, printed, re.MULTILINE)
    assert [row[:2] for row in rows] == [(lesion, reader) for lesion in ("none", "1") for reader in (EVERY, "windows")]
    assert all(int(tokens) > 40 for *_, tokens in rows)


def test_cases_are_read_in_other_processes_as_in_this_one(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr("banks.build_bank", lambda *_: bank)
    told = [
        json.loads(run_benchmark("needle.py", *_FEW, "--json", "--workers", workers))["rows"] for workers in ("1", "2")
    ]
    one, two = ([row["reading"] | {"prefill_s": 0} for row in rows] for rows in told)
    assert one == two
    assert len(one) == 4


def test_a_composed_case_reads_the_same_from_files(tmp_path: Path) -> None:
    model, organ = Model(ModelSettings(name="phantom")), ORGANS[0]
    specs = [
        draw_case(880_000, "test", slides=1, organ=organ.name, diagnosis=diagnosis.text).parts[0].slides[0]
        for diagnosis in (organ.benign, organ.lesions[0])
    ]
    slides = list(build_pool(tmp_path / "bank", specs, 2))
    stores = [encoded(model, slide, tmp_path / "bank") for slide in slides]
    pieces = [
        Patches(store.read(0, len(store), 4), np.array([(number, k) for k in range(len(store))]))
        for number, store in enumerate(stores)
    ]
    bank = Bank({}, {}, {}, [slide.store for slide in slides])
    (tmp_path / "work").mkdir()
    case = Case(organ, organ.lesions[0], tuple(pieces))
    composed, filed = (
        read(model, case, READERS[EVERY], 0),
        read_from_files(ModelSettings(name="phantom"), case, bank, tmp_path / "work"),
    )
    assert filed.said == composed.said
    assert filed.exact
    assert filed.tokens == composed.tokens


def test_forty_thousand_patches_are_one_sequence_of_the_long_checkpoint_and_nine_of_the_other() -> None:
    patches = {f"s{n:02d}": 800 for n in range(50)}
    for name, strategy, sequences in (("phantom-long", "joint", 1), ("phantom", "search", 9)):
        plan = Model(ModelSettings(name=name)).plan(Part(None, ()), patches, RunSettings())
        assert (plan.strategy, plan.tokens_per_patch, len(plan.windows)) == (strategy, 1, sequences)
        assert plan.patches_read == plan.patches_found == 40_000
        assert not plan.deviations


def test_the_long_checkpoint_finds_one_patch_on_one_of_fifteen_slides(tmp_path: Path) -> None:
    """Of three hundred patches in one sequence, which are those of two slides again and again."""
    model, organ = Model(ModelSettings(name="phantom-long")), organ_named("Prostate")
    lesion = organ.lesions[-1]
    wanted = (organ.benign, organ.benign, lesion)
    parts = [
        draw_case(880_100 + n, "test", slides=1, organ=organ.name, diagnosis=diagnosis.text).parts[0]
        for n, diagnosis in enumerate(wanted)
    ]
    slides = list(build_pool(tmp_path, [part.slides[0] for part in parts], 2))
    tokens = [encoded(model, slide, tmp_path) for slide in slides]
    one, other, ill = (
        Patches(rows.read(0, len(rows), 1), np.array([(number, k) for k in range(len(rows))]))
        for number, rows in enumerate(tokens)
    )
    plain = ill.some(np.arange(len(ill)) == np.flatnonzero(shows_plainly(slides[2].lesion))[0])
    normal = {organ.name: [one, other]}
    composed = [
        compose(Bank(normal, lesions, {organ.name: [one]}), np.random.default_rng(5), organ, 300, shown)
        for shown, lesions in ((1, {(organ.name, d.text): [plain] for d in organ.lesions}), (0, {}))
    ]
    found, nothing = (read(model, case, READERS[EVERY], 0) for case in composed)
    assert (found.on_its_slide, found.false_slides, found.said) == (True, 0, (lesion.text,))
    assert nothing.exact


def test_a_probe_tells_apart_what_differs_and_nothing_else() -> None:
    rng = np.random.default_rng(0)

    def slides(number: int, shift: float) -> list[Patches]:
        places = [np.stack([np.full(8, number + k), np.arange(8)], 1) for k in range(5)]
        marked = np.zeros(32, np.float32)
        marked[:4] = shift
        return [Patches(rng.standard_normal((8, 4, 32)).astype(np.float32) + marked, p) for p in places]

    for shift, low, high in ((6.0, 0.0, 0.05), (0.0, 0.6, 1.0)):
        normal = {organ.name: slides(100 * n, 0.0) for n, organ in enumerate(ORGANS)}
        lesions = {(o.name, o.lesions[0].text): slides(100 * n + 50, shift) for n, o in enumerate(ORGANS)}
        scores = probe(Bank(normal, lesions, {organ.name: [] for organ in ORGANS}), 4)
        assert [(s.organ, len(s.benign), len(s.lesion)) for s in scores] == [(o.name, 40, 40) for o in ORGANS]
        assert low <= np.mean([s.false_at(0.95) for s in scores]) <= high
