"""Task generators: rules that draw batches, one package for each family."""

BUILTIN = {  # name → the module that registers it
    "indicator": "multistep_bench.generators.tiles.indicator",
    "same_colour": "multistep_bench.generators.tiles.same_colour",
    "position": "multistep_bench.generators.tiles.position",
    "colour_or_garment": "multistep_bench.generators.tiles.colour_or_garment",
    "two_sources": "multistep_bench.generators.tiles.two_sources",
    "n_step": "multistep_bench.generators.tiles.n_step",
    "gaussian_episodes": "multistep_bench.generators.in_context.gaussian_episodes",
    "image_episodes": "multistep_bench.generators.in_context.image_episodes",
    "lookup": "multistep_bench.generators.in_context.lookup",
    "markov": "multistep_bench.generators.in_context.markov",
    "two_hop": "multistep_bench.generators.in_context.two_hop",
    "compositional_recall": "multistep_bench.generators.in_context.compositional_recall",
    "trigger": "multistep_bench.generators.in_context.trigger",
    "path_star": "multistep_bench.generators.in_context.path_star",
    "window_sum": "multistep_bench.generators.arithmetic.window_sum",
    "parity": "multistep_bench.generators.arithmetic.parity",
    "agreement": "multistep_bench.generators.masked.agreement",
    "text_mlm": "multistep_bench.generators.masked.text_mlm",
}

# Those that count an answer as right for its class of tokens (`TaskGenerator.correct`), not for the target alone.
RIGHT_BY_CLASS = {"agreement"}
