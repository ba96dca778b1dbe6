"""A grid of tiles: drawing source images by class, tinting them, and painting them onto one image."""

from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np
import torch

from multistep_bench.batch import Region
from multistep_bench.generators.pool import Pool

COLOUR_NOISE = 0.05  # standard deviation of the normal noise on a tile's tint, per tile and channel

Colours = Sequence[tuple[float, float, float]]
RED_BLUE: Colours = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
WHITE: Colours = ((1.0, 1.0, 1.0),)


@dataclass(frozen=True)
class Tile:
    """One tile of each of B samples: rows [B] of a pool, and the tint [B, 3] its pixels are multiplied by."""

    pool: Pool
    rows: torch.Tensor
    tint: torch.Tensor

    def steps(self, role: str) -> dict[str, torch.Tensor]:
        """The class of each image in its source and its number there, named after the tile's role."""
        rows = self.pool.on(self.rows.device)
        return {f"{role}_class": rows.labels[self.rows], f"{role}_image": rows.ids[self.rows]}


@dataclass(frozen=True)
class Grid:
    """rows × columns square tiles of `tile` × `tile` pixels; a place without a tile is black."""

    rows: int
    columns: int
    tile: int

    def layout(self, names: Sequence[str]) -> dict[str, Region]:
        """The region (top, left, height, width) of each place, named row by row."""
        t = self.tile
        return {name: (i // self.columns * t, i % self.columns * t, t, t) for i, name in enumerate(names)}

    def space(self) -> gymnasium.spaces.Box:
        """Images [3, H, W]: a pixel is grey × (colour + noise), and noise never reaches ten standard deviations."""
        margin = 10 * COLOUR_NOISE
        shape = (3, self.rows * self.tile, self.columns * self.tile)
        return gymnasium.spaces.Box(-margin, 1 + margin, shape, np.float32)

    def paint(self, tiles: Sequence[Tile], places: Sequence[torch.Tensor]) -> torch.Tensor:
        """Images [B, 3, H, W] float32: each tile's pixels / white × tint, at its place [B], counted row by row."""
        batch, device = len(places[0]), places[0].device
        channels = max(tile.pool.channels for tile in tiles)
        t, count = self.tile, self.rows * self.columns
        pixels = torch.zeros(batch * count, channels, t * t, dtype=torch.uint8, device=device)
        tint = torch.zeros(batch * count, 3, dtype=torch.float32, device=device)
        first = torch.arange(batch, dtype=torch.int64, device=device) * count
        for tile, place in zip(tiles, places, strict=True):
            images = tile.pool.on(device).images.index_select(0, tile.rows)
            pixels.index_copy_(0, first + place, images.view(batch, -1, t * t).expand(-1, channels, -1))
            tint.index_copy_(0, first + place, (tile.tint / tile.pool.white).float())
        # Whole pixel rows of the image, so that the multiplication reads memory in order.
        pixels = pixels.view(batch, self.rows, self.columns, channels, t, t).permute(0, 3, 1, 4, 2, 5)
        pixels = pixels.reshape(batch, channels, self.rows, t, self.columns * t).float()
        tint = tint.view(batch, self.rows, self.columns, 3).permute(0, 3, 1, 2)
        tint = tint.repeat_interleave(t, dim=3).unsqueeze(3)  # B, 3, rows, 1, columns·tile
        return (pixels * tint).view(batch, 3, self.rows * t, self.columns * t)


def noisy_tint(palette: Colours, colours: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """The colours [...] of a palette plus normal noise of standard deviation `COLOUR_NOISE`, [..., 3] float64."""
    noise = torch.randn(*colours.shape, 3, generator=rng, device=rng.device, dtype=torch.float64)
    return torch.tensor(palette, dtype=torch.float32, device=rng.device)[colours] + COLOUR_NOISE * noise
