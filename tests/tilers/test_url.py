"""Slides behind a URL."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import MakeSlide
from tests.serving import served
from wsi_pipeline import api
from wsi_pipeline.cases import read_manifest
from wsi_pipeline.cases.location import located
from wsi_pipeline.errors import UsageError


def test_the_same_patches_as_from_the_file(make_slide: MakeSlide, tmp_path: Path) -> None:
    path = make_slide("folder/a.svs")
    settings = {"patch_size": 256, "codec": "zstd"}
    local = api.tile(path, tmp_path / "local", reader="tiffslide", **settings)[0].patches
    with served(path.parent) as root:
        remote = api.tile(f"{root}/a.svs", tmp_path / "remote", **settings)[0].patches
        assert set(remote.facts.refused_readers) == {"direct", "openslide"}
    assert remote.facts.reader == "tiffslide"
    assert (remote.coords == local.coords).all()
    assert (np.concatenate(list(remote.batches(8))) == np.concatenate(list(local.batches(8)))).all()


def test_a_manifest_names_urls_and_paths_below_one(make_slide: MakeSlide, tmp_path: Path) -> None:
    path = make_slide("folder/a.svs")
    shutil.copy(path, path.with_name("b.svs"))
    with served(path.parent) as root:
        manifest = tmp_path / "m.csv"
        manifest.write_text(f"case_id,slide\nc,{root}/a.svs\nc,b.svs\nc,gone.svs\n")
        slides = read_manifest(manifest, located(root))[0].slides
        assert [(str(s.path), s.missing) for s in slides] == [
            (f"{root}/b.svs", False),
            (f"{root}/gone.svs", True),
            (f"{root}/a.svs", False),
        ]
        manifest.write_text(f"case_id,slide\nc,{root}/a.svs\nc,{root}/a.svs\n")
        with pytest.raises(UsageError, match="the same slide as line 2"):
            read_manifest(manifest)


def test_a_server_that_fails_fails_the_slide(make_slide: MakeSlide, tmp_path: Path) -> None:
    path = make_slide("folder/a.svs")
    with served(path.parent) as root:
        case = api.find_cases(f"{root}/a.svs")
    result = api.tile(case, tmp_path / "out")[0]
    assert result.status == "failed"
    assert "cannot be read" in result.reason


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://host/a.svs?signature=secret", "credentials"),
        ("https://user:secret@host/a.svs", "credentials"),
        ("nosuch://host/a.svs", "cannot be read"),
    ],
)
def test_urls_that_are_refused_tell_no_secret(url: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as error:
        located(url)
    assert "secret" not in str(error.value)
