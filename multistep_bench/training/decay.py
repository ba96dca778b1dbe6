"""Which parameters weight decay acts on: told by their shape and their module, never by their name."""

from torch import nn

NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)


def decayed_names(model: nn.Module) -> set[str]:
    """Names of the parameters that decay.

    These are the trainable ones of two or more dimensions, except those of norms and those that the model or a module
    in it leaves out by `no_weight_decay()`, a method that returns names (positions, a class token). So biases, gains
    and other vectors do not decay, whatever they are called.
    """
    excluded: set[int] = set()
    for module in model.modules():
        if isinstance(module, NORMS):
            excluded.update(id(parameter) for parameter in module.parameters(recurse=False))
        named = dict(module.named_parameters())
        excluded.update(id(named[name]) for name in getattr(module, "no_weight_decay", tuple)() if name in named)
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.ndim >= 2 and id(parameter) not in excluded
    }


def embedding_names(model: nn.Module) -> set[str]:
    """Names of the weights of embeddings."""
    held = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in held}
