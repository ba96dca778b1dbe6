"""Which tokens of a layer lie in each region of the task's layout, and which of them the logits are read from."""

import math

import torch

from multistep_bench.batch import IGNORED, Batch, TaskInfo

EPISODE = ("match", "match_label", "others", "other_labels", "query")  # where the class of every item is a step


def region_names(info: TaskInfo) -> tuple[str, ...]:
    """What the regions are called: those of the layout, or `EPISODE`."""
    return EPISODE if _knows_matches(info) else tuple(info.layout)


def batch_regions(info: TaskInfo, batch: Batch, tokens: int) -> torch.Tensor | None:
    """[B, regions, tokens] bool, the tokens of each region of `region_names`; None where `region_masks` is.

    The context of an episode, item, label, item, label, …, query, is told apart sample by sample: items of the query's
    class and their labels, other items and their labels. Otherwise every sample has the regions of the layout.
    """
    masks = region_masks(info, tokens)
    if masks is None or not _knows_matches(info):
        return masks if masks is None else masks.expand(len(batch.targets), -1, -1)
    items = (tokens - 1) // 2
    classes = torch.stack([batch.steps[f"item_{i}_class"] for i in range(items)], 1).cpu()  # B, items
    match = classes == batch.steps["query_class"].cpu().unsqueeze(1)
    found = torch.zeros(len(match), len(EPISODE), tokens, dtype=torch.bool)
    for place, chosen in ((0, match), (2, ~match)):
        found[:, place, 0:-1:2] = chosen
        found[:, place + 1, 1::2] = chosen
    found[:, 4, -1] = True
    return found


def _knows_matches(info: TaskInfo) -> bool:
    return info.kind == "episode" and {"query_class", "item_0_class"} <= set(info.steps)


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
