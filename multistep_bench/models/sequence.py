"""One transformer for tokens, vectors and images with labels, causal or bidirectional, with an open attention rule."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import nn

from multistep_bench.batch import Inputs, TaskInfo
from multistep_bench.errors import ModelError, NotFound
from multistep_bench.models.attention.rule import block_rules
from multistep_bench.models.initial import draw_weights, weight_std
from multistep_bench.models.resnet import SMALL_IMAGE, resnet
from multistep_bench.models.transformer import ALL, NORM_EPSILON, Block
from multistep_bench.registry import register_model


@dataclass(frozen=True)
class SequenceSize:
    """width: of all heads together; mlp_ratio: hidden units of the MLP per unit of width."""

    width: int
    depth: int
    heads: int
    mlp_ratio: float = 2.0


SIZES = {
    "micro": SequenceSize(width=16, depth=2, heads=1),
    "tiny": SequenceSize(width=64, depth=2, heads=2),
    "small": SequenceSize(width=64, depth=3, heads=2),
    "chan": SequenceSize(width=64, depth=12, heads=8, mlp_ratio=4.0),  # Chan et al. 2022
    "gpt2": SequenceSize(width=768, depth=12, heads=12, mlp_ratio=4.0),  # GPT-2 small, and BERT and RoBERTa base
}
EMBEDDER_WIDTH = 16  # channels of the first stage of the ResNet that embeds images
ROTARY_BASE = 10_000.0


class Rotary(nn.Module):
    """Rotates each pair of channels (i, i + head_dim/2) by position · base^(−2i/head_dim) (Su et al. 2021)."""

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, tokens: int, head_dim: int) -> None:
        super().__init__()
        frequencies = ROTARY_BASE ** -(torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        angles = torch.arange(tokens, dtype=torch.float32).unsqueeze(1) * frequencies  # tokens, head_dim / 2
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, heads, tokens, head_dim] → the same shape."""
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * self.cos - second * self.sin, second * self.cos + first * self.sin), dim=-1)


class Episode(nn.Module):
    """Embeds an episode as item, label, item, label, …, query item.

    items:  embeds [B·(n+1), ...] as [B·(n+1), width]; its output is normalised to the scale of the labels.
    centre: subtract the mean of the context's items from every item first. Without it images of characters, which
    are mostly alike, are indistinguishable to attention: nothing was learned in any setting tried.
    """

    def __init__(self, items: nn.Module, labels: int, width: int, *, centre: bool) -> None:
        super().__init__()
        self.items = items
        self.centre = centre
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.labels = nn.Embedding(labels, width)

    def forward(self, episode: dict[str, torch.Tensor]) -> torch.Tensor:
        """items [B, n+1, ...] and labels [B, n] → [B, 2n+1, width]."""
        items = self.items(episode["items"].flatten(0, 1)).unflatten(0, episode["items"].shape[:2])  # B, n+1, width
        if self.centre:
            items = items - items[:, :-1].mean(1, keepdim=True)
        items = self.norm(items)
        pairs = torch.stack((items[:, :-1], self.labels(episode["labels"])), dim=2)  # B, n, 2, width
        return torch.cat((pairs.flatten(1, 2), items[:, -1:]), dim=1)


