import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from wsi_pipeline.errors import CaseBusyError, StoreError
from wsi_pipeline.store.fingerprint import fingerprint
from wsi_pipeline.store.lock import STALE_AFTER_S, locked
from wsi_pipeline.store.outcome import CaseOutcome, read_outcome, write_outcome
from wsi_pipeline.store.patches import SHARD, PatchStore, PatchWriter, SlideFacts
from wsi_pipeline.store.publish import ensure_writable, publishing, sweep_partials
from wsi_pipeline.store.tokens import TokenFacts, TokenStore, TokenWriter, pool

FACTS = SlideFacts(
    slide_id="s", reader="openslide", requested_reader="auto", level0_size=(100, 100), origin=(0, 0),
    scanned=(100, 100), tissue_left_mm2=0.0, levels=1,
    mpp=0.5, mpp_source="vendor", patch_size=32, target_mpp=1.0, patch_level0=64.0, read_downsample=1.0,
    overview_mpp=8.0,
    tissue_mm2=1.0, patches_expected=3, patches_unreadable=0, quality_columns=("valid",),
)  # fmt: skip
TOKEN_FACTS = TokenFacts(
    slide_id="s", model="m", revision="r", dtype="float32", tokens_per_patch=4, dim=8, patches_fingerprint="p"
)


def write_patches(final: Path, images: np.ndarray, codec: str = "zstd") -> PatchStore:
    with publishing(final) as partial:
        writer = PatchWriter(partial, len(images) + 5, images.shape[1], codec, 90)
        for i, image in enumerate(images):
            writer.append(image, (i, 2 * i), 0.5, (1.0,))
        writer.close(FACTS, np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), bool))
    return PatchStore(final)


