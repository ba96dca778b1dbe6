"""The table "What we can say" of baselines/README.md: the claims of results/claims.toml, decided by the committed runs.

It stands between the lines `<!-- claims -->` and `<!-- end -->`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from multistep_bench.errors import BenchError
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.claims import Finding, Name, findings, names, read_claims

CLAIMS = "results/claims.toml"  # not beside the cards, every one of which is a baseline
EFFECTS = {"faster": "ΔS", "likelier": "Δp", "more accurate": "ΔA", "no difference": "ΔS", "no plateau": "time"}
COLUMNS = ("claim", "task", "protocol", "n", "effect", "p", "verdict", "command")

_BLOCK = re.compile(r"^<!-- claims -->\n(.*?)^<!-- end -->$", re.DOTALL | re.MULTILINE)


def replace_claims(text: str, folder: Path, paths: Sequence[Path], where: str) -> str:
    """The text of a page with its claims decided anew; as it was where the folder declares none.

    folder: of the baselines. paths: of all reference runs. where: the page, for errors.
    Raises `BenchError` where claims are declared and the page has not one place for them, or the reverse.
    """
    declared, places = folder / CLAIMS, len(_BLOCK.findall(text))
    if not declared.is_file() and not places:
        return text
    if not declared.is_file() or places != 1:
        raise BenchError(
            f"{declared} and the lines `<!-- claims -->` and `<!-- end -->` of {where} belong together, once each;"
            " add what is missing or remove the other"
        )
    claims = read_claims(declared)
    table = "\n".join(claims_table(findings(claims, shipped_runs(paths, names(claims)))))
    return _BLOCK.sub(lambda _: f"<!-- claims -->\n\n{table}\n\n<!-- end -->", text)


def shipped_runs(paths: Iterable[Path], wanted: set[Name]) -> dict[Name, Run]:
    """The wanted reference runs, by task, protocol and model, without those of a changed model or protocol."""
    places = {(path.parts[-3], path.parts[-2], path.stem): path for path in paths}
    runs = {name: read_run(places[name]) for name in sorted(wanted & places.keys())}
    return {name: run for name, run in runs.items() if not run.spec.changes}


def claims_table(found: Sequence[Finding]) -> Iterator[str]:
    """A row a finding."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for finding in found:
        yield f"| {' | '.join(_cells(finding))} |"


def _cells(finding: Finding) -> list[str]:
    claim, effect = finding.claim, finding.effect
    sizes = f"{finding.n}, {finding.n_reference}" if finding.n_reference else str(finding.n)
    name = EFFECTS[claim.rule]
    sign = "+" if claim.reference else ""
    return [
        claim.text,
        f"`{finding.task}`",
        finding.protocol,
        sizes if finding.n else "–",
        f"{name} {effect.estimate:{sign}.2f} [{effect.low:{sign}.2f}, {effect.high:{sign}.2f}]" if effect else "–",
        "–" if finding.p is None else f"{finding.p:.2g}",
        f"**{finding.verdict}**",
        f"`{_command(finding)}`",
    ]


def _command(finding: Finding) -> str:
    """What makes the row again from the committed curves, or trains the runs that it lacks."""
    claim = finding.claim
    models = [claim.model, *([claim.reference] if claim.reference else [])]
    if finding.verdict == "not tested":
        trained = f"mstep-bench run --task {finding.task} --protocol {finding.protocol} --model"
        return "; ".join(f"{trained} {model}" for model in models)
    files = " ".join(f"results/{finding.task}/{finding.protocol}/{model}.jsonl" for model in models)
    return f"mstep-bench {'compare' if len(models) > 1 else 'score'} {files}"
