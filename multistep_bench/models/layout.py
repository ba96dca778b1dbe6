"""A task's images as a model sees them: their shape, their tiles, and the tokens in each region."""

import torch

from multistep_bench.batch import TaskInfo
from multistep_bench.errors import ModelError


def image_shape(info: TaskInfo) -> tuple[int, int, int]:
    """Channels, height and width of a task's images; raises `ModelError` for other inputs."""
    shape = info.observation_space.shape
    if info.kind != "image" or shape is None or len(shape) != 3:
        raise ModelError(f"this model reads images, but the inputs of {info.id} are {info.observation_space}")
    return shape[0], shape[1], shape[2]


def tile_side(info: TaskInfo) -> int:
    """Side in pixels of the tiles in a task's layout; an image without a layout is one tile."""
    _, height, width = image_shape(info)
    sides = {side for region in info.layout.values() for side in region[2:]} or {height}
    side = min(sides)
    if len(sides) > 1 or height % side or width % side:
        raise ModelError(
            f"the layout of {info.id} is no grid of equal square tiles on its {height}×{width} images;"
            " choose a task of tiles"
        )
    return side


def token_regions(info: TaskInfo, patches_per_tile: int) -> torch.Tensor:
    """Which tokens lie in each region of the layout: [regions, 1 + patches] bool; the class token, first, in none."""
    _, height, width = image_shape(info)
    patch = tile_side(info) // patches_per_tile
    top = torch.arange(0, height, patch).view(-1, 1)
    left = torch.arange(0, width, patch).view(1, -1)
    inside = [
        (top >= y) & (top < y + rows) & (left >= x) & (left < x + columns)
        for y, x, rows, columns in info.layout.values() or [(0, 0, height, width)]
    ]
    patches = torch.stack(inside).flatten(1)  # regions, patches
    return torch.cat((torch.zeros(len(patches), 1, dtype=torch.bool), patches), dim=1)
