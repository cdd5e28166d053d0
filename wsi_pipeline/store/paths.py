"""Where things lie below OUT; the only place that knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CaseFolder:
    """The folder of one case: `OUT/cases/<case id>/`."""

    out: Path
    case_id: str

    @property
    def path(self) -> Path:
        return self.out / "cases" / self.case_id

    @property
    def outcome(self) -> Path:
        """The truth about the case's last run."""
        return self.path / "outcome.json"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @property
    def reports(self) -> Path:
        return self.path / "reports"

    def patches(self, slide_id: str, fingerprint: str) -> Path:
        return self.path / "slides" / slide_id / f"patches-{fingerprint}.zarr"

    def tokens(self, slide_id: str, fingerprint: str) -> Path:
        return self.path / "slides" / slide_id / f"tokens-{fingerprint}.zarr"

    def report_folders(self) -> list[Path]:
        """Published reports, oldest first."""
        if not self.reports.is_dir():
            return []
        return sorted(p for p in self.reports.iterdir() if p.is_dir() and p.name.isdigit())


def case_folders(out: Path) -> list[CaseFolder]:
    """Every case that OUT knows of."""
    cases = out / "cases"
    if not cases.is_dir():
        return []
    return [CaseFolder(out, p.name) for p in sorted(cases.iterdir()) if p.is_dir()]


def index_page(out: Path) -> Path:
    """The page that lists all cases."""
    return out / "index.html"
