"""Any model of timm, made to fit a task; timm takes seconds to import, so that is done when it is asked for."""

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from multistep_bench.batch import TaskInfo
from multistep_bench.errors import NotFound
from multistep_bench.models.layout import image_shape

PREFIX = "timm/"


def timm_names() -> list[str]:
    """The models of timm as `resolve_model` takes them."""
    import timm

    return [PREFIX + name for name in timm.list_models()]


def timm_builder(model: str) -> "functools.partial[nn.Module]":
    """The builder behind "timm/NAME"; raises `NotFound` with the closest match."""
    import timm

    name = model.removeprefix(PREFIX)
    if not timm.is_model(name):
        raise NotFound("model", model, timm_names(), "timm.list_models() names them all")
    return functools.partial(build_timm, name)


def timm_source(model: str) -> Callable[..., Any]:
    """The function of timm that defines "timm/NAME"."""
    import timm

    return timm.model_entrypoint(model.removeprefix(PREFIX))


def build_timm(name: str, info: TaskInfo, **options: Any) -> nn.Module:
    """An untrained timm model with the task's channels, classes and, where the model's size is fixed, image size.

    options: further keyword arguments of `timm.create_model`.
    """
    import timm

    channels, height, width = image_shape(info)
    configuration = timm.get_pretrained_cfg(name)
    if configuration is not None and configuration.fixed_input_size:
        options = {"img_size": (height, width), **options}
    return timm.create_model(name, pretrained=False, in_chans=channels, num_classes=info.num_classes, **options)
