"""Models of other libraries, made to fit a task: timm's here, Hugging Face's in `models.hf`."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
from torch import nn

from multistep_bench.batch import TaskInfo
from multistep_bench.errors import NotFound
from multistep_bench.models import hf
from multistep_bench.models.layout import image_shape

PREFIX = "timm/"


@dataclass(frozen=True)
class Library:
    """Where "PREFIX/NAME" leads. names: all of them. builder, source: from one to what builds and what defines it."""

    names: Callable[[], list[str]]
    builder: Callable[[str], Callable[..., Any]]
    source: Callable[[str], Callable[..., Any]]


def library_of(model: str) -> Library | None:
    """The library whose prefix a model's name has."""
    return next((library for prefix, library in LIBRARIES.items() if model.startswith(prefix)), None)


def library_names() -> list[str]:
    """Every model of the libraries that are installed."""
    return [name for library in LIBRARIES.values() for name in library.names()]


def timm_names() -> list[str]:
    """The models of timm as `resolve_model` takes them."""
    return [PREFIX + name for name in timm.list_models()]


def timm_builder(model: str) -> "functools.partial[nn.Module]":
    """The builder behind "timm/NAME"; raises `NotFound` with the closest match."""
    name = model.removeprefix(PREFIX)
    if not timm.is_model(name):
        raise NotFound("model", model, timm_names(), "timm.list_models() names them all")
    return functools.partial(build_timm, name)


def timm_source(model: str) -> Callable[..., Any]:
    """The function of timm that defines "timm/NAME"."""
    return timm.model_entrypoint(model.removeprefix(PREFIX))


def build_timm(name: str, info: TaskInfo, **options: Any) -> nn.Module:
    """An untrained timm model with the task's channels, classes and, where the model's size is fixed, image size.

    options: further keyword arguments of `timm.create_model`.
    """
    channels, height, width = image_shape(info)
    configuration = timm.get_pretrained_cfg(name)
    if configuration is not None and configuration.fixed_input_size:
        options = {"img_size": (height, width), **options}
    return timm.create_model(name, pretrained=False, in_chans=channels, num_classes=info.num_classes, **options)


LIBRARIES = {
    PREFIX: Library(timm_names, timm_builder, timm_source),
    hf.PREFIX: Library(hf.hf_names, hf.hf_builder, hf.hf_source),
}
