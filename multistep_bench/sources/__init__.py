"""Where images and text come from."""

BUILTIN = {  # name → the module that registers it
    "digits": "multistep_bench.sources.images",
    "glyphs": "multistep_bench.sources.glyphs",
    "characters": "multistep_bench.sources.characters",
    "omniglot": "multistep_bench.sources.omniglot",
    "omniglot_full": "multistep_bench.sources.omniglot",
    "mnist": "multistep_bench.sources.mnist",
    "fashion_mnist": "multistep_bench.sources.mnist",
    "cifar10": "multistep_bench.sources.cifar10",
    "wikitext2_small": "multistep_bench.sources.text",
}
