"""The board as a reader meets it: sorted, filtered, linked to, safe against what entries say, and without a network."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import entries
import pytest
from chromium import Page
from entries import TASK, URL
from typer.testing import CliRunner

from multistep_bench.cli import app
from multistep_bench.errors import BenchError
from multistep_bench.leaderboard.fresh import FIRST_SEED, fresh_test
from multistep_bench.leaderboard.notes import ControlRun, FreshCell, Reproduction, RerunCell
from multistep_bench.leaderboard.rerun import start_of
from multistep_bench.leaderboard.site import build as site
from multistep_bench.leaderboard.site.build import Built, build
from multistep_bench.leaderboard.site.ranks import rank_spans
from multistep_bench.leaderboard.site.table import board_of
from multistep_bench.leaderboard.submission import submit
from multistep_bench.leaderboard.verify import verify
from multistep_bench.runs.events import event_line
from multistep_bench.runs.store import RUN_FILE, Run, read_run
from multistep_bench.scoring.run import score_run
from multistep_bench.scoring.statistics import Interval

MARKUP = "</script><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} \"'&"
OTHER_TASK = "two_step_glyphs-v1"
SUITES = f"""
[[suite]]
name = "digits"
title = "Digits"
summary = "One task."
protocol = "quick"
tasks = ["{TASK}"]

