"""The report in a real browser."""

import re

import pytest
from click.testing import CliRunner
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from tests.browser.page import DESK, PHONE
from tests.tools.stories import CLIENTS, EMPTY, RULES, story

from ipvs_model.tools.commands.replay import command
from ipvs_model.tools.explain import Explainer
from ipvs_model.tools.pcap import Capture
from ipvs_model.tools.walk import as_text

NASTY = "<img src=x onerror=alert(1)>&amp;.pcap"
LOSER = "203.0.113.2:40002"


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / NASTY
    path.write_bytes(story())
    return path


@pytest.fixture(scope="module")
def report(capture):
    rules, report = capture.parent / "rules", capture.parent / "report.html"
    rules.write_text(RULES)
    done = CliRunner().invoke(command, [str(capture), "--rules", str(rules), "--report", str(report)])
    assert done.exit_code == 0, done.output
    return report


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_it_is_quiet_offline_narrow_and_readable(page, report, size, dark):
    assert page.open(report, size=size, dark=dark).faults() == []


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_it_stays_so_when_everything_is_open(page, report, size):
    page.open(report, size=size, dark=True)
    page.run("document.querySelectorAll('details').forEach((one) => (one.open = true)); document.querySelector('[data-example]').click()")
    assert len(page.texts(".events li")) > 50
    assert page.faults() == []


def test_texts_of_files_are_texts(page, report):
    page.open(report)
    assert page.all("img") == [] and "<img src=x onerror=alert(1)>&amp;.pcap" in page.one("h1").text
    assert page.all("pre")[1].text == RULES.strip()


def life(page, client):
    """A connection of the time line, in the middle of the window."""
    return page.show(f".life[data-life='{page.texts('.life').index(next(text for text in page.texts('.life') if text.startswith(client)))}']")


def test_a_click_on_a_connection_opens_its_walk(page, report, capture):
    page.open(report)
    client = f"203.0.113.{CLIENTS}:{40000 + CLIENTS}"
    ActionChains(page.driver).move_to_element_with_offset(life(page, client), 300, 0).click().perform()
    assert page.texts("#walk h3") == [f"Connection of {client}"]
    assert [text.partition("\n")[0] for text in page.texts(".life.chosen")] == [client]
    record = int(re.search(r"Record (\d+)", page.one("#walk").text)[1])
    assert [tuple(page.texts(f"#walk .events li .{part}")) for part in ("phase", "function", "words")] == list(zip(*explained(capture, record), strict=True))


def explained(capture, record):
    """Phase, function and words of each event of a packet, as `explain` prints them."""
    explainer = Explainer(RULES)
    with Capture(capture) as packets:
        text = next(as_text(walk) for walk in map(explainer.packet, packets) if walk.number == record)
    return re.findall(r"^   \d+\.\d+ +(\S+) +(\S+) +(.*)$", text, re.MULTILINE)


def test_the_connection_that_lost_a_packet_is_open_first(page, report):
    page.open(report)
    assert page.texts("#walk h3") == [f"Connection of {LOSER}"]
    assert page.texts("#walk .fate.lost") == ["lost"]


def test_a_click_on_a_packet_of_the_picture_opens_its_step(page, report):
    page.open(report)
    assert page.texts("#walk details[open] .when") == ["9.000000 s"]
    page.show("#walk .jump.lost").click()
    assert page.texts("#walk details[open] .when") == ["9.000000 s", "10.000000 s"]


def by_button(page):
    page.one("[data-zoom=in]").click()


def by_key(page):
    page.one("#timeline").send_keys("+")


def by_wheel(page):
    place = page.run("const box = arguments[0].getBoundingClientRect(); return {x: box.left + 9, y: box.top + 9}", page.one("#axis"))
    wheel = {"type": "mouseWheel", "deltaX": 0, "deltaY": -100, "modifiers": 2}
    page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", place | wheel)


