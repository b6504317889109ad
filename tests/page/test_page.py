"""Each part of the page, clicked through in a real browser."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.page.conftest import HOSTILE, Site, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE = 60_000  # milliseconds: a worker that starts on a busy machine takes its time


def row(tab: Page, key: str) -> str:
    return f'#rows .row:has(.key:has-text("{key}"))'


def test_the_flow_lives_and_files_come_by_themselves(tab: Page, site: Site) -> None:
    tab.click("nav >> text=Flow")
    tab.wait_for_selector(row(tab, "orders/good.csv"), timeout=PATIENCE)
    before = int(tab.text_content("tspan[data-live='orders.done']") or "-1")
    tab.evaluate("window.isSamePage = true")
    site.drop("orders/late.csv", "id,total\n9,9\n")
    tab.wait_for_selector(row(tab, "orders/late.csv"), timeout=PATIENCE)
    tab.wait_for_function(
        "before => Number(document.querySelector(\"tspan[data-live='orders.done']\").textContent) > before",
        arg=before, timeout=PATIENCE,
    )  # fmt: skip
    assert tab.evaluate("window.isSamePage"), "the page was loaded again, where only its numbers had changed"
    assert tab.text_content("[data-live=engine]") == "the engine runs"
    assert "silver" in (tab.text_content(row(tab, "orders/late.csv")) or "")
    tab.click("nav >> text=Overview")
    assert tab.locator(".plot").count() == 3
    tab.click(".tabs >> text=24 hours")
    assert "24 hours" in (tab.text_content(".plot-throughput") or "")


def test_a_file_s_story(tab: Page) -> None:
    tab.click("nav >> text=Files")
    tab.wait_for_selector(row(tab, "orders/mixed.csv"), timeout=PATIENCE)
    tab.wait_for_load_state()  # the row is there before the script that listens to the keyboard
    tab.keyboard.press("/")
    tab.keyboard.type("orders/mixed.csv")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("h1:has-text('orders/mixed.csv')")
    text = tab.inner_text("main")
    assert "total is positive" in text
    assert "Silver rows: 1 of 1 row" in text
    assert "3 rows read, 1 written, 2 rejected" in text
    assert [each for each in ("bucket", "rule", "topic", "queue", "function") if each not in text] == []


def test_a_search_that_is_no_key_finds_those_that_begin_so(tab: Page) -> None:
    tab.click("nav >> text=Files")
    tab.wait_for_selector(row(tab, "orders/good.csv"), timeout=PATIENCE)
    tab.fill("#search", "orders/")
    tab.press("#search", "Enter")
    tab.click("main >> text=orders/good.csv")
    tab.wait_for_selector("h1:has-text('orders/good.csv')")


def test_failures_are_grouped_and_tried_again(tab: Page, site: Site) -> None:
    tab.wait_for_selector(".verdict.bad:has-text('dead-letter')", timeout=PATIENCE)
    tab.click("nav >> text=Failures")
    assert "not mended yet" in tab.inner_text("main")
    assert "UnreadableCsv" in tab.inner_text("main")
    (site.folder / "mended").touch()
    cause = tab.locator(".cause", has_text="not mended yet")
    cause.locator("a.button").click()
    assert "bug/one.csv" in tab.inner_text("main")
    assert "orders/broken.csv" not in tab.inner_text("main")
    tab.click("button.main")
    tab.wait_for_selector("text=1 failure tried again")
    tab.click("nav >> text=Files")
    tab.wait_for_selector('#rows .row:has(.key:has-text("bug/one.csv")):has(.state.silver)', timeout=PATIENCE)
    assert not (site.folder / "lake/.silversmith/logs/page.log").read_text()


def test_a_transform_and_the_pattern_tester(tab: Page) -> None:
    tab.click("nav >> text=Files")
    tab.wait_for_selector(row(tab, "orders/good.csv"), timeout=PATIENCE)
    tab.click("nav >> text=Transforms")
    tab.click("main >> text=orders")
    text = tab.inner_text("main")
    assert "def orders(rows: pl.LazyFrame)" in text
    assert "total is positive" in text
    assert "+ id: Int64" in text
    tab.click("nav >> text=Pattern tester")
    tab.fill("#text", "orders/may.txt")
    tab.click("button.main")
    assert "the key does not end with .csv" in tab.inner_text("main")
    event = '{"detail-type": "Object Deleted", "source": "aws.s3", "detail": {"bucket": {"name": "dl-bronze-layer"}, '
    tab.fill("#text", event + '"object": {"key": "orders/may.csv"}}}')
    tab.click("button.main")
    assert "detail-type" in tab.inner_text(".answers")


def test_a_table_and_the_file_that_a_row_came_from(tab: Page) -> None:
    tab.click("nav >> text=Tables")
    tab.wait_for_selector("h1:has-text('Tables')")
    deadline = time.monotonic() + PATIENCE / 1000
    while "nothing yet" in tab.inner_text("main") and time.monotonic() < deadline:
        tab.reload()
    assert tab.evaluate(CONTRAST) == []
    tab.click("main >> text=orders")
    link = "main td a:has-text('orders/')"
    while tab.locator(link).count() == 0 and time.monotonic() < deadline:
        tab.reload()
    assert tab.evaluate(CONTRAST) == []
    key = tab.locator(link).first.inner_text()
    tab.locator(link).first.click()
    tab.wait_for_selector(f"h1:has-text('{key}')")
    assert "Silver rows" in tab.inner_text("main")


DROP = """([name, text, target]) => {
    const given = new DataTransfer();
    given.items.add(new File([text], name));
    const act = (kind) => document.querySelector(target)
        .dispatchEvent(new DragEvent(kind, {dataTransfer: given, bubbles: true, cancelable: true}));
    act("dragover");
    const seen = document.querySelector("#targets").hidden;
    act("drop");
    return seen;
}"""


def test_a_file_is_dropped_on_its_transform_and_taken_back(tab: Page, site: Site) -> None:
    place = site.folder / "lake/dl-bronze-layer/orders/dropped é.csv"
    hidden = tab.evaluate(DROP, ["dropped é.csv", "id,total\n5,5\n", "#targets li[data-prefix='orders/']"])
    assert hidden is False, "the targets are where the pointer is"
    tab.wait_for_selector("#puts .good:has-text('dropped é.csv')", timeout=PATIENCE)
    tab.wait_for_selector(row(tab, "dropped é.csv"), timeout=PATIENCE)
    silver = site.folder / "lake/dl-silver-layer/orders/orders/dropped é.csv.parquet"
    assert place.is_file()
    assert silver.is_file()
    tab.click("#puts button:has-text('Undo')")
    tab.wait_for_selector("#puts li:has-text('was taken out of bronze again')", timeout=PATIENCE)
    assert not place.exists()
    assert not silver.exists()


def test_a_file_is_chosen_and_put(tab: Page, site: Site, tmp_path: Path) -> None:
    large = tmp_path / "large.csv"
    large.write_text("id,total\n" + "1,2.5\n" * 2_000_000)
    tab.click("#put-open")
    tab.select_option("#put-transform", label="orders: orders/*.csv")
    assert tab.input_value("#prefix") == "orders/"
    tab.set_input_files("#chosen", large)
    tab.click("#put-now")
    tab.wait_for_selector("#puts .good:has-text('large.csv')", timeout=PATIENCE)
    assert (site.folder / "lake/dl-bronze-layer/orders/large.csv").stat().st_size == large.stat().st_size
    assert list((site.folder / "lake/.silversmith/scratch").glob("page-*")) == []


def test_a_file_dropped_elsewhere_asks_for_the_transform(tab: Page) -> None:
    tab.evaluate(DROP, ["asked.csv", "id,total\n5,5\n", "#targets .other"])
    tab.wait_for_selector("#put-dialog[open]")
    assert tab.inner_text("#put-names") == "asked.csv"
    tab.select_option("#put-transform", label="fragile: bug/*.csv")
    assert tab.input_value("#prefix") == "bug/"
    tab.click("#put-dialog >> text=Leave it")
    assert tab.locator("#put-dialog[open]").count() == 0


def test_every_view_lives(tab: Page, site: Site) -> None:
    """A file that fails is seen, without a reload, in the files, in its own story, and among the failures."""
    browser = tab.context
    site.drop("orders/live.csv", "id,total\n1,1\n")
    tab.wait_for_selector(row(tab, "orders/live.csv"), timeout=PATIENCE)
    views = {
        "/files": "#rows .row:has(.key:has-text('orders/live.csv')) .state.quarantined",
        "/file?key=orders/live.csv": ".state.quarantined",
        "/failures": ".cause:has-text('orders/live.csv')",
        "/": ".causes:has-text('orders/live.csv')",
        "/transforms": ".cards",
    }
    for path, broken in views.items():
        page = browser.new_page()
        page.goto(site.root + path)
        page.evaluate("window.isSamePage = true")
        site.drop("orders/live.csv", "id\n1\n")
        if path != "/transforms":
            page.wait_for_selector(broken, timeout=PATIENCE)
        site.drop("orders/live.csv", "id,total\n2,2\n")
        if path != "/transforms":
            page.wait_for_selector(broken, state="detached", timeout=PATIENCE)
        assert page.evaluate("window.isSamePage"), path
        page.close()


def test_output_of_functions_and_rules_as_they_are_written(tab: Page) -> None:
    tab.click("nav >> text=Files")
    tab.wait_for_selector(row(tab, "orders/mixed.csv"), timeout=PATIENCE)
    tab.click("nav >> text=Logs")
    tab.wait_for_selector("pre.log:has-text('<b>orders</b> are read')", timeout=PATIENCE)
    tab.click("nav >> text=Transforms")
    tab.click("main >> text=orders")
    assert 'pl.col("total") > 0' in tab.inner_text(".rules")
    assert "%" in tab.inner_text(".rules td[data-of='passed today']")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_when_the_engine_ends_the_page_says_so_and_stays(browser: Browser, tmp_path: Path, number: int) -> None:
    with running(tmp_path) as site, browser.new_context() as context:
        tab = context.new_page()
        tab.goto(site.url)
        site.drop("orders/good.csv", "id,total\n1,2.5\n")
        tab.wait_for_selector(row(tab, "orders/good.csv"), timeout=PATIENCE)
        site.engine.send_signal(number)
        tab.wait_for_selector("#banner:has-text('The engine ended')", timeout=PATIENCE)
        site.engine.wait(30)
        tab.click("nav >> text=Files")
        assert tab.url == f"{site.root}/", "a link would lead nowhere"
        assert tab.locator(row(tab, "orders/good.csv")).is_visible()
        assert tab.inner_text("[data-live=engine]") == "the engine ended"


def test_files_are_sorted_and_have_a_state(tab: Page) -> None:
    tab.click("nav >> text=Files")
    assert tab.inner_text(row(tab, "orders/mixed.csv") + " .state") == "partial"
    tab.click(".head >> text=rejected")
    tab.wait_for_selector("[aria-sort=descending]:has-text('rejected')")
    assert "orders/mixed.csv" in tab.inner_text("#rows .row:first-child")
    tab.click(".head >> text=key")
    tab.wait_for_selector("[aria-sort=ascending]:has-text('key')")
    keys = [key.lower() for key in tab.locator("#rows .key").all_inner_texts()]
    assert keys == sorted(keys)


def test_hostile_keys_and_contents_are_text(tab: Page, site: Site) -> None:
    tab.click("nav >> text=Files")
    tab.wait_for_selector(row(tab, "onerror"), timeout=PATIENCE)
    assert "\\u202ecsv" in tab.inner_text(row(tab, "onerror") + " .key")
    tab.click(row(tab, "onerror") + " .key a")
    tab.wait_for_selector("h1:has-text('onerror')")
    assert "\u202e" not in tab.inner_text("main")
    assert "<script>" in tab.inner_text("main"), "the rejected cell, as text"
    assert "owned" not in tab.title().partition("=")[0]
    assert tab.locator("main img, main script").count() == 0
    assert HOSTILE in {path.relative_to(site.folder / "lake/dl-bronze-layer").as_posix()
                       for path in (site.folder / "lake/dl-bronze-layer").rglob("*.csv")}  # fmt: skip


PATHS = (
    "/",
    "/flow",
    "/files",
    "/failures",
    "/transforms/orders",
    "/file?key=orders/broken.csv",
    "/file?key=orders/mixed.csv",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough_everywhere(tab: Page, site: Site, scheme: str) -> None:
    """https://www.w3.org/TR/WCAG22/#contrast-minimum"""
    tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    tab.click("nav >> text=Files")
    tab.wait_for_selector(row(tab, "orders/broken.csv"), timeout=PATIENCE)
    for path in PATHS:
        tab.goto(site.root + path)
        assert tab.evaluate(CONTRAST) == [], path


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_nothing_is_wider_than_the_screen(tab: Page, site: Site, width: int) -> None:
    tab.click("nav >> text=Files")
    tab.wait_for_selector(row(tab, "orders/broken.csv"), timeout=PATIENCE)
    tab.set_viewport_size({"width": width, "height": 900})
    for path in PATHS:
        tab.goto(site.root + path)
        assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
    tab.goto(f"{site.root}/flow")
    assert tab.locator(".upright").is_visible() == (width < 960), "the flow stands upright where it is narrow"
    key = tab.locator(row(tab, "orders/") + " .key a").first
    assert key.evaluate("each => each.offsetWidth >= each.scrollWidth - 1"), "the key is whole"
    assert tab.locator(".legend").is_visible() == tab.locator(".list .way").first.is_visible(), (
        "no colours without bars"
    )
    tab.goto(f"{site.root}/logs")
    inside = "each => (box => box.left >= 0 && box.right <= innerWidth + 1)(each.getBoundingClientRect())"
    assert tab.locator(".top [aria-current]").evaluate(inside), "the header shows where one is"
    tab.goto(site.root)
    left = "text => text.getBoundingClientRect().left - text.closest('svg').getBoundingClientRect().left"
    assert min(text.evaluate(left) for text in tab.locator(".plot .axis").all()) >= 0, (
        "the numbers of the axes are whole"
    )


def test_it_is_operable_by_the_keyboard_and_has_names(tab: Page) -> None:
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"
    assert tab.locator("header, main, footer, nav").count() >= 4
    assert tab.locator("h1").count() == 1
    unnamed = (
        "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')].filter(e => !e.labels.length)"
    )
    assert tab.evaluate(f"{unnamed}.length") == 0
    tab.emulate_media(reduced_motion="reduce")
    moving = "[...document.querySelectorAll('*')].some(e => getComputedStyle(e).animationName !== 'none')"
    assert tab.evaluate(moving) is False


#: Every text whose colour does not stand out from the ground behind it, in HTML.
CONTRAST = """() => {
  const numbers = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const found = numbers(getComputedStyle(each).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *:not(svg *)")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.getClientRects().length) continue;
    const [one, other] = [light(numbers(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) poor.push(`${element.className} ${element.textContent.trim().slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""
