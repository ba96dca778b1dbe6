"""Event files for TensorBoard, one folder a cell: curves while it trains, and its diagnostics when it has ended."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multistep_bench.errors import BenchError
from multistep_bench.reporting.labels import rate_label
from multistep_bench.runs.diagnostics import SAMPLES, diagnostics_path, read_diagnostics
from multistep_bench.runs.events import Evaluation, Outcome
from multistep_bench.runs.record import Record
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.relay import NullObserver
from multistep_bench.training.schedules import learning_rate

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

LOG_FOLDER = "tensorboard"
PROJECTIONS = ("q", "k", "v")


class TensorBoardLog(NullObserver):
    """Writes the cells of one run to RUN/tensorboard/RATE-seedSEED, over training samples.

    eval/accuracy, eval/loss, eval/NAME-loss of auxiliary sets (nats), train/loss, train/learning_rate; and when a cell
    has ended diagnostics/NAME/LAYER[/q, k or v][/REGION], heads averaged. A resumed cell is written from
    its start again, and TensorBoard drops what it had. Raises `BenchError` where tensorboard is not installed.
    """

    def __init__(self) -> None:
        self._writer_class = _writer_class()
        self._open: dict[Cell, SummaryWriter] = {}

    def begin(self, spec: RunSpec, folder: Path, finished: Mapping[Cell, Record]) -> None:
        """Writes the finished cells that an earlier call trained without a log."""
        self._spec, self._folder = spec, folder
        for cell, record in finished.items():
            if not self._place(cell).exists():
                for evaluation in record.evaluations(spec.protocol.interval):
                    self.evaluated(cell, evaluation, record.curve.set.items)
                self._close(cell)

    def evaluated(self, cell: Cell, evaluation: Evaluation, items: int) -> None:
        """Writes one evaluation."""
        figures = {"eval/loss": evaluation.loss, "train/loss": evaluation.train_loss}
        if evaluation.correct is not None:
            figures["eval/accuracy"] = evaluation.correct / items
        figures |= {f"eval/{name}-loss": each.loss for name, each in evaluation.auxiliary.items()}
        figures["train/learning_rate"] = learning_rate(
            self._spec.protocol, self._spec.learning_rate(cell), evaluation.samples
        )
        writer = self._writer(cell)
        for name, value in figures.items():
            if value is not None:
                writer.add_scalar(name, value, evaluation.samples)
        writer.flush()

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """Writes the figures that `--diagnostics` left, and closes the cell's file."""
        path = diagnostics_path(self._folder, cell)
        if path.is_file():
            writer = self._writer(cell)
            arrays = read_diagnostics(path)
            for name, figure in arrays.items():
                if figure.dtype.kind != "f":  # what has been seen, or names along an axis
                    continue
                regions = arrays["gradients.tokens" if name.endswith("_by_region") else "regions"].tolist()
                for tag, values in _lines(name, figure, regions):
                    for samples, value in zip(arrays[SAMPLES].tolist(), values.tolist(), strict=True):
                        if not math.isnan(value):
                            writer.add_scalar(tag, value, samples)
        self._close(cell)

    def close(self) -> None:
        """The run is over, or was given up."""
        for cell in list(self._open):
            self._close(cell)

    def _place(self, cell: Cell) -> Path:
        rate = rate_label(self._spec.learning_rate(cell))
        return self._folder / LOG_FOLDER / f"{rate}-seed{cell.seed_index}"

    def _writer(self, cell: Cell) -> "SummaryWriter":
        if cell not in self._open:
            self._open[cell] = self._writer_class(str(self._place(cell)), purge_step=0)
        return self._open[cell]

    def _close(self, cell: Cell) -> None:
        if cell in self._open:
            self._open.pop(cell).close()


def _lines(name: str, values: np.ndarray, regions: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Tag and values [E] of each line of a figure [E, layers, ...]; heads are averaged."""
    if name.startswith("gradients.") and name != "gradients.regions":
        axes: list[Sequence[str]] = [PROJECTIONS, regions]
    else:
        axes = [regions]
        if name.startswith("attention.") or name == "logits.std":
            values = values.mean(axis=2)
    for layer, *rest in np.ndindex(values.shape[1:]):
        names = "".join(f"/{axis[place]}" for axis, place in zip(axes, rest, strict=False))
        yield f"diagnostics/{name}/{layer}{names}", values[(slice(None), layer, *rest)]


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        raise BenchError(
            "--log tensorboard needs TensorBoard, which is not installed:"
            " pip install 'multistep-bench[tensorboard]', or leave out --log; nothing was trained"
        ) from None
    return SummaryWriter
