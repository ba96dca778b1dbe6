"""ResNets of basic blocks, with a stem that fits the size of the images."""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn
from torchvision.models.resnet import BasicBlock

from multistep_bench.batch import TaskInfo
from multistep_bench.errors import ModelError, NotFound
from multistep_bench.models.layout import image_shape
from multistep_bench.registry import register_model

WIDTHS = {"tiny": 16, "small": 32, "paper": 64}  # channels of the first stage by preset of model size
SMALL_IMAGE = 32  # pixels; up to here the stem keeps every pixel


@register_model("resnet9")
def resnet9(info: TaskInfo, *, size: str | None = None, width: int | None = None) -> nn.Module:
    """One basic block in each of four stages (Hoffmann et al. 2024); see `resnet`."""
    return _for_task(info, 1, size, width)


@register_model("resnet18")
def resnet18(info: TaskInfo, *, size: str | None = None, width: int | None = None) -> nn.Module:
    """Two basic blocks in each of four stages (He et al. 2016, table 1); see `resnet`."""
    return _for_task(info, 2, size, width)


def _for_task(info: TaskInfo, blocks: int, size: str | None, width: int | None) -> nn.Module:
    """width: channels of the first stage, by default those of the preset `size`, by default the task's."""
    channels, *sides = image_shape(info)
    preset = size or info.size
    if preset not in WIDTHS:
        raise NotFound("size of resnet", preset, WIDTHS, f"sizes: {', '.join(WIDTHS)}")
    if width is not None and width < 1:
        raise ModelError(f"width {width} of a resnet is below 1; give the channels of its first stage")
    return resnet(channels, info.num_classes, blocks, width or WIDTHS[preset], small_image=max(sides) <= SMALL_IMAGE)


def resnet(
    channels: int,
    classes: int,
    blocks: int,
    width: int,
    *,
    small_image: bool,
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
) -> nn.Sequential:
    """[B, channels, H, W] → logits [B, classes] through four stages of `blocks` basic blocks.

    Named and initialised as torchvision's, and equal to its resnet18 for 2 blocks of width 64. For a small image the
    stem is a 3×3 convolution of stride 1 and no pooling, as for CIFAR (He et al. 2016, section 4.2), instead of a
    7×7 convolution and a pooling of stride 2 each. norm: from a number of channels to their normalisation.
    """
    kernel, stride = (3, 1) if small_image else (7, 2)
    layers = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False),
        bn1=norm(width),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.Identity() if small_image else nn.MaxPool2d(3, 2, 1),
        layer1=_stage(width, width, blocks, 1, norm),
        layer2=_stage(width, 2 * width, blocks, 2, norm),
        layer3=_stage(2 * width, 4 * width, blocks, 2, norm),
        layer4=_stage(4 * width, 8 * width, blocks, 2, norm),
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(8 * width, classes),
    )
    model = nn.Sequential(layers)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def _stage(before: int, after: int, blocks: int, stride: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """`blocks` basic blocks from `before` channels to `after`, the first of them of this stride."""
    shortcut = None
    if stride != 1 or before != after:
        shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), norm(after))
    first = BasicBlock(before, after, stride, shortcut, norm_layer=norm)
    return nn.Sequential(first, *(BasicBlock(after, after, norm_layer=norm) for _ in range(blocks - 1)))