[[suite]]
name = "both"
title = "Two tasks"
summary = "Two tasks, in seconds."
protocol = "smoke"
tasks = ["{TASK}", "{OTHER_TASK}"]
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The references under "digits"; under "both" a fast entry of two tasks, a slow one, an open and a large one."""
    folder = tmp_path_factory.mktemp("site")
    board = entries.make_board(folder / "board")
    (board / "suites.toml").write_text(SUITES)
    runs = [
        entries.make_run(folder / "a", noise=1, jump=0.1),
        entries.make_run(folder / "b", noise=2, jump=0.2, task=OTHER_TASK),
    ]
    submit(runs, "fast", URL, board=board)
    entries.make_entry(board, "slow", noise=3, jump=0.8, changes={"protocol.seeds": 10})
    entries.make_entry(board, "free", noise=4, jump=0.5, changes={"protocol.weight_decay": 0.0}, declared_open=True)
    entries.make_entry(board, "large", noise=5, jump=None, parameters=20_000_000)
    entries.make_entry(board, "false", noise=6)
    entries.edit_entry_file(board / "entries" / "false", lambda content: content.update(track="open"))
    (board / "entries" / "<img src=x onerror=alert(1)>").mkdir()
    return board


@pytest.fixture(scope="module")
def built(board: Path) -> Built:
    return build(board)


def test_entries_are_ranked_by_q_in_their_track_and_a_missing_task_counts_0(built: Built) -> None:
    both = built.tables[1]
    assert [row.entry.name for row in both.rows] == ["fast", "slow", "large", "free"]
    assert [row.rank_label for row in both.rows] == ["1", "2", "3", "open 1"]
    fast, slow, _, free = both.rows
    assert slow.q < free.q < fast.q  # and an open entry outranks no fixed one
    assert fast.overall.missing_tasks == ()
    assert free.overall.missing_tasks == (OTHER_TASK,)
    only = free.standings[TASK].score.grid.profile
    assert only is not None
    assert free.q == pytest.approx(only.estimate / 2)
    assert [row.seeds_mark for row in both.rows] == ["*", "†", "*", "*"]
    assert [row.size for row in both.rows] == ["≤ 100 k", "≤ 100 k", "> 10 M", "≤ 100 k"]


def test_the_cost_of_a_eureka_moment_is_that_of_the_median_tuned_cell(built: Built) -> None:
    standing = built.tables[1].rows[1].standings[TASK]  # slow: five of ten cells jump at 0.8 of 3,200 samples
    assert standing.samples == pytest.approx(0.8 * 3200, rel=0.05)
    assert standing.samples is not None
    assert standing.flops == 3 * 2000 * standing.samples
    assert standing.seconds == pytest.approx(0.8 * 25, rel=0.05)
    assert built.tables[1].rows[2].standings[TASK].samples is None  # large: none jumps


def test_false_and_hostile_entries_are_left_out_and_named(built: Built) -> None:
    assert set(built.refused) == {"false", "<img src=x onerror=alert(1)>"}
    assert "it is of the fixed track and says open" in built.refused["false"]
    page = built.index.read_text()
    assert "&lt;img src=x onerror=alert(1)&gt;</strong> does not verify" in page
    assert "<img" not in page
    assert not (built.index.parent / "entries" / "false.html").exists()


def test_copies_are_refused_both_and_a_stale_page_goes(board: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(board, tmp_path / "board"))
    build(copy)
    stolen = Path(shutil.copytree(copy / "entries" / "slow", copy / "entries" / "thief"))
    entries.sign(stolen, name="thief")
    again = build(copy)
    assert f"{TASK}/rate0-seed0 shares a curve with thief: {TASK}/rate0-seed0" in again.refused["slow"]
    assert f"{TASK}/rate0-seed0 shares a curve with slow: {TASK}/rate0-seed0" in again.refused["thief"]
    assert not (copy / "site" / "entries" / "slow.html").exists()


@pytest.mark.parametrize("many", [1, 100])
def test_the_same_entries_give_the_same_pages_in_processes_or_not(
    board: Path, built: Built, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    files = {path: path.read_bytes() for path in built.index.parent.rglob("*.html")}
    readme = (board / "README.md").read_text()
    monkeypatch.setattr(site, "MANY", many)
    build(board)
    assert {path: path.read_bytes() for path in built.index.parent.rglob("*.html")} == files
    assert (board / "README.md").read_text() == readme


def test_the_readme_holds_the_tables_and_keeps_its_own_text(built: Built, board: Path) -> None:
    readme = (board / "README.md").read_text()
    assert readme.startswith("# Leaderboard\n")
    table = board_of(readme)
    assert "### Two tasks, protocol `smoke`" in table
    assert re.search(r"\| open 1 \| `free` \| 0\.\d{3} \[.*\| open \| re-scored \| 1\.0k \| 2\\\* \| 1/2 \|", table)
    (board / "README.md").write_text("# mine\n")
    with pytest.raises(BenchError, match="lacks the line"):
        build(board)
    (board / "README.md").write_text(readme)


def test_the_committed_readme_is_that_of_the_committed_entries(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(entries.ROOT / "leaderboard", tmp_path / "leaderboard"))
    built = build(copy)
    assert built.refused == {}
    assert (copy / "README.md").read_text() == (entries.ROOT / "leaderboard" / "README.md").read_text()


def test_the_command_builds_and_exits_1_if_an_entry_is_left_out(board: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(board, tmp_path / "board"))
    shown = CliRunner().invoke(app, ["leaderboard", "build", "--board", str(copy)])
    assert shown.exit_code == 1
    assert "left out false: it is of the fixed track and says open" in shown.output
    assert "Two tasks: 4 entries" in shown.output
    shutil.rmtree(copy / "entries")
    assert CliRunner().invoke(app, ["leaderboard", "build", "--board", str(copy)]).exit_code == 0
    wrong = CliRunner().invoke(app, ["leaderboard", "build", "--board", str(tmp_path / "no")])
    assert isinstance(wrong.exception, BenchError)


def test_pages_ask_for_nothing_outside_themselves(built: Built) -> None:
    for path in built.index.parent.rglob("*.html"):
        page = path.read_text()
        assert "default-src 'none'" in page
        links = set(re.findall(r"(?:src|href)\s*=\s*[\"']?([^\"'\s>]*)", re.sub(r"&\S+;", "", page)))
        assert {link for link in links if ":" in link or link.startswith("/")} <= {"data:,", URL}
        assert page.count("<script") == (path == built.index)


def opened(page: Page, address: str) -> Page:
    page.open("about:blank")  # so that another fragment alone loads the page anew
    page.open(address)
    return page


def texts(page: Page, selector: str) -> list[str]:
    """What a reader sees of the elements, none of a hidden one."""
    script = f"""JSON.stringify([...document.querySelectorAll({json.dumps(selector)})]
        .filter(e => e.offsetParent !== null).map(e => e.textContent.trim().split(/\\s+/).join(" ")))"""
    return json.loads(page.evaluate(script))


def names(page: Page) -> list[str]:
    return texts(page, "tbody th a")


def choose(page: Page, id: str, value: str) -> None:
    page.evaluate(
        f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('change')); }})"
        f"(document.getElementById({json.dumps(id)}))"
    )


def test_the_page_loads_without_an_error_or_an_outside_request(page: Page, built: Built) -> None:
    for path in (built.index, built.index.parent / "entries" / "fast.html"):
        opened(page, path.as_uri())
        wrong = ("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening")
        assert [event for event in page.events if event["method"] in wrong] == []
        requests = [
            event["params"]["request"]["url"] for event in page.events if event["method"] == "Network.requestWillBeSent"
        ]
        assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
        ids = json.loads(page.evaluate("JSON.stringify([...document.querySelectorAll('[id]')].map(e => e.id))"))
        assert len(set(ids)) == len(ids)


def test_suites_and_tasks_choose_the_columns(page: Page, built: Built) -> None:
    opened(page, built.index.as_uri())
    assert "vit" in names(page)
    assert "p tuned" in texts(page, "thead th")
    choose(page, "suite", "both")
    assert names(page) == ["fast", "slow", "large", "free"]
    assert texts(page, "thead th")[4:6] == [TASK, OTHER_TASK]  # all tasks: one column each
    assert "p tuned" not in texts(page, "thead th")
    choose(page, "task", OTHER_TASK)
    assert texts(page, "thead th").count("p tuned") == 1
    assert texts(page, "tbody tr:nth-child(4) td")[3:5] == ["missing", "–"]


def test_filters_leave_the_rows_that_match_and_say_how_many(page: Page, built: Built) -> None:
    opened(page, f"{built.index.as_uri()}#suite=both")
    assert texts(page, "#count") == ["4 entries"]
    choose(page, "track", "open")
    assert (names(page), texts(page, "#count")) == (["free"], ["1 of 4 entries"])
    choose(page, "track", "")
    choose(page, "size", "> 10 M")
    assert names(page) == ["large"]
    choose(page, "tier", "reproduced")
    assert names(page) == []


def test_a_heading_sorts_by_the_keyboard(page: Page, built: Built) -> None:
    opened(page, f"{built.index.as_uri()}#suite=both&task={TASK}")
    page.evaluate("document.querySelector('#suite-both th.of-0[data-key=samples] button').focus()")
    page.press("Enter", "\r")
    assert names(page)[:3] == ["fast", "free", "slow"]
    page.press("Enter", "\r")
    assert names(page) == ["slow", "free", "fast", "large"]  # what has no value stays last
    heading = "document.querySelector('#suite-both th.of-0[data-key=samples]')"
    assert page.evaluate(f"{heading}.ariaSort") == "descending"
    assert page.evaluate("document.querySelectorAll('#suite-both [aria-sort]').length") == 1


def test_every_view_is_a_link(page: Page, built: Built) -> None:
    opened(page, f"{built.index.as_uri()}#suite=both")
    choose(page, "task", TASK)
    choose(page, "size", "≤ 100 k")
    page.evaluate("document.querySelector('#suite-both th.of-0[data-key=samples] button').click()")
    page.evaluate("document.querySelector('#suite-both th.of-0[data-key=samples] button').click()")
    shown, address = names(page), page.evaluate("location.href")
    assert shown == ["slow", "free", "fast"]
    opened(page, address)
    assert names(page) == shown
    assert page.evaluate("document.getElementById('task').value") == TASK
    opened(page, f"{built.index.as_uri()}#suite=<b>&task=x&size=y&sort=z&entry=w")  # what means nothing is ignored
    assert "vit" in names(page)


def test_an_entry_has_a_page_with_curves_cells_and_the_command(page: Page, built: Built) -> None:
    opened(page, f"{built.index.as_uri()}#suite=both")
    page.follow("[...document.querySelectorAll('tbody a')].find(a => a.textContent === 'fast').click()")
    assert page.evaluate("document.title").startswith("fast")
    assert texts(page, "h2") == ["Over tasks", f"{TASK} protocol smoke", f"{OTHER_TASK} protocol smoke", "Re-runs"]
    assert page.evaluate("document.querySelectorAll('svg.chart').length") == 2
    assert page.evaluate("document.querySelectorAll('svg.chart polyline').length") == 4
    script = "JSON.stringify([...document.querySelectorAll('g title')].map(e => e.textContent))"
    titles = json.loads(page.evaluate(script))
    assert titles[1] == "seed 1, no Eureka-moment"
    assert titles[0].startswith("seed 0, Eureka-moment at 3")
    assert "mstep-bench reproduce leaderboard/entries/fast --fresh 9 --by NAME" in texts(page, "pre code")
    assert page.evaluate("document.querySelector('dd a').getAttribute('href')") == URL


def test_markup_in_every_text_of_an_entry_is_shown_as_text(page: Page, tmp_path: Path) -> None:
    """Whatever may hold free text holds markup: nothing of it becomes an element, nothing runs."""
    board = entries.make_board(tmp_path / "board")
    (board / "suites.toml").write_text(SUITES)
    spec = entries.make_spec(model="my_card", config={"x": MARKUP, MARKUP: [MARKUP]})
    task = spec.task.model_copy(update={"title": MARKUP, "summary": MARKUP, "source": MARKUP})
    run = entries.make_run(tmp_path / "run", spec=spec.model_copy(update={"task": task}))
    whole, other = read_run(run).records
    broken = replace(other, status="failed", reason=MARKUP)
    (run / RUN_FILE).write_bytes(Run(run, read_run(run).spec, [whole, broken]).packed)
    folder = submit([run], "markup", URL, board=board).folder
    verdict = verify(folder)
    entry, scored = verdict.entry, verdict.score
    assert entry is not None
    assert scored is not None
    record = entry.runs[0].records[0]
    final = score_run(entry.runs[0]).cells[0].curve
    note = Reproduction(
        by=MARKUP,
        date="2026-01-01",
        root=entry.root,
        versions={MARKUP: MARKUP},
        hardware={MARKUP: MARKUP},
        cells=(
            RerunCell(
                task=TASK,
                cell=record.cell.name,
                record_sha256=record.sha256,
                same_stack=True,
                bit_equal=True,
                same_items=True,
                start=(start_of(record), start_of(record)),
                eureka=(final.eureka, final.eureka),
                final_accuracy=(final.final_accuracy, final.final_accuracy),
            ),
        ),
        control=ControlRun(task=TASK, cell=record.cell.name, best=0.2, limit=0.671875),
        fresh=fresh_test(
            scored,
            [
                FreshCell(task=TASK, rate_index=0, seed_index=FIRST_SEED + i, eureka=final.eureka, final_accuracy=0.9)
                for i in range(4)
            ],
        ),
    )
    (folder / "reproductions.jsonl").write_text(event_line(note))
    built = build(board)
    assert [len(row.notes) for row in built.tables[1].rows] == [1]
    for path in (built.index, built.index.parent / "entries" / "markup.html"):
        opened(page, path.as_uri())
        wrong = ("Runtime.exceptionThrown", "Log.entryAdded", "Page.javascriptDialogOpening")
        assert [event for event in page.events if event["method"] in wrong] == []
        assert page.evaluate("document.querySelectorAll('img, iframe, b, [onclick], [onerror]').length") == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 0
    assert page.evaluate("document.body.textContent").count(MARKUP) >= 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index.html", "entries/fast.html"])
def test_text_stands_out_in_both_themes(page: Page, built: Built, scheme: str, name: str) -> None:
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    opened(page, (built.index.parent / name).as_uri())
    colour = "getComputedStyle(document.querySelector('{}')).{}.match(/\\d+/g).slice(0, 3).map(Number)"
    paper = luminance(page.evaluate(colour.format("body", "backgroundColor")))
    assert (paper > 0.5) is (scheme == "light")
    for selector in ("p", "small", "a", "select" if name == "index.html" else "svg text"):
        ink = luminance(page.evaluate(colour.format(selector, "fill" if "svg" in selector else "color")))
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, selector


def luminance(colour: list[int]) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["index.html", "entries/fast.html"])
def test_nothing_is_wider_than_the_screen(page: Page, built: Built, width: int, name: str) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    opened(page, (built.index.parent / name).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_reference_of_older_code_says_so_on_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "two_step_digits-v1/quick/vit_tau"
    monkeypatch.setattr("multistep_bench.leaderboard.references.older_code", lambda: frozenset({name}))
    entries.forget_references()
    try:
        built = build(entries.make_board(tmp_path / "board"))
    finally:
        entries.forget_references()
    readme = (tmp_path / "board" / "README.md").read_text(encoding="utf-8")
    assert "`vit_tau` (reference of older code)" in readme
    assert "`vit` (reference) " in readme
    assert "reference of older code" in built.index.read_text(encoding="utf-8")
    assert "reference of older code" in (built.index.parent / "entries" / "vit_tau.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("view", ["suite=digits", "suite=both", f"suite=both&task={TASK}"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_a_table_fits_its_screen(page: Page, built: Built, width: int, view: str) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    opened(page, "about:blank")
    opened(page, f"{built.index.as_uri()}#{view}")
    table = "[...document.querySelectorAll('section.suite')].find((each) => !each.hidden).querySelector('.scroll')"
    assert page.evaluate(f"{table}.scrollWidth - {table}.clientWidth") <= 0
    if width == 1920:
        assert page.evaluate(f"{table}.clientWidth") > 1700  # uses the screen


def test_columns_are_chosen_and_stay_in_the_link(page: Page, built: Built) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)
    opened(page, f"{built.index.as_uri()}#suite=both&task={TASK}")
    shown = texts(page, "thead th")
    assert {"p tuned", "samples to Eureka", "FLOPs to Eureka"} <= set(shown)
    assert not {"p grid", "size", "track", "time to Eureka"} & set(shown)
    for name in ("grid", "cost"):
        page.evaluate(f"document.querySelector('#columns input[value={name}]').click()")
    chosen = texts(page, "thead th")
    assert {"p grid", "S grid", "A grid"} <= set(chosen)
    assert "samples to Eureka" not in chosen
    address = page.evaluate("location.href")
    opened(page, "about:blank")
    opened(page, address)
    assert texts(page, "thead th") == chosen


def test_an_empty_filter_says_so_and_resets(page: Page, built: Built) -> None:
    opened(page, "about:blank")
    opened(page, f"{built.index.as_uri()}#suite=both&size=> 10 M&tier=reproduced")
    assert names(page) == []
    assert texts(page, "#empty") == ["No entry of this suite fits these filters. Reset the filters"]
    page.evaluate("document.getElementById('reset').click()")
    assert names(page) == ["fast", "slow", "large", "free"]
    assert texts(page, "#empty") == []


def test_ranks_and_stars_are_explained_below_their_table(page: Page, built: Built) -> None:
    opened(page, "about:blank")
    opened(page, f"{built.index.as_uri()}#suite=both")
    notes = " ".join(texts(page, "section.suite .note"))
    assert "Behind a rank stands the span of ranks that chance leaves" in notes
    assert "* behind the number of seeds: few seeds a learning rate; an entry needs 10, a claim of rank 20." in notes
    assert "Wall-clock, which depends on the machine, stands on an entry’s own page." in notes


def test_a_phone_has_cards(page: Page, built: Built) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    opened(page, "about:blank")
    opened(page, f"{built.index.as_uri()}#suite=both&track=open")
    cell = "document.querySelector('#suite-both tbody tr:not([hidden]) td')"
    assert page.evaluate(f"getComputedStyle({cell}, '::before').content") == '"rank"'
    assert names(page) == ["free"]
    opened(page, (built.index.parent / "entries" / "fast.html").as_uri())  # a page without a script
    for section in (1, 2):  # over tasks, and the first task
        table = f"document.querySelector('section:nth-of-type({section}) table')"
        cells = f"[...{table}.tBodies[0].rows[0].querySelectorAll('td')]"
        shown = page.evaluate(f"{cells}.map(cell => getComputedStyle(cell, '::before').content.slice(1, -1))")
        assert shown == page.evaluate(f"[...{table}.tHead.rows[0].cells].map(cell => cell.textContent)")[1:]
        assert len(shown) >= 6
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    inside = "[...document.querySelectorAll('.scroll')].every(box => box.scrollWidth <= box.clientWidth)"
    assert page.evaluate(inside)


def test_rank_spans_by_hand() -> None:
    spans = rank_spans(
        [
            Interval(0.9, 0.8, 0.95),
            Interval(0.5, 0.3, 0.7),
            Interval(0.45, 0.35, 0.6),  # overlaps the one above
            Interval(0.1, 0.0, 0.2),  # 0.45 − 0.1 > √(0.1² + 0.1²), 0.5 − 0.1 > √(0.2² + 0.1²)
        ]
    )
    assert spans == [(1, 1), (2, 3), (2, 3), (4, 4)]
    assert rank_spans([Interval(0.5, 0.4, 0.6)]) == [(1, 1)]
    # Only the ends that face one another count: 0.6 − 0.5 against √(0.05² + 0.05²), however far the others reach.
    assert rank_spans([Interval(0.6, 0.55, 0.99), Interval(0.5, 0.01, 0.55)]) == [(1, 1), (2, 2)]
    assert rank_spans([Interval(0.6, 0.2, 0.65), Interval(0.5, 0.45, 0.9)]) == [(1, 2), (1, 2)]
