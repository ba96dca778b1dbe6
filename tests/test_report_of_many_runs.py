"""A report of five models on four tasks: readable at once, on a laptop and a phone, by pointer, keyboard and touch."""

import json
from pathlib import Path

import pytest
import records
from chromium import Page

from multistep_bench.errors import BenchError, NotFound
from multistep_bench.reporting.report import write_report
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.against import compare_all
from multistep_bench.scoring.score import score

MODELS = {"vit": 3, "vit_fast": 10, "vit_like": 3, "vit_slow": 0, "a_model_with_a_long_name_of_many_words": 5}
TASKS = ("a-v1", "b-v1", "c-v1", "d-v1")
SEEDS = 10


def make(folder: Path, task: str, model: str, jumps: int) -> Run:
    curves = {(0, seed): records.jump(0.2) if seed < jumps else records.flat() for seed in range(SEEDS)}
    return read_run(records.make_run(folder / f"{task}-{model}", curves, model=model, task={"id": task}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    return [make(folder, task, model, jumps) for task in TASKS for model, jumps in MODELS.items()]


@pytest.fixture(scope="module")
def report(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(runs, score(runs), tmp_path_factory.mktemp("report") / "report.html", reference="vit")


@pytest.fixture
def page(page: Page, report: Path) -> Page:
    screen(page, 1280)
    page.open(report.as_uri())
    return page


def screen(page: Page, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)


def texts(page: Page, selector: str) -> list[str]:
    """The texts of what a reader sees of a selector."""
    script = (
        f"JSON.stringify([...document.querySelectorAll({json.dumps(selector)})].filter(e => e.checkVisibility())"
        ".map(e => e.innerText.replace(/\\s+/g, ' ').trim()))"
    )
    return json.loads(page.evaluate(script))


def test_the_matrix_stands_first_with_the_effect_of_each_model_on_each_task(page: Page, runs: list[Run]) -> None:
    rows = texts(page, "[aria-label='Effects'] tbody th")
    assert rows == list(MODELS)
    cells = texts(page, "[aria-label='Effects'] tbody td")
    assert len(cells) == len(MODELS) * len(TASKS)
    assert cells[0] == "reference S 0.240"
    effect = compare_all(score(runs).runs, "vit").tasks[0].against[0].effects["tuned"]["S"]
    assert cells[4].startswith(f"+0.56 ▲ faster [{effect.difference.low:+.2f}, {effect.difference.high:+.2f}] p ")
    assert cells[4].endswith(f", by Holm {effect.corrected_p:.2g}")
    assert cells[8].startswith("+0.00 [")
    assert "▲" not in cells[8]
    top = page.evaluate("document.querySelector(\"[aria-label='Effects']\").getBoundingClientRect().bottom")
    assert top < 900  # within the first screen
    assert "Holm's correction over the 4 comparisons of a task, for p, S and A apart" in texts(page, ".note")[0]


def test_every_p_value_in_a_sentence_stands_beside_its_correction(page: Page, report: Path) -> None:
    assert texts(page, ".sentences p") == []  # folded
    page.evaluate("document.querySelector('.sentences').open = true")
    sentences = texts(page, ".sentences p")
    assert len(sentences) == 4 * 4
    assert all(
        "p-values, corrected by Holm for the 4 comparisons on the task, are at tuned" in each for each in sentences
    )
    assert sentences[0].startswith("vit_fast reaches its Eureka-moment in 10/10 runs against 3/10 of vit (difference")


def test_five_models_on_four_tasks_are_no_scroll_of_metres(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollHeight") < 10_000
    assert page.evaluate("document.querySelectorAll('#curves svg').length") == 20
    assert texts(page, "#curves figure") == []  # folded, run by run
    page.evaluate("document.querySelector('#curves .folds button[value=open]').click()")
    assert len(texts(page, "#curves figure")) == 20
    page.evaluate("document.querySelector('#curves .folds button[value=close]').click()")
    assert texts(page, "#curves figure") == []


def test_a_model_is_hidden_and_shown_everywhere(page: Page) -> None:
    def rows(name: str) -> int:
        return sum(name in text for text in texts(page, "#summary tr, #cells tr, .legend span, #reproduce summary"))

    before = rows("vit_slow")
    assert before > 4 * (1 + SEEDS)
    series = (
        "[...document.querySelectorAll('#survival svg g[data-model]')]"
        ".filter(e => getComputedStyle(e).display !== 'none').length"
    )
    drawn = page.evaluate(series)
    page.evaluate("document.querySelector('.toggles input[value=model-3]').click()")
    assert rows("vit_slow") == 0
    assert rows("vit_fast") == rows("vit_like") > 0
    assert page.evaluate(series) == drawn * 4 // 5
    page.evaluate("document.querySelector('.toggles button[value=none]').click()")
    assert page.evaluate(series) == 0
    page.evaluate("document.querySelector('.toggles button[value=all]').click()")
    assert (rows("vit_slow"), page.evaluate(series)) == (before, drawn)


def test_a_curves_numbers_are_read_by_keyboard_and_by_touch(page: Page) -> None:
    page.evaluate("document.querySelector('#curves details').open = true")
    page.evaluate("document.querySelector('#curves figure').focus()")
    assert texts(page, "#curves figure:first-child output")[0] == "10 curves: tap one, or use the arrow keys"
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft"):
        page.call("Input.dispatchKeyEvent", type="keyDown", key=key)
    last = "seed 9, no Eureka-moment, final accuracy 0.550"
    assert texts(page, "#curves figure:first-child output")[0] == last
    place = json.loads(
        page.evaluate(
            "(() => { document.querySelector('#curves figure').scrollIntoView();"
            " const path = [...document.querySelectorAll('#curves figure:first-child g')]"
            ".filter(g => g.querySelector(':scope > title'))[1].querySelector('path');"
            " const point = path.getPointAtLength(path.getTotalLength() - 1).matrixTransform(path.getScreenCTM());"
            " return JSON.stringify([point.x - 3, point.y + 2]); })()"
        )
    )
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)
    # The three that jumped end on one another; the first of the nearest is named.
    assert "Eureka-moment at 20,000, final accuracy 0.950" in texts(page, "#curves figure:first-child output")[0]
    assert page.evaluate("document.querySelectorAll('g.chosen').length") == 1


def test_a_phone_shows_cards_with_a_name_beside_every_number(page: Page, report: Path) -> None:
    screen(page, 390)
    page.open(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert page.evaluate(wide) == 0
    cell = "document.querySelector(\"[aria-label='Summary of runs'] tbody td:nth-child({})\")"
    name = f"getComputedStyle({cell}, '::before').content"
    assert [page.evaluate(name.format(column)) for column in (2, 3, 8)] == [
        '"task"',
        '"Eureka-moments"',
        '"median time, samples"',
    ]
    assert page.evaluate("getComputedStyle(document.querySelector('#cells tbody tr')).display") == "block"


@pytest.mark.parametrize("width", [1280, 1920])
def test_names_are_broken_only_between_their_words(page: Page, report: Path, width: int) -> None:
    screen(page, width)
    page.open(report.as_uri())
    lines = page.evaluate(
        "(() => { const th = document.querySelector(\"[aria-label='Summary of runs'] tbody tr:nth-child(5) th\");"
        " const rows = {}; const range = document.createRange();"
        " for (const node of th.childNodes) { if (node.nodeType !== 3) continue;"
        " for (let i = 0; i < node.length; i++) { range.setStart(node, i); range.setEnd(node, i + 1);"
        " const top = Math.round(range.getBoundingClientRect().top); rows[top] = (rows[top] || '') + node.data[i]; } }"
        " return JSON.stringify(Object.values(rows)); })()"
    )
    parts = json.loads(lines)
    assert "".join(parts) == "a_model_with_a_long_name_of_many_words"
    assert all(part.endswith("_") for part in parts[:-1])


def test_columns_of_time_say_their_unit(page: Page) -> None:
    headings = texts(page, "#cells thead th") + texts(page, "[aria-label='Summary of runs'] thead th")
    times = [
        heading.split(" ↕")[0] for heading in headings if any(word in heading for word in ("time", "Eureka-moment,"))
    ]
    assert times == ["Eureka-moment, samples", "median time, samples"]


def test_another_reference_is_taken_and_an_unknown_one_refused(runs: list[Run], tmp_path: Path) -> None:
    page = write_report(runs, score(runs), tmp_path / "r.html", reference="vit_slow").read_text(encoding="utf-8")
    assert "Convergence speed against vit_slow" in page
    with pytest.raises(NotFound, match=r"no run to compare with 'vit_slo'. Did you mean 'vit_slow'\?"):
        write_report(runs, score(runs), tmp_path / "r.html", reference="vit_slo")


def test_only_a_report_is_overwritten_unasked(runs: list[Run], tmp_path: Path) -> None:
    few, path = runs[:1], tmp_path / "index.html"
    path.write_text("<!doctype html><title>my own page</title>")
    with pytest.raises(BenchError, match=r"index.html is no report of mstep-bench; .* overwrite it with --force"):
        write_report(few, score(few), path)
    assert "my own page" in path.read_text()
    write_report(few, score(few), path, force=True)
    assert write_report(few, score(few), path).read_text(encoding="utf-8").count("<h1>vit on a-v1 quick</h1>") == 1


def test_two_variants_of_a_model_have_each_its_own_name_and_result(tmp_path: Path) -> None:
    variants = [
        read_run(
            records.make_run(
                tmp_path / rule,
                {(0, seed): records.jump(0.2) if seed < jumps else records.flat() for seed in range(3)},
                changes={"model.attention": rule},
            )
        )
        for rule, jumps in (("cosine", 3), ("linear", 0))
    ]
    page = write_report(variants, score(variants), tmp_path / "r.html").read_text(encoding="utf-8")
    over_tasks = page[page.index("Score over tasks") :].partition("</table>")[0]
    assert "vit · attention=cosine" in over_tasks
    assert "vit · attention=linear" in over_tasks
    assert "vit · attention=linear reaches its Eureka-moment in 0/3 runs against 3/3 of vit ·" in page
