"""The report as a reader meets it: whole, self-contained, safe against hostile names, usable with a keyboard."""

import json
import re
from pathlib import Path

import pytest
import records
from chromium import Page

from multistep_bench.errors import BenchError
from multistep_bench.reporting.plots import PLOTS
from multistep_bench.reporting.report import write_report
from multistep_bench.runs.store import Run, read_run
from multistep_bench.scoring.compare import compare
from multistep_bench.scoring.score import score

HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)> \"&amp;' {{ 7*7 }}"
REASON = "RuntimeError: <b onclick=alert(2)>out of luck</b>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    plain: dict[tuple[int, int], records.Counts | records.Ended] = {
        (0, 0): records.jump(0.3),
        (0, 1): records.flat(),
        (0, 2): records.jump(0.1),
        (1, 0): records.jump(0.6),
        (1, 1): records.Ended("failed", [100, 300], reason=REASON),
    }
    changes = {"model.attention": "heat it", "protocol.learning_rates": [1e-3, 2e-3]}
    made = [
        records.make_run(folder / "plain", plain, seeds=3),
        records.make_run(folder / "hostile", plain, seeds=3, model=HOSTILE, changes=changes),
        records.make_run(folder / "short", plain, seeds=3, model="short", protocol={"budget": 50_000}),
    ]
    return [read_run(path) for path in made]


