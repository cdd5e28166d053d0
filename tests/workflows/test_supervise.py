import threading
import time
from pathlib import Path

import pytest
from distributed import LocalCluster

import wsi_pipeline as wp
from tests.conftest import MakeSlide
from tests.workflows.ends import complain, crash, hoard, stall, stumble, tell
from workflows.run import run
from workflows.supervise import supervised
from workflows.tiling import tile_all
from wsi_pipeline.cases import Slide
from wsi_pipeline.errors import SlideError
from wsi_pipeline.events import Event, listening
from wsi_pipeline.settings import MachineSettings, TileSettings, gather
from wsi_pipeline.store.publish import partial_name


@pytest.mark.parametrize(
    ("work", "cause"),
    [
        (crash, "signal 11, SIGSEGV"),
        (stall, "took longer than 1 s"),
        (hoard, "took more than 0.5 GiB"),
        (complain, "is odd. Fix: look at it"),
        (stumble, "ZeroDivisionError at stumble"),
    ],
)
def test_a_bad_end_is_the_slides_failure(work, cause: str) -> None:  # type: ignore[no-untyped-def]
    started = time.monotonic()
    timeout = 1 if work is stall else 30
    with pytest.raises(SlideError, match=cause):
        supervised(work, (), "slide.svs", timeout, 0.5)
    assert time.monotonic() - started < 40


def test_stopping_kills_the_child_at_once() -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    with pytest.raises(SlideError, match="was stopped"):
        supervised(stall, (), "slide.svs", 60, 4, stop)
    assert time.monotonic() - started < 30


def test_events_of_the_child_are_heard() -> None:
    heard: list[Event] = []
    with listening(heard.append):
        supervised(tell, ("hello",), "x", 30, 4)
    assert heard == [Event("said", {"word": "hello"})]


def test_a_dask_cluster_tiles_the_same(make_slide: MakeSlide, tmp_path: Path) -> None:
    make_slide("slides/a/1.svs")
    make_slide("slides/a/2.tif", resolution=0.5)
    cases = wp.find_cases(tmp_path / "slides")
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        settings = gather({"model": "none", "dask_scheduler": cluster.scheduler_address})
        (there,) = run(cases, tmp_path / "there", settings)
    (here,) = run(cases, tmp_path / "here", gather({"model": "none"}))
    assert [(s.slide, s.status, s.patches) for s in there.slides] == [
        (s.slide, s.status, s.patches) for s in here.slides
    ]
    assert {s.status for s in there.slides} == {"done"}


def test_what_a_dask_worker_dies_of_is_the_slides_failure(
    make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise AssertionError("daemonic processes are not allowed to have children")

    monkeypatch.setattr("workflows.tiling.supervised", dies)
    cases = wp.find_cases(make_slide())
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        (case,) = run(cases, tmp_path / "out", gather({"model": "none", "dask_scheduler": cluster.scheduler_address}))
    (slide,) = case.slides
    assert slide.status == "failed"
    assert "daemonic processes" in str(slide.reason)


def test_a_worker_elsewhere_gets_paths_that_mean_the_same_there(
    make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_slide("slides/a/1.svs")
    monkeypatch.chdir(tmp_path)
    given: list[Path] = []

    def note(_: object, arguments: tuple[Slide, TileSettings, Path, int, str], *__: object) -> None:
        given.extend([arguments[0].path, arguments[2]])
        raise SlideError("s", "was noted")

    monkeypatch.setattr("workflows.tiling.supervised", note)
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        run(
            wp.find_cases("slides"), Path("out"), gather({"model": "none", "dask_scheduler": cluster.scheduler_address})
        )
    assert given
    assert all(path.is_absolute() for path in given)


def test_a_child_that_is_killed_leaves_nothing_behind(
    make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: object, arguments: tuple[Slide, TileSettings, Path, int, str], *__: object) -> None:
        partial_name(arguments[2]).mkdir(parents=True)
        raise SlideError("s", "took longer than 1 s")

    monkeypatch.setattr("workflows.tiling.supervised", killed)
    (outcome,) = run(wp.find_cases(make_slide()), tmp_path / "out", gather({"model": "none"}))
    assert outcome.slides[0].status == "failed"
    assert not list((tmp_path / "out").rglob("*.partial-*"))


def test_nothing_to_tile_asks_no_scheduler() -> None:
    assert list(tile_all([], MachineSettings(dask_scheduler="tcp://127.0.0.1:9"))) == []


def test_no_scheduler_there_says_so(make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import workflows.tiling

    monkeypatch.setattr(workflows.tiling, "CONNECT_TIMEOUT", "1s")
    (outcome,) = run(
        wp.find_cases(make_slide()), tmp_path / "out", gather({"model": "none", "dask_scheduler": "tcp://127.0.0.1:9"})
    )
    assert "does not answer" in str(outcome.reason)
