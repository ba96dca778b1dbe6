"""Gymnasium environments over the task cards: the intermediate step becomes an action.

Importing this package registers an id for every card and imports no torch. Gymnasium 1.x reads no entry points; its
own way to name the module is
`gymnasium.make("multistep_bench.gym:multistep_bench/two_step_digits-v1", mode="foveate")`.
"""

NAMESPACE = "multistep_bench"


def register_envs() -> None:
    """Register an id for every task card, `multistep_bench/NAME-vN`; what is registered already stays as it is."""
    from gymnasium.envs.registration import register, registry

    from multistep_bench.cards import list_tasks

    for task in list_tasks():
        if (name := f"{NAMESPACE}/{task}") not in registry:
            register(
                id=name,
                entry_point="multistep_bench.gym.single:TaskEnv",
                vector_entry_point="multistep_bench.gym.vector:TaskVectorEnv",
                kwargs={"task": task},
            )


register_envs()
