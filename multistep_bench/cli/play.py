"""The command with which a person plays a task in the terminal: `play`."""

import sys
from typing import Annotated, Any

import typer

from multistep_bench import cards
from multistep_bench.cli.app import RootOption, TrustOption, app
from multistep_bench.errors import BenchError
from multistep_bench.printable import LINES
from multistep_bench.reporting.terminal import say


@app.command()
def play(
    task: Annotated[str, typer.Argument(help="A task's id, or the path of a card.")] = cards.DEFAULT_TASK,
    mode: Annotated[str, typer.Option(help="classify, foveate or sequential.")] = "foveate",
    episodes: Annotated[int, typer.Option("--episodes", "-n", min=1, help="Episodes to play.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the episodes.")] = 0,
    data_root: RootOption = None,
    trusted: TrustOption = None,
) -> None:
    """Play a few episodes of a task in the terminal: look, answer, and compare with the shortcut."""
    from gymnasium import error

    from multistep_bench.gym.single import TaskEnv

    card = cards.load_task(task)
    try:
        env = TaskEnv(task, mode, render_mode="ansi", data_root=data_root)
    except error.Error as problem:
        raise BenchError(str(problem)) from problem
    say(f"{card.title}. {card.summary}")
    say(_instructions(env))
    scores: list[float] = []
    try:
        for number in range(episodes):
            scores.append(_episode(env, number, seed))
    except (EOFError, KeyboardInterrupt):
        say("Goodbye.")
    info = env.core.task_info
    shortcut = "" if info.shortcut is None else f", the shortcut reaches {info.shortcut:.2f}"
    mean = f"{sum(scores) / len(scores):.2f} over {len(scores)} episodes" if scores else "no episode finished"
    say(f"Your mean return: {mean}. Chance is {info.chance:.2f}{shortcut}, the ceiling is {info.ceiling:.2f}.")


def _instructions(env: Any) -> str:
    names = [f"{k} = {env.core.task.token_name(k)}" for k in range(env.core.task_info.num_classes)]
    answers = f"Answers: {', '.join(names)}."
    if env.core.mode == "foveate":
        looks = ", ".join(env.core.places)
        return f"Type 'look PLACE' or an answer's number. Places: {looks}. {answers}"
    if env.core.mode == "sequential":
        return f"One place is shown a step; Enter goes on, and only the answer at the last one counts. {answers}"
    return f"Type an answer's number. {answers}"


def _episode(env: Any, number: int, seed: int) -> float:
    """One episode; raises EOFError at the end of the input."""
    env.reset(seed=seed if number == 0 else None)
    total, over = 0.0, False
    say(f"Episode {number + 1}")
    while not over:
        say(env.render(), keep=LINES)
        _, reward, terminated, truncated, _ = env.step(_action(env))
        total, over = total + reward, terminated or truncated
    right = int(env.core.right_answers[0])
    say(f"Return {total:g}; the answer was {right}.")
    return total


def _action(env: Any) -> int:
    """The next action read from standard input; asks again until it is one."""
    core = env.core
    places = {name: number for number, name in enumerate(core.places)} if core.mode == "foveate" else {}
    while True:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        words = line.split()
        if core.mode == "sequential" and not words:
            return 0
        if len(words) == 2 and words[0] == "look" and words[1] in places:
            return places[words[1]]
        if len(words) == 1 and words[0].isdecimal() and int(words[0]) < core.task_info.num_classes:
            return core.looks + int(words[0])
        say(f"'{line.strip()}' is no action. {_instructions(env)}")