class Sequence(nn.Module):
    """Embeds tokens, applies pre-norm blocks, and gives logits at every position or only at the last.

    embedding: from the inputs to [B, tokens, width]. rules: one attention rule for each block.
    causal:    a token attends to itself and to earlier tokens. rotary: rotary positions in place of learned absolute
    ones. Where the task asks for one answer, the last block computes only the last token.

    Weights start as torch draws them: embeddings, and the positions like them, from N(0, 1), linear layers uniformly
    with standard deviation 1/√(3·inputs), which is GPT-2's 0.02 at width 768 and three times that at width 64. With
    0.02 at width 64 the Eureka-moments of these tasks come several times later.
    """

    mask: torch.Tensor | None

    def __init__(
        self,
        info: TaskInfo,
        size: SequenceSize,
        rules: list[nn.Module],
        embedding: nn.Module,
        tokens: int,
        *,
        causal: bool,
        rotary: bool,
    ) -> None:
        super().__init__()
        self.register_buffer(
            "mask", torch.ones(tokens, tokens, dtype=torch.bool).tril() if causal else None, persistent=False
        )
        self.answers = slice(-1, None) if isinstance(info.target_space, spaces.Discrete) else ALL
        self.embedding = embedding
        rotate = Rotary(tokens, size.width // size.heads) if rotary else None
        self.pos_embed = None if rotary else nn.Parameter(torch.randn(1, tokens, size.width, dtype=torch.float32))
        self.blocks = nn.ModuleList(
            Block(size.width, size.heads, rule, mlp_ratio=size.mlp_ratio, rotate=rotate) for rule in rules
        )
        self.norm = nn.LayerNorm(size.width, eps=NORM_EPSILON)
        self.head = nn.Linear(size.width, info.num_classes)

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Tokens [B, T] or an episode → logits [B, K], or [B, T, K] for a task with targets at every position."""
        x = self.embedding(inputs)  # B, tokens, width
        if self.pos_embed is not None:
            x = x + self.pos_embed
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            x = block(x, self.mask, queries=self.answers if index == last else ALL)
        logits = self.head(self.norm(x))
        return logits if self.answers == ALL else logits[:, 0]

    def no_weight_decay(self) -> set[str]:
        """Parameters of two or more dimensions that do not decay; biases and norms never do."""
        return set() if self.pos_embed is None else {"pos_embed"}


@register_model("sequence")
def build(
    info: TaskInfo,
    *,
    causal: bool,
    positions: Literal["learned", "rotary"] = "learned",
    size: str | None = None,
    attention: str = "softmax",
    attention_options: Mapping[str, Any] | None = None,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    mlp_ratio: float | None = None,
    embedder_width: int = EMBEDDER_WIDTH,
    init_std: float | Literal["scaled"] | None = None,
) -> Sequence:
    """A `Sequence` for a task of tokens or episodes.

    size: a preset of `SIZES`, by default the task's; the options named as its fields replace its values.
    positions: "learned", absolute, or "rotary". embedder_width: channels of the first stage of the ResNet-9 that
    embeds the images of an episode, with group norm, so that no image depends on the others of its batch.
    attention: a rule's name or import path; attention_options: its keyword arguments.
    init_std: standard deviation of every weight, with biases 0, see `models.initial`; by default as `Sequence` says.
    Raises `ModelError` or `NotFound` for what does not fit the task.
    """
    changes = {"width": width, "depth": depth, "heads": heads, "mlp_ratio": mlp_ratio}
    preset = size or info.size
    if preset not in SIZES:
        raise NotFound("size of sequence", preset, SIZES, f"sizes: {', '.join(SIZES)}")
    shape = replace(SIZES[preset], **{name: value for name, value in changes.items() if value is not None})
    _check(shape, positions, embedder_width)
    std = weight_std(init_std, shape.width, "sequence")
    embedding, tokens = _embedding(info, shape.width, embedder_width)
    rules = block_rules(
        attention,
        attention_options,
        depth=shape.depth,
        heads=shape.heads,
        tokens=tokens,
        head_dim=shape.width // shape.heads,
        causal=causal,
    )
    model = Sequence(info, shape, rules, embedding, tokens, causal=causal, rotary=positions == "rotary")
    if std is not None:
        draw_weights(model, std, model.pos_embed)
    return model


def _check(shape: SequenceSize, positions: str, embedder_width: int) -> None:
    if min(shape.width, shape.depth, shape.heads, embedder_width) < 1:
        raise ModelError(f"a sequence model of {shape} has no parts to build; set every number to 1 or more")
    if shape.width % shape.heads:
        raise ModelError(f"width {shape.width} of sequence is not a multiple of its {shape.heads} heads")
    if positions not in ("learned", "rotary"):
        raise ModelError(f"positions '{positions}' of sequence are neither 'learned' nor 'rotary'")
    if positions == "rotary" and shape.width // shape.heads % 2:
        raise ModelError(
            f"rotary positions rotate pairs of channels, and heads of {shape.width // shape.heads} have an odd number;"
            " change width or heads"
        )


def _embedding(info: TaskInfo, width: int, embedder_width: int) -> tuple[nn.Module, int]:
    """The module that embeds a task's inputs, and the number of tokens it gives."""
    space = info.observation_space
    if info.kind == "tokens" and isinstance(space, spaces.Box) and len(space.shape) == 1:
        return nn.Embedding(int(space.high.max()) + 1, width), space.shape[0]
    if info.kind == "episode" and isinstance(space, spaces.Dict) and {"items", "labels"} == set(space):
        items, labels = space["items"], space["labels"]
        if isinstance(items, spaces.Box) and isinstance(labels, spaces.Box) and len(items.shape) in (2, 4):
            embedder = _item_embedding(items.shape[1:], width, embedder_width)
            episode = Episode(embedder, int(labels.high.max()) + 1, width, centre=len(items.shape) == 4)
            return episode, 2 * items.shape[0] - 1
    raise ModelError(
        f"this model reads tokens or episodes of vectors or images, and the {info.kind} inputs of {info.id} are {space}"
    )


def _item_embedding(shape: tuple[int, ...], width: int, embedder_width: int) -> nn.Module:
    last: Any
    if len(shape) == 1:
        embedder = last = nn.Linear(shape[0], width)
    else:
        channels, *sides = shape
        small = max(sides) <= SMALL_IMAGE // 2
        embedder = resnet(channels, width, 1, embedder_width, small_image=small, norm=partial(nn.GroupNorm, 1))
        last = embedder[-1]
    nn.init.normal_(last.weight)  # as embeddings; smaller weights forget the items during a plateau
    return embedder