def bands(page):
    """Left edge and width of each state band of the connection that was left open."""
    row = life(page, "203.0.113.3:40003")
    return page.run("return [...arguments[0].querySelectorAll('rect:has(title)')].map((one) => [one.x.baseVal.value, one.width.baseVal.value])", row)


@pytest.mark.parametrize("zoom", [by_button, by_key, by_wheel])
def test_it_can_be_zoomed(page, report, zoom):
    page.open(report)
    page.show("#timeline")
    before, axis = bands(page), page.one("#axis").text
    page.show("#timeline")
    zoom(page)
    assert bands(page) != before and page.one("#axis").text != axis
    page.one("[data-zoom=capture]").click()
    assert bands(page) == before and page.one("#axis").text == axis


def test_dragging_moves_the_time_and_opens_nothing(page, report):
    page.open(report)
    page.one("[data-zoom=in]").click()
    before, chosen = page.one("#axis").text.split(), page.texts("#walk h3")
    assert before[0] == "100"
    ActionChains(page.driver).move_to_element(life(page, "203.0.113.3:40003")).click_and_hold().move_by_offset(250, 0).release().perform()
    assert page.one("#axis").text.split()[0] == "50"  # a quarter of 200 s earlier, and a little
    assert page.texts("#walk h3") == chosen


def test_a_band_ends_when_its_timer_would_fire(page, report):
    page.open(report)
    room = page.one(".life svg").size["width"]
    (_, established, until_timer) = bands(page)
    assert sum(established) == pytest.approx(room, abs=1) and sum(until_timer) > room
    page.one("[data-zoom=timers]").click()
    (_, established, until_timer) = bands(page)
    assert sum(established) == pytest.approx(until_timer[0], abs=0.1)
    # it was heard of last at 18.6 s, and ESTABLISHED is 900 s
    assert sum(until_timer) / sum(established) == pytest.approx(918.6 / 400, rel=0.01)


def test_search_filters_table_and_time_line(page, report):
    page.open(report)
    everything = len(page.texts("#table tbody tr"))
    assert everything == len(page.texts(".life"))
    field = page.one("#search")
    field.send_keys("203.0.113.2: 8080")
    assert [text.split()[0] for text in page.texts("#table tbody tr")] == ["203.0.113.2:0", LOSER]
    assert [text.split()[0] for text in page.texts(".life")] == ["203.0.113.2:0", LOSER]
    assert page.one("#found").text == f"2 of {everything}"
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("lost")
    assert len(page.texts("#table tbody tr")) == CLIENTS // 2
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.DELETE)
    assert len(page.texts("#table tbody tr")) == everything


def test_a_row_of_the_table_opens_the_walk(page, report):
    page.open(report)
    page.show("#table tbody button").click()
    assert page.texts("#walk h3") == ["Template of 203.0.113.1:0"]
    assert "time passes" in page.texts("#walk .what")


def test_the_first_packet_of_a_loss_is_explained_at_a_click(page, report):
    page.open(report)
    page.show("#fates tr.lost button").click()
    assert EMPTY in page.one("#example summary").text
    assert "the scheduler found no destination" in page.one("#example .told").text


def test_the_legend_of_a_chart_follows_the_pointer(page, report):
    page.open(report)
    picture = page.show("figure svg")
    assert sum(map(int, page.texts("figure:first-child .legend b"))) == CLIENTS + 1
    ActionChains(page.driver).move_to_element_with_offset(picture, 50 - picture.size["width"] // 2, 0).perform()
    assert sum(map(int, page.texts("figure:first-child .legend b"))) <= 1


def test_a_capture_without_connections_makes_a_page_too(page, tmp_path):
    (tmp_path / "rules").write_text(RULES)
    (tmp_path / "nothing.pcap").write_bytes(story()[:24])
    report = tmp_path / "report.html"
    done = CliRunner().invoke(command, [str(tmp_path / "nothing.pcap"), "--rules", str(tmp_path / "rules"), "--report", str(report)])
    assert done.exit_code == 0, done.output
    assert page.open(report, size=PHONE).faults() == []
    assert page.one("#lives").text == "No connection was made."
