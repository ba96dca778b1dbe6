"""The commands of the leaderboard: `submit`, `verify`, `reproduce`, `check-model`, and `leaderboard` with its own."""

from pathlib import Path
from typing import Annotated

import typer

from multistep_bench.cards import DEFAULT_PROTOCOL, DEFAULT_TASK
from multistep_bench.cli.app import JsonOption, RootOption, RunFolders, TaskOption, TrustOption, app, changes_from
from multistep_bench.reporting.terminal import Terminal, print_json

board_app = typer.Typer(help="The board itself.", no_args_is_help=True)
app.add_typer(board_app, name="leaderboard")

BoardOption = Annotated[Path, typer.Option("--board", help="Folder of the board, with entries/ and suites.toml.")]
EntryArgument = Annotated[Path, typer.Argument(metavar="ENTRY", help="An entry's folder.")]
BOARD = Path("leaderboard")
FALSE, UNREADABLE = 1, 2


@app.command()
def submit(
    runs: RunFolders,
    name: Annotated[str, typer.Option(help="Name of the entry: lower-case letters, digits, _ and -.")],
    url: Annotated[str, typer.Option(help="Where its code or paper is: an https address.")],
    declared_open: Annotated[
        bool, typer.Option("--open", help="The recipe is not the protocol's: enter the open track.")
    ] = False,
    board: BoardOption = BOARD,
    as_json: JsonOption = False,
) -> None:
    """Make an entry for the leaderboard from runs of one model, and show what will be published."""
    from multistep_bench.leaderboard.submission import submit as make_entry

    made = make_entry(runs, name, url, declared_open=declared_open, board=board)
    if as_json:
        files = [str(path) for path in made.files]
        print_json({"folder": str(made.folder), "files": files, "bytes": made.size, **made.verdict.to_dict()})
        return
    from multistep_bench.leaderboard.console import print_submission

    print_submission(Terminal(), made)


@app.command("verify")
def verify_entry(
    entries: Annotated[list[Path], typer.Argument(metavar="ENTRY...", help="Folders of entries.")],
    data_root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check entries from their raw curves: exit code 1 where one is false, 2 where one cannot be read."""
    from multistep_bench.leaderboard.verify import verify

    verdicts = [verify(entry, among=entry.resolve().parent.parent, data_root=data_root) for entry in entries]
    if as_json:
        print_json([verdict.to_dict() for verdict in verdicts])
    else:
        from multistep_bench.leaderboard.console import print_verdict

        for verdict in verdicts:
            print_verdict(Terminal(), verdict)
    worst = max(0 if verdict.sound else FALSE if verdict.readable else UNREADABLE for verdict in verdicts)
    raise typer.Exit(worst)


@app.command()
def reproduce(
    entry: EntryArgument,
    by: Annotated[str, typer.Option(help="Your name, which signs the note that is written into the entry.")],
    cells: Annotated[
        int | None, typer.Option(min=1, help="Cells to train again [default: 10 % of the entry's, three at least]")
    ] = None,
    fresh: Annotated[
        int, typer.Option(min=0, help="Further cells, on seeds that nobody could know; they give the tier reproduced.")
    ] = 0,
    seed: Annotated[int | None, typer.Option(help="Seed of the choice of cells [default: unpredictable]")] = None,
    trust: Annotated[
        list[str] | None, typer.Option(help="package.module:name that the model may be built by; read it first.")
    ] = None,
    data_root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train cells of an entry again, and one on shuffled answers; compare, and write a note into the entry."""
    from multistep_bench.leaderboard.console import print_reproduction
    from multistep_bench.leaderboard.reproduce import reproduce as train_again

    done = train_again(entry, cells, by, fresh=fresh, seed=seed, trusted=trust or (), data_root=data_root)
    if as_json:
        note = done.note.model_dump(mode="json", by_alias=True)
        print_json(
            {
                **note,
                "disagreements": list(done.disagreements),
                "counts": done.counts,
                "fresh_needed": done.fresh_needed,
            }
        )
    else:
        print_reproduction(Terminal(), done)
    raise typer.Exit(FALSE if done.disagreements else 0)


@app.command("check-model")
def check_model(
    model: Annotated[str, typer.Argument(help="A model's name or card, timm/NAME, or package.module:build.")],
    task: TaskOption = DEFAULT_TASK,
    protocol: Annotated[str, typer.Option(help="One of the task's protocols.")] = DEFAULT_PROTOCOL,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="task., model., protocol. or recipe.KEY=VALUE.")
    ] = None,
    data_root: RootOption = None,
    trusted: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one cell on shuffled answers: an honest model stays at the shortcut; exit code 1 where it does not."""
    from multistep_bench.leaderboard.control import check_model as control

    done, honest = control(task, model, protocol, changes_from(settings or []), data_root)
    if as_json:
        print_json({**done.model_dump(mode="json"), "honest": honest})
    else:
        from multistep_bench.leaderboard.console import print_control

        print_control(Terminal(), done, honest)
    raise typer.Exit(0 if honest else FALSE)


@board_app.command()
def build(board: BoardOption = BOARD, as_json: JsonOption = False) -> None:
    """Verify and score every entry, and write the board: the table in README.md and the pages in site/."""
    from multistep_bench.leaderboard.site.build import build as build_site

    built = build_site(board)
    if as_json:
        print_json(built.to_dict())
    else:
        from multistep_bench.leaderboard.console import print_board

        print_board(Terminal(), built)
    raise typer.Exit(FALSE if built.refused else 0)


@board_app.command("check-pull")
def check_pull(
    changes: Annotated[Path, typer.Option(help="Output of `git diff --name-status -z --no-renames BASE...HEAD`.")],
    proposed: Annotated[Path, typer.Option(help="A checkout of the pull request; nothing in it is run.")],
    board: BoardOption = BOARD,
    maintained: Annotated[bool, typer.Option("--maintained", help="A maintainer allows whatever it changes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Verify the entry that a pull request proposes, and that it changes nothing else; exit code 1 if not so."""
    from multistep_bench.leaderboard.proposal import examine, read_changes

    proposal = examine(read_changes(changes), proposed, board, maintained=maintained)
    if as_json:
        print_json(proposal.to_dict())
    else:
        from multistep_bench.leaderboard.console import print_proposal

        print_proposal(Terminal(), proposal)
    raise typer.Exit(0 if proposal.sound else FALSE)
