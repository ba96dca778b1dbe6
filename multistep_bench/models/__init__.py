"""Models that ship with the suite, and how any other one is built."""

BUILTIN = {  # name → the module that registers it
    "vit": "multistep_bench.models.vit",
    "vit_oracle": "multistep_bench.models.oracle",
    "sequence_oracle": "multistep_bench.models.sequence_oracle",
    "resnet9": "multistep_bench.models.resnet",
    "resnet18": "multistep_bench.models.resnet",
    "resnet34": "multistep_bench.models.resnet34",
    "sequence": "multistep_bench.models.sequence",
    "gated_vit": "multistep_bench.models.gated",
    "gated_sequence": "multistep_bench.models.gated",
}
