"""What memory a container leaves."""

from pathlib import Path

import psutil
import pytest

from wsi_pipeline.models.memory import container_bytes, free_bytes


def group(root: Path, version: int, limit: str) -> Path:
    names = ("memory.max", "memory.current", "memory.stat")
    if version == 1:
        names = tuple(f"memory/memory.{n}" for n in ("limit_in_bytes", "usage_in_bytes", "stat"))
        (root / "memory").mkdir()
    total = "total_" if version == 1 else ""
    stat = f"anon 500\n{total}inactive_file 120\n{total}active_file 30"
    for name, text in zip(names, (limit, "700", stat), strict=True):
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_has_its_limit_less_what_it_cannot_let_go(tmp_path: Path, version: int) -> None:
    assert container_bytes(group(tmp_path, version, "1000")) == 450


def test_without_a_limit_the_machine_has_the_word(tmp_path: Path) -> None:
    assert container_bytes(tmp_path) is None
    assert container_bytes(group(tmp_path, 2, "max")) is None


def test_the_smaller_of_both_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsi_pipeline.models.memory.CGROUP", group(tmp_path, 2, "1000"))
    assert free_bytes("cpu") == 450
    (tmp_path / "memory.max").write_text(str(2**60))
    assert 0 < free_bytes("cpu") <= psutil.virtual_memory().total
