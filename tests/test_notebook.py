"""The tutorial notebook runs as it stands, and shows what its text says."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "tasks" / "examples" / "first_steps.ipynb"


@pytest.mark.slow
def test_the_tutorial_runs_and_shows_tables_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("pandas")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = {cell.source.splitlines()[-1]: cell.outputs for cell in code}

    run = shown["softmax"]
    assert "[2/2]" in "".join(output.text for output in run if output.output_type == "stream")
    assert "data:image/png;base64," in run[-1].data["text/html"]
    assert run[-1].data["text/plain"].startswith("Run of vit (")
    assert "<td>vit_normsoftmax</td>" in shown["score"][-1].data["text/html"]
    compared = shown["mb.compare(normsoftmax, softmax)"][-1].data
    assert compared["text/plain"].startswith("Comparison of A, vit_normsoftmax, and B, vit,")
    assert "image/png" in shown['mb.plot("runs", kind="survival", out="survival.pdf")'][-1].data
    assert (tmp_path / "survival.pdf").read_bytes().startswith(b"%PDF")
    assert shown["mine"][-1].data["text/plain"].startswith("Run of local/MyNet (")
    errors = [output.text for outputs in shown.values() for output in outputs if output.get("name") == "stderr"]
    assert all("TqdmWarning" in text for text in errors)  # of a library, where ipywidgets are not installed