@pytest.mark.parametrize("count", [0, 1, SHARD, SHARD + 1, 3 * SHARD - 1])
def test_patches_come_back_in_order(tmp_path: Path, count: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    store = write_patches(tmp_path / "p.zarr", images)
    assert len(store) == count
    assert all(np.array_equal(store.patches[i], images[i]) for i in range(count))
    assert store.coords.tolist() == [[i, 2 * i] for i in range(count)]
    assert sum(len(b) for b in store.batches(7)) == count


def test_a_flipped_byte_is_an_error_not_a_picture(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    store = write_patches(tmp_path / "p.zarr", images, "jpeg")
    shard = next(f for f in (tmp_path / "p.zarr/patches/c").rglob("*") if f.is_file())
    data = bytearray(shard.read_bytes())
    data[200] ^= 0xFF
    shard.write_bytes(data)
    with pytest.raises(ValueError, match="checksum"):
        store.patches[0]


def test_jpeg_stores_open_without_naming_the_codec(tmp_path: Path) -> None:
    write_patches(tmp_path / "p.zarr", np.full((2, 32, 32, 3), 200, np.uint8), "jpeg")
    code = f"import zarr; print(zarr.open_group({str(tmp_path / 'p.zarr')!r}, mode='r')['patches'][0].mean())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert abs(float(out.stdout) - 200) < 1


def test_a_store_with_patches_missing_is_refused(tmp_path: Path) -> None:
    write_patches(tmp_path / "p.zarr", np.zeros((20, 32, 32, 3), np.uint8))
    with pytest.raises(StoreError, match="no patch store"):
        PatchStore(tmp_path)
    shard = sorted(f for f in (tmp_path / "p.zarr/patches/c").rglob("*") if f.is_file())[0]
    shard.unlink()
    with pytest.raises(StoreError, match="incomplete"):
        PatchStore(tmp_path / "p.zarr")


def test_a_store_that_lost_its_coordinates_is_refused(tmp_path: Path) -> None:
    write_patches(tmp_path / "p.zarr", np.zeros((3, 32, 32, 3), np.uint8))
    shutil.rmtree(tmp_path / "p.zarr/coords/c")
    with pytest.raises(StoreError, match="incomplete"):
        PatchStore(tmp_path / "p.zarr")


def test_white_patches_and_an_empty_mask_are_written_too(tmp_path: Path) -> None:
    with publishing(tmp_path / "p.zarr") as partial:
        writer = PatchWriter(partial, 1, 32, "jpeg", 90)
        writer.append(np.full((32, 32, 3), 255, np.uint8), (0, 0), 0.0, (0.0,))
        writer.close(FACTS, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool))
    assert len(PatchStore(tmp_path / "p.zarr")) == 1


def test_nothing_is_published_when_writing_fails(tmp_path: Path) -> None:
    final = tmp_path / "x"
    with pytest.raises(RuntimeError, match="power cut"), publishing(final) as partial:  # noqa: PT012
        (partial / "half").write_text("half")
        raise RuntimeError("power cut")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No space left.*--dry-run"), publishing(tmp_path / "x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/first").write_text("1")
    with publishing(tmp_path / "x") as partial:
        (partial / "second").write_text("2")
    assert [f.name for f in (tmp_path / "x").iterdir()] == ["first"]


def test_leftovers_of_a_crash_are_swept(tmp_path: Path) -> None:
    (tmp_path / "a.zarr.partial-host-1-0123abcd/deep").mkdir(parents=True)
    (tmp_path / "b.json.partial-host-1-0123abcd").write_text("{")
    kept = {"c.zarr", "S1.partial-nephrectomy-1a2b3c", "S1.partial-x-12-1a2b3c"}
    for name in kept:
        (tmp_path / name).mkdir()
    assert sweep_partials(tmp_path) == 2
    assert {f.name for f in tmp_path.iterdir()} == kept


def test_an_unwritable_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        ensure_writable(tmp_path / "file" / "out")


def test_a_lock_keeps_others_out_and_names_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "case/.lock"
    refused = pytest.raises(CaseBusyError, match=f"process {os.getpid()} on")
    with locked(path), refused, locked(path):
        pass
    with locked(path):
        pass


def test_a_dead_holders_lock_is_taken_over(tmp_path: Path) -> None:
    code = f"from wsi_pipeline.store.lock import locked; from pathlib import Path; import os\n" \
           f"with locked(Path({str(tmp_path / '.lock')!r})): os._exit(9)"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=False)
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path / ".lock", wait_s=5):
        pass


