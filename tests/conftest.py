"""What every test shares."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from chromium import Page, find_chromium

torch.set_num_threads(1)  # as in a worker; two threads on two busy cores are many times slower


DATA_VARIABLE = "$MULTISTEP_BENCH_DATA"  # stands in the reason of every test that is skipped for want of data files


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line about all tests that lack data files, in place of one for each."""
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple) and DATA_VARIABLE in report.longrepr[2]:
            reason = f"Skipped: no data files; README.md says how to name a folder of them in {DATA_VARIABLE}"
            report.longrepr = ("tests", None, reason)  # equal reasons at equal places are counted on one line


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without network, data folder or cache: the cache would be at the path given."""
    monkeypatch.delenv("MULTISTEP_BENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", refuse)
    return tmp_path / "cache" / "multistep-bench"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page of headless Chromium."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    page = Page(program, tmp_path_factory.mktemp("profile"))
    yield page
    page.close()