@pytest.fixture(scope="module")
def report(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(runs, score(runs), tmp_path_factory.mktemp("report") / "new" / "report.html")


def test_the_file_asks_for_nothing_outside_itself(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w", page)  # no address at all, not even a namespace
    links = set(re.findall(r"(?:src|href)\s*=\s*[\"']?([^\"'\s>]*)", re.sub(r"&\S+;", "", page)))
    assert {link for link in links if not link.startswith("#")} <= {"data:,", "x"}  # x: the escaped hostile name


def test_hostile_text_is_escaped(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert "<img" not in page
    assert "<b onclick" not in page
    assert "{{ 7*7 }}" in page


def test_the_same_runs_give_the_same_report(runs: list[Run], report: Path, tmp_path: Path) -> None:
    again = write_report(runs, score(runs), tmp_path / "again.html")
    assert again.read_bytes() == report.read_bytes()


@pytest.mark.parametrize(
    ("seeds", "note"),
    [
        (9, "9 seeds per learning rate; an entry needs 10, a claim of rank 20."),
        (10, "10 seeds per learning rate; a claim of rank needs 20."),
        (20, None),
    ],
)
def test_few_seeds_are_noted(seeds: int, note: str | None, tmp_path: Path) -> None:
    run = read_run(records.make_run(tmp_path / "run", {(0, i): records.flat() for i in range(seeds)}))
    page = write_report([run], score([run]), tmp_path / "report.html").read_text(encoding="utf-8")
    assert ("per learning rate;" in page) == (note is not None)
    assert note is None or note in page


def test_runs_of_several_tasks_are_named_with_their_task(runs: list[Run], tmp_path: Path) -> None:
    other = read_run(records.make_run(tmp_path / "other", {(0, 0): records.flat()}, task={"id": "other-v1"}))
    page = write_report([runs[0], other], score([runs[0], other]), tmp_path / "both.html").read_text(encoding="utf-8")
    assert "<h1>vit on steps-v1 quick and other-v1 quick</h1>" in page
    assert page.count(">task</button>") == 4  # the scores, both tables of numbers, the cells
    assert "vit on other-v1 quick: 1 seed per learning rate; an entry needs 10, a claim of rank 20." in page
    assert "<h3>other-v1 quick</h3>" in page
    assert "Not compared: the two runs cannot be compared: task steps-v1 against other-v1;" in page


def test_a_wrong_ending_or_place_is_one_sentence(runs: list[Run], tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"'report.pdf'; end the name in .html"):
        write_report(runs, score(runs), tmp_path / "report.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"report.html cannot be written: .*; choose another place"):
        write_report(runs, score(runs), tmp_path / "file" / "report.html")


@pytest.fixture(scope="module")
def page(page: Page, report: Path) -> Page:
    page.open(report.as_uri())
    return page


def texts(page: Page, selector: str) -> list[str]:
    found = page.evaluate(
        f"JSON.stringify([...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent.trim()))"
    )
    return json.loads(found)


def test_the_page_loads_without_an_error_or_an_outside_request(page: Page, report: Path) -> None:
    problems = [event for event in page.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")] + [
        event for event in page.events if event["method"] == "Page.javascriptDialogOpening"
    ]
    assert problems == []
    requests = [
        event["params"]["request"]["url"] for event in page.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    ids = page.evaluate("JSON.stringify([...document.querySelectorAll('[id]')].map(e => e.id))")
    assert len(set(json.loads(ids))) == len(json.loads(ids)) > 20
    assert page.evaluate("document.querySelectorAll('img, iframe, object, embed, b, [onclick], [onerror]').length") == 0


def test_the_page_shows_every_section_score_and_cell(page: Page, runs: list[Run]) -> None:
    assert texts(page, "h2") == [
        "Summary",
        "Models compared",
        "Curves",
        "Survival",
        "By learning rate",
        "Other thresholds",
        "Every cell",
        "How to reproduce",
    ]
    assert texts(page, "[aria-label='Effects'] tbody th") == ["vit", HOSTILE]
    assert texts(page, "[aria-label='Summary of runs'] tbody th")[:2] == ["vit", HOSTILE]
    assert texts(page, "[aria-label='Summary of runs'] tr:nth-child(1) td")[0] == "3 of 6"
    alone = " The only comparison on its task, so no p-value is corrected."
    assert texts(page, ".sentences p") == [compare(runs[1], runs[0]).sentence() + alone]
    (left_out,) = texts(page, ".left-out li")
    assert left_out.startswith("Not compared: short is the only run on steps-v1 quick (card ")
    assert left_out.endswith(", budget 50,000)")
    assert any("of 6 cells 1 failed, 1 missing" in note for note in texts(page, ".notes li"))
    assert len(texts(page, "#curves svg")) == 6  # three runs at two rates
    assert [len(texts(page, f"#{section} svg")) for section in ("compare", "survival", "rates", "robustness")] == [
        1,
        1,
        2,
        2,
    ]
    assert len(texts(page, "#cells tbody tr")) == 18
    assert texts(page, "#cells tr.problem td.text") == [f"failed: {REASON}", "missing"] * 3
    assert len(texts(page, "#robustness tbody tr")) == 12
    assert json.loads(texts(page, "#reproduce details details code")[0]) == runs[0].spec.dump()
    command = texts(page, "#reproduce code")[2]
    assert "--task steps-v1" in command
    assert "--set 'model.attention=\"heat it\"' --set 'protocol.learning_rates=[0.001, 0.002]'" in command


def test_curves_name_levels_events_and_cells(page: Page) -> None:
    first = "#curves .group:first-child figure:first-child svg"
    assert {"chance", "shortcut", "threshold", "ceiling", "rate 1e-3   ★ 2/3"} <= set(texts(page, f"{first} text"))
    assert texts(page, f"{first} title") == [
        "seed 0, Eureka-moment at 30,000, final accuracy 0.950",
        "seed 1, no Eureka-moment, final accuracy 0.550",
        "seed 2, Eureka-moment at 10,000, final accuracy 0.950",
    ]
    labels = page.evaluate("[...document.querySelectorAll('svg')].every(e => e.getAttribute('aria-label').length > 10)")
    assert labels is True


def test_a_table_is_sorted_by_the_keyboard(page: Page) -> None:
    columns = texts(page, "#cells thead th")
    number = columns.index("Eureka-moment, samples") + 1
    shown = f"#cells tbody td:nth-child({number})"
    page.evaluate(f"document.querySelector('#cells thead th:nth-child({number}) button').focus()")
    page.press("Enter", "\r")
    times = ["5,000", "10,000", "10,000", "15,000", "30,000", "30,000", "30,000", "60,000", "60,000"]
    assert texts(page, shown) == [*times, *["–"] * 9]
    assert page.evaluate(f"document.querySelector('#cells th:nth-child({number})').ariaSort") == "ascending"
    page.press("Enter", "\r")
    assert texts(page, shown) == [*reversed(times), *["–"] * 9]  # what has no value stays last
    assert page.evaluate(f"document.querySelector('#cells th:nth-child({number})').ariaSort") == "descending"
    assert page.evaluate("document.querySelectorAll('#cells [aria-sort]').length") == 1
    page.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == columns[number]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_curves_stand_out_in_both_themes(page: Page, scheme: str) -> None:
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    colour = "getComputedStyle(document.querySelector('{}')).{}.match(/\\d+/g).slice(0, 3).map(Number)"
    paper = luminance(page.evaluate(colour.format("body", "backgroundColor")))
    assert (paper > 0.5) is (scheme == "light")
    selectors = {"p": 7, "svg text": 4.5, "small": 4.5, "a": 4.5, "tr.problem td": 4.5, "summary": 4.5}
    for selector, least in selectors.items():
        ink = luminance(page.evaluate(colour.format(selector, "fill" if "svg" in selector else "color")))
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= least, selector


def luminance(colour: list[int]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(page: Page, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_report_of_a_task_scored_by_its_loss_speaks_of_no_accuracy(tmp_path: Path) -> None:
    run = read_run(records.make_run(tmp_path / "run", {(0, 0): records.fall(0.3)}, task=records.LOSS_TASK))
    page = write_report([run], score([run]), tmp_path / "report.html").read_text()
    assert "ccuracy" not in re.sub("final_accuracy", "", page)
    assert page.count("final loss") >= 5
    assert "Loss over training samples" in page
    assert "seed 0, Eureka-moment at 30,000, final loss 1.500" in page


def test_auxiliary_measurements_have_a_figure_each(tmp_path: Path) -> None:
    curves = {(0, 0): records.flat(), (1, 0): records.flat()}
    further = {"hop 1": [950] * 101, "<b>hop 2": [550] * 101}
    run = read_run(records.make_run(tmp_path / "run", curves, auxiliary=further))
    page = write_report([run], score([run]), tmp_path / "report.html").read_text(encoding="utf-8")
    for name in ("hop 1", "&lt;b&gt;hop 2"):
        assert f'aria-label="Accuracy curves of vit, steps-v1 quick, {name}"' in page
    assert "<b>" not in page
    assert re.findall(r'<section id="(\w+)">', page)[1:-2] == [
        plot.kind for plot in PLOTS if not plot.options and plot.needs in ("", "auxiliary measurements")
    ]
    assert page.count("not scored") == 1
    assert re.findall(r"</i>(rate [\de-]+)<", page) == ["rate 1e-3", "rate 2e-3"]
    plain = read_run(records.make_run(tmp_path / "plain", curves))
    assert "not scored" not in write_report([plain], score([plain]), tmp_path / "plain.html").read_text()
