"""The command line: parses, calls the library, prints. Heavy imports wait until a command needs them."""

import os
import sys
import traceback
from typing import Annotated, Any

import typer

from multistep_bench.cli.app import app
from multistep_bench.errors import BenchError
from multistep_bench.printable import LINES
from multistep_bench.reporting.terminal import prepare_streams, release_stdout, say

# isort: off
# Each registers its commands, which the help lists in this order.
from multistep_bench.cli import train, watch, results, runs, probe, pack, leaderboard  # noqa: F401
from multistep_bench.cli import baselines, catalogue, measure, play  # noqa: F401

# isort: on

DEBUG = "MULTISTEP_BENCH_DEBUG"  # in the environment, so that worker processes inherit it
ANYWHERE = ("--debug", "--version")  # options that may stand before or after the command
UNUSABLE = 2  # exit code of wrong usage or input

# The base of errors in arguments; typer takes it from click, or from a copy of its own.
_UsageProblem: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def main(arguments: list[str] | None = None) -> None:
    """Entry point; always ends in `SystemExit`. A `BenchError` becomes one sentence and exit code 2."""
    os.environ["MPLBACKEND"] = "agg"  # figures are files; the backend of a notebook need not be installed here
    prepare_streams()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        code = app(sorted(given, key=lambda each: each not in ANYWHERE), prog_name="mstep-bench", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except BenchError as error:
        if DEBUG in os.environ:
            say(traceback.format_exc().rstrip(), error=True, keep=LINES)
        else:
            say(f"error: {error}", error=True)
        sys.exit(UNUSABLE)
    except _UsageProblem as error:
        _say_usage(error)
        sys.exit(error.exit_code)
    except Exception:
        say(traceback.format_exc().rstrip(), error=True, keep=LINES)
        sys.exit(1)
    finally:
        release_stdout()


def _say_usage(problem: Any) -> None:
    """What is wrong with the arguments, and where the help is; the help itself where none were given."""
    if type(problem).__name__ == "NoArgsIsHelpError":
        problem.show()
        return
    context = getattr(problem, "ctx", None)
    command = context.command_path if context is not None else "mstep-bench"
    say(f"error: {problem.format_message()} ({command} --help)", error=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from multistep_bench import __version__

        say(f"mstep-bench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if debug:
        os.environ[DEBUG] = "1"
