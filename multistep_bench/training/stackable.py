"""Whether a model trains stacked as it trains alone: tried on two cells before any is trained so."""

import copy
import sys

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from multistep_bench.batch import Batch, Inputs
from multistep_bench.models.answers import obvious_logits
from multistep_bench.models.build import own_inputs
from multistep_bench.runs.spec import RunSpec
from multistep_bench.training.optimizers import why_not_stacked
from multistep_bench.training.randomness import own_randomness
from multistep_bench.training.stacked import attention_that_stacks, stack

TOLERANCE = 1e-3  # of the largest number of a tensor; float32 in another order of sums

Named = dict[str, torch.Tensor]


def why_not_stackable(spec: RunSpec, model: nn.Module, inputs: Inputs) -> str | None:
    """Why a model cannot be trained stacked, or None if it can; `inputs` are a small batch it takes."""
    if (reason := why_not_stacked(spec.protocol)) is not None:
        return reason
    if spec.model.recipe.gradient_rescaling is not None:
        return "its gradients are rescaled"
    if getattr(model, "uses_steps", False):
        return "it is shown the intermediate variables"
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
    if any(norm.track_running_stats for norm in norms):
        return "it keeps running statistics of its batches"
    device = next(model.parameters()).device
    with own_randomness(device):
        cells = [copy.deepcopy(model), _other_weights(model)]
        try:
            return _difference(cells, inputs)
        except Exception as error:  # control flow that depends on data, an operation without a batching rule, ...
            return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _other_weights(model: nn.Module) -> nn.Module:
    """A copy whose weights differ a little, as those of another seed do."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return other


def _difference(cells: list[nn.Module], inputs: Inputs) -> str | None:
    """What of two cells' forward and backward pass differs between stacked and alone, dropout left out."""
    for cell in cells:
        _set_modes(cell.train())
    both = stack([Batch(inputs, torch.zeros(1), {})] * len(cells)).inputs
    skeleton = copy.deepcopy(cells[0])
    parameters, buffers = stack_module_state(cells)

    def forward(parameters: Named, buffers: Named, inputs: Inputs) -> torch.Tensor:
        return obvious_logits(functional_call(skeleton, (parameters, buffers), (inputs,)))

    with attention_that_stacks(next(cells[0].parameters()).device):
        stacked = vmap(forward, randomness="different")(parameters, buffers, own_inputs(both))
    stacked.square().sum().backward()
    for index, cell in enumerate(cells):
        torch.manual_seed(0)
        alone = obvious_logits(cell(own_inputs(inputs)))
        torch.manual_seed(1)
        if not torch.equal(alone, obvious_logits(copy.deepcopy(cell)(own_inputs(inputs)))):
            return None  # it draws noise of its own, or counts: `rehearsal` has judged its state
        alone.square().sum().backward()
        if not _close(stacked[index], alone):
            return "its answers differ from those of a cell alone"
        for name, parameter in cell.named_parameters():
            theirs = parameters[name].grad
            if not _close(None if theirs is None else theirs[index], parameter.grad):
                return f"the gradients of {name} differ from those of a cell alone"
        for name, buffer in cell.named_buffers():
            if name not in buffers or not _close(buffers[name][index], buffer):
                return f"buffer {name} ends otherwise than in a cell alone"
    return None


def _set_modes(model: nn.Module) -> None:
    for module in model.modules():
        if _drops(module):
            module.eval()


def _close(ours: torch.Tensor | None, theirs: torch.Tensor | None) -> bool:
    if ours is None or theirs is None:
        some = ours if ours is not None else theirs
        return some is None or not some.any()
    if ours.shape != theirs.shape:
        return False
    if theirs.dtype == torch.bool:  # a mask that is a buffer; booleans have no difference
        return torch.equal(ours, theirs)
    scale = theirs.abs().max() if theirs.numel() and theirs.is_floating_point() else 1.0
    return bool(((ours - theirs).abs() <= TOLERANCE * scale + 1e-6).all())


def _drops(module: nn.Module) -> bool:
    """Whether it is dropout, of torch or of timm: that draws from one stream for a whole group, by design.

    timm takes seconds to import, and a model that has a part of it has imported it.
    """
    drop_path = getattr(sys.modules.get("timm.layers"), "DropPath", ())
    return isinstance(module, (nn.modules.dropout._DropoutNd, drop_path))
