"""ResNet-34: the blocks of `resnet` in stages of three, four, six and three."""

from torch import nn
from torchvision.models.resnet import BasicBlock

from multistep_bench.batch import TaskInfo
from multistep_bench.models.resnet import resnet9
from multistep_bench.registry import register_model

BLOCKS = (3, 4, 6, 3)  # of each stage (He et al. 2016, table 1)


@register_model("resnet34")
def resnet34(info: TaskInfo, *, size: str | None = None, width: int | None = None) -> nn.Module:
    """Three, four, six and three basic blocks in four stages (He et al. 2016, table 1); options as of "resnet9".

    Named and initialised as torchvision's resnet34, to which it is equal with width 64 and a large image's stem.
    """
    model = resnet9(info, size=size, width=width)
    for stage, blocks in zip(("layer1", "layer2", "layer3", "layer4"), BLOCKS, strict=True):
        layer = model.get_submodule(stage)
        assert isinstance(layer, nn.Sequential)
        channels = layer[0].get_submodule("conv2").get_parameter("weight").shape[0]
        for _ in range(blocks - 1):
            layer.append(_drawn(BasicBlock(channels, channels)))
    return model


def _drawn(block: BasicBlock) -> BasicBlock:
    """The block with convolutions as those of `resnet`."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return block
