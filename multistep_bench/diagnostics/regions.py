"""Which tokens of a layer lie in each region of the task's layout, and which of them the logits are read from."""

import math

import torch

from multistep_bench.batch import IGNORED, Batch, TaskInfo


def region_masks(info: TaskInfo, tokens: int) -> torch.Tensor | None:
    """[regions, tokens] bool, True where a token lies in the region; None where tokens do not match the layout,
    or a region holds none.

    Tokens of an image are its square patches, row by row, after a class token or without one, which lies in no region;
    a patch lies where its centre does. Other tokens are those of the layout.
    """
    if not info.layout:
        return None
    if info.kind != "image":
        end = max(first + count for _, first, _, count in info.layout.values())
        places = torch.arange(tokens)
        inside = [(places >= first) & (places < first + count) for _, first, _, count in info.layout.values()]
        return torch.stack(inside) if end == tokens else None
    _, height, width = info.observation_space.shape or (0, 0, 0)
    for first in (1, 0):
        side = math.sqrt(height * width / (tokens - first)) if tokens > first else 0.0
        if side and side == int(side) and not height % side and not width % side:
            masks = torch.cat((torch.zeros(len(info.layout), first, dtype=torch.bool), _patches(info, int(side))), 1)
            return masks if masks.any(1).all() else None
    return None


def _patches(info: TaskInfo, side: int) -> torch.Tensor:
    _, height, width = info.observation_space.shape or (0, 0, 0)
    rows = (torch.arange(0, height, side) + side / 2).view(-1, 1)
    columns = (torch.arange(0, width, side) + side / 2).view(1, -1)
    inside = [
        (rows > y) & (rows < y + tall) & (columns > x) & (columns < x + wide)
        for y, x, tall, wide in info.layout.values()
    ]
    return torch.stack(inside).flatten(1)


def reading_tokens(info: TaskInfo, batch: Batch, queries: int) -> torch.Tensor:
    """[B, queries] bool: the tokens that logits are read from, of a layer that computes so many queries.

    They are the scored ones of a task with a target at every token; otherwise the only query, the class token of an
    image, the last token of a sequence. Where an image has no class token every token is read.
    """
    read = torch.zeros(len(batch.targets), queries, dtype=torch.bool)
    if batch.targets.shape == read.shape:
        return (batch.targets != IGNORED).cpu()
    if info.kind != "image":
        read[:, -1] = True
        return read
    masks = region_masks(info, queries)
    if queries == 1 or (masks is not None and not masks[:, 0].any() and _has_class_token(info, queries)):
        read[:, 0] = True
    else:
        read[:] = True
    return read


def _has_class_token(info: TaskInfo, tokens: int) -> bool:
    _, height, width = info.observation_space.shape or (0, 0, 0)
    side = math.sqrt(height * width / (tokens - 1))
    return side == int(side)
