"""A cell as one would first write it: timm's model, torch's AdamW, one batch after another."""

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.functional import cross_entropy

from multistep_bench import seeds
from multistep_bench.batch import TaskInfo
from multistep_bench.generators.base import TaskGenerator
from multistep_bench.models.build import build
from multistep_bench.models.layout import image_shape, tile_side
from multistep_bench.models.vit import SIZES
from multistep_bench.runs.spec import Cell, RunSpec
from multistep_bench.training.data import draw_evaluation, training_batches


class PlainCell:
    """The bare loop for a cell of the model "vit": its first weights, its batches and its held-out items.

    It has none of the rest: no records, checkpoints, schedule, or exceptions from weight decay.
    """

    def __init__(self, spec: RunSpec, cell: Cell, task: TaskGenerator, device: torch.device) -> None:
        self.task = task
        self.protocol = spec.protocol
        self.rng = seeds.generator(cell.seed(spec.task.id, "train"), device)
        self.items = draw_evaluation(spec, cell, task, device).batches
        torch.manual_seed(cell.seed(spec.task.id, "init"))
        first_weights = build(spec.model.card(), task.info).state_dict()
        self.model = timm_vit(task.info).to(device)
        self.model.load_state_dict(first_weights)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=spec.learning_rate(cell), weight_decay=self.protocol.weight_decay
        )

    def train_interval(self) -> None:
        """The steps from one evaluation to the next."""
        self.model.train()
        for batch in training_batches(self.task, self.protocol, self.rng):
            loss = cross_entropy(self.model(batch.inputs), batch.targets, label_smoothing=self.protocol.label_smoothing)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def evaluate(self) -> int:
        """Correct answers among the held-out items."""
        self.model.eval()
        return sum(int((self.model(batch.inputs).argmax(-1) == batch.targets).sum()) for batch in self.items)


def timm_vit(info: TaskInfo) -> nn.Module:
    """timm's `VisionTransformer` with the sizes that the model "vit" has on a task."""
    channels, height, width = image_shape(info)
    size = SIZES[info.size]
    return VisionTransformer(
        img_size=(height, width),
        patch_size=tile_side(info) // size.patches_per_tile,
        in_chans=channels,
        num_classes=info.num_classes,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
        mlp_ratio=size.mlp_ratio,
        qkv_bias=False,
        drop_path_rate=size.drop_path,
    )