def test_a_lock_taken_over_meanwhile_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between judging a lock dead and moving it aside, another process took it over."""
    from wsi_pipeline.store import lock

    path = tmp_path / ".lock"
    path.write_text('{"host": "elsewhere", "pid": 1, "id": "old"}')
    old = time.time() - STALE_AFTER_S - 1
    os.utime(path, (old, old))
    read = lock._text
    answers = iter([read(path)])
    monkeypatch.setattr(lock, "_text", lambda p: next(answers, None) or read(p))
    path.write_text('{"host": "elsewhere", "pid": 2, "id": "new"}')
    os.utime(path, (old, old))
    assert lock._remove_if_stale(path)
    assert '"new"' in path.read_text()


def test_a_lock_is_told_from_one_of_an_earlier_process_of_the_same_number(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with locked(lock):
        held = json.loads(lock.read_text())
        old = time.time() - STALE_AFTER_S - 1
        os.utime(lock, (old, old))  # a share whose clock is behind, or a machine that slept
        with pytest.raises(CaseBusyError), locked(lock):
            pass
    lock.write_text(json.dumps(held | {"began": held["began"] - 3600}))
    with locked(lock, wait_s=5):
        pass


def test_a_dead_lock_that_cannot_be_moved_is_an_error_and_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / ".lock"
    with locked(lock):
        held = json.loads(lock.read_text())
    lock.write_text(json.dumps(held | {"began": held["began"] - 3600}))

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StoreError, match="Permission denied"), locked(lock):
        pass
    lock.write_text('{"host": "elsewhere", "pid": 1}')
    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(StoreError, match="Permission denied"), locked(lock):
        pass


def test_a_lock_without_a_heartbeat_is_taken_over(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    lock.write_text('{"host": "elsewhere", "pid": 1}')
    with pytest.raises(CaseBusyError, match="elsewhere"), locked(lock):
        pass
    old = time.time() - STALE_AFTER_S - 1
    os.utime(lock, (old, old))
    with locked(lock, wait_s=5):
        pass


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 99), st.sampled_from(["float32", "bfloat16"])
)
def test_tokens_come_back_whatever_the_batches(tmp_path_factory, sizes: list[int], seed: int, dtype: str) -> None:  # type: ignore[no-untyped-def]
    computed = torch.from_numpy(np.random.default_rng(seed).normal(size=(sum(sizes), 4, 8)))
    tokens = computed.to(getattr(torch, dtype)).float().numpy()
    final = tmp_path_factory.mktemp("tokens") / "t.zarr"
    with publishing(final) as partial:
        writer = TokenWriter(partial, len(tokens), 4, 8, dtype)
        start = 0
        for size in sizes:
            writer.append(tokens[start : start + size])
            start += size
        writer.close(TOKEN_FACTS)
    store = TokenStore(final)
    assert np.array_equal(store.tokens[:], tokens)
    coarse = store.read(0, len(tokens), 1)
    assert np.allclose(coarse[:, 0], tokens.mean(1), atol=1e-6)


def test_tokens_that_are_not_finite_or_too_few_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not finite"), publishing(tmp_path / "t") as partial:
        TokenWriter(partial, 1, 4, 8, "float32").append(np.full((1, 4, 8), np.nan, np.float32))
    with pytest.raises(StoreError, match="not finite in float16"), publishing(tmp_path / "t") as partial:
        TokenWriter(partial, 1, 4, 8, "bfloat16").append(np.full((1, 4, 8), 1e6, np.float32))
    with pytest.raises(StoreError, match="0 of 2 patches"), publishing(tmp_path / "t") as partial:
        TokenWriter(partial, 2, 4, 8, "float32").close(TOKEN_FACTS)
    assert not (tmp_path / "t").exists()


def test_stored_tokens_that_are_not_finite_are_refused_on_reading(tmp_path: Path) -> None:
    writer = TokenWriter(tmp_path / "t", 3, 4, 8, "float32")
    writer.append(np.zeros((3, 4, 8), np.float32))
    writer.close(TOKEN_FACTS)
    zarr.open_group(tmp_path / "t")["tokens"][1:2] = np.full((1, 4, 8), np.nan, np.float32)
    store = TokenStore(tmp_path / "t")
    assert store.read(0, 1, 1).shape == (1, 1, 8)
    with pytest.raises(StoreError, match=r"not finite.*delete it and run again"):
        store.read(0, 3, 4)


@pytest.mark.parametrize(("stored", "wanted"), [(4, 3), (4, 16), (9, 4)])
def test_pooling_that_does_not_divide_is_refused(stored: int, wanted: int) -> None:
    with pytest.raises(StoreError, match="cannot be averaged"):
        pool(np.zeros((1, stored, 2), np.float32), wanted)


def test_an_outcome_survives_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "outcome.json"
    outcome = CaseOutcome(case="c", status="done", diagnoses=("x",))
    assert read_outcome(path) is None
    write_outcome(path, outcome)
    assert read_outcome(path) == outcome
    path.write_text(path.read_text()[:20])
    with pytest.raises(StoreError, match="damaged"):
        read_outcome(path)


def test_fingerprints_follow_values_not_order() -> None:
    assert fingerprint(a=1, b=[2]) == fingerprint(b=[2], a=1)
    assert fingerprint(a=1) != fingerprint(a=1.5)
    with pytest.raises(TypeError, match="no place in a fingerprint"):
        fingerprint(a=object())
