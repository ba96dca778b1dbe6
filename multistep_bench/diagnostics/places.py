"""Where in a sequence of tokens to look: the token that the answer is read from, regions of the layout, the mean."""

from collections.abc import Mapping

import torch

from multistep_bench.batch import IGNORED, Batch, TaskInfo
from multistep_bench.diagnostics.regions import region_masks
from multistep_bench.models.layout import tile_side, token_regions

READING = "reading"  # the token that the answer is read from
MEAN = "mean"  # of all tokens
TOKENS = "tokens"  # every token of every region by itself


def reading_tokens(info: TaskInfo, batch: Batch, tokens: int) -> torch.Tensor:
    """The token that each sample's answer is read from, [B] int64: the class token of an image, the scored position of
    a sequence of targets (the last of them), otherwise the last token.
    """
    number = len(batch.targets)
    if info.kind == "image":
        return torch.zeros(number, dtype=torch.int64)
    if batch.targets.ndim == 1 or batch.targets.shape[1] != tokens:
        return torch.full((number,), tokens - 1, dtype=torch.int64)
    positions = torch.arange(tokens).expand(number, -1)
    return torch.where(batch.targets.cpu() != IGNORED, positions, 0).amax(1)


def region_tokens(info: TaskInfo, tokens: int) -> Mapping[str, torch.Tensor]:
    """Which tokens lie in each region of the layout, name → [tokens] bool.

    Empty where the tokens of a model do not stand for parts of the input: an image's are its square patches, after a
    class token or without one, a sequence's are its own.
    """
    if info.kind != "image":
        position = torch.arange(tokens)
        inside = {name: (position >= left) & (position < left + n) for name, (_, left, _, n) in info.layout.items()}
        fits = all(left + n <= tokens for _, left, _, n in info.layout.values())
        return inside if fits else {}
    per_tile = patches_per_tile(info, tokens)
    masks = region_masks(info, tokens) if per_tile is None else token_regions(info, per_tile)
    return {} if masks is None else dict(zip(info.layout, masks, strict=True))


def single_tokens(regions: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each token of each region by itself, "context 1", "context 2", … → [tokens] bool."""
    found = {}
    for name, inside in regions.items():
        for number, place in enumerate(inside.nonzero().flatten().tolist(), start=1):
            found[f"{name} {number}"] = torch.arange(len(inside)) == place
    return found


def has_reading_token(info: TaskInfo, tokens: int) -> bool:
    """Whether an answer is read from one token: not of an image that is cut into patches without a class token."""
    shape = info.observation_space.shape
    if info.kind != "image" or shape is None:
        return True
    side = (shape[1] * shape[2] / tokens) ** 0.5  # of a patch, if all tokens are patches
    return tokens == 1 or not side.is_integer()


def patches_per_tile(info: TaskInfo, tokens: int) -> int | None:
    """Patches along the side of a tile, of a class token and patches; None where no whole number fits."""
    shape = info.observation_space.shape
    if info.kind != "image" or not info.layout or shape is None:
        return None
    side = tile_side(info)
    tiles = (shape[1] // side) * (shape[2] // side)
    per_tile = round(((tokens - 1) / tiles) ** 0.5)
    return per_tile if per_tile > 0 and per_tile**2 * tiles == tokens - 1 and side % per_tile == 0 else None


def features(
    values: torch.Tensor, place: str, reading: torch.Tensor, regions: Mapping[str, torch.Tensor], tokens: int
) -> torch.Tensor | None:
    """One vector a sample, [B, channels], of values [B, tokens, channels] at a place; a region's and the mean are means
    over their tokens. None where a layer computed the reading token alone and another place is asked for.
    """
    if values.shape[1] == 1 and tokens > 1:
        return values[:, 0] if place == READING else None
    if place == READING:
        return values[torch.arange(len(values)), reading]
    if place == MEAN:
        return values.mean(1)
    return values[:, regions[place]].mean(1)
