"""A replay as one HTML page that works offline: tables written here, pictures and walks drawn by the page's own script from its own data.

The page is made of three files in `page/`: report.html with places for what is filled in, report.css, and report.js. Every text is escaped: names and
numbers come from captures and rules.
"""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from ipvs_model.addresses import format_endpoint
from ipvs_model.flags import KERNEL_VERSION
from ipvs_model.tools.lives import FIRST, Life, Lives
from ipvs_model.tools.report_data import as_script, by_service, colours, report_data
from ipvs_model.tools.result import OutcomeRow, Result, ServerRow

WENT: Final = {"on": "on", "director": "to the director itself", "nowhere": "nowhere"}
SERVER_HEADS: Final = "Server,Method,Weight,Connections,Share,Packets in,Packets out,Bytes in,Bytes out,Lost,Active,Inactive"
LIFE_HEADS: Final = "Client,Service,Server,State at the end,Began,Lasted,Packets,Lost"


def html_report(result: Result, lives: Lives) -> str:
    """The page, as text."""
    page = files("ipvs_model.tools") / "page"
    return Template(page.joinpath("report.html").read_text("utf-8")).substitute(
        style=page.joinpath("report.css").read_text("utf-8"),
        script=page.joinpath("report.js").read_text("utf-8"),
        data=as_script(report_data(result, lives)),
        capture=escape(result.capture),
        summary=escape(summary(result)),
        kernel=KERNEL_VERSION,
        tiles=_tiles(result, lives),
        notes=_list(result.notes, "notes"),
        servers="".join(_service(name, [result.servers[place] for place in places]) for name, places in by_service(result).items())
        or "<p>The rules have no server.</p>",
        followed=escape(_followed(result, lives)),
        connections=_lives(lives.lives),
        fates=_fates(result.outcomes, lives),
        left_out=_left_out(result),
        problems=f"<h3>Not readable</h3>{_list(result.problems, 'box')}" if result.problems else "",
        listing=escape(result.listing),
        rules=escape(result.rules),
    )


def summary(result: Result) -> str:
    """The replay in a sentence or two."""
    fed = result.client_packets + result.answers
    return (
        f"{result.records} records over {result.duration:.3f} s: {result.client_packets} client packets and {result.answers} answers were fed, "
        f"{result.emitted} packets left the director, {result.lost} of {fed} did not get through."
    )


def _tiles(result: Result, lives: Lives) -> str:
    tiles = (
        ("connections", lives.connections, ""),
        ("servers", len(result.servers), ""),
        ("packets fed", result.client_packets + result.answers, ""),
        ("packets lost", result.lost, "bad" if result.lost else ""),
        ("seconds", f"{result.duration:.1f}", ""),
    )
    return "".join(f'<div class="{kind}"><dt>{name}</dt><dd>{_number(value)}</dd></div>' for name, value, kind in tiles)


def _number(value: object) -> str:
    """A count with its thousands apart, a text escaped."""
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def _followed(result: Result, lives: Lives) -> str:
    entries = [life for life in lives.lives if not life.is_template]
    if len(entries) >= lives.connections:
        return f"All {len(entries):,} connections are shown."
    why = f"the first ones of each service, {FIRST} in all, and those that lost a packet" if result.lost else f"the first ones of each service, {FIRST} in all"
    return f"{len(entries):,} of {lives.connections:,} connections are shown, so that this page stays small: {why}."


# --- servers ------------------------------------------------------------------------------------------------------------
def _service(name: str, rows: Sequence[ServerRow]) -> str:
    cells = [
        (
            *(row.server, row.method, row.weight, row.connections, f"{row.share:.1%}"),
            *(row.inpkts, row.outpkts, row.inbytes, row.outbytes, row.lost, row.active, row.inactive),
        )
        for row in rows
    ]
    shares = _shares(rows) if any(row.connections for row in rows) else ""
    return f"<h3>{escape(name)}</h3>{shares}{_table(SERVER_HEADS, cells, text_columns=2)}"


def _shares(rows: Sequence[ServerRow]) -> str:
    """Bars of what each server got; a mark stands where its weight would have it."""
    weights = sum(row.weight for row in rows)
    bars = []
    for row, colour in zip(rows, colours(rows), strict=True):
        mark = f'<b style="left:{row.weight / weights:.2%}" title="share of the weight: {row.weight / weights:.1%}"></b>' if weights else ""
        bar = f'<i style="width:{row.share:.2%};background:var(--c{colour})"></i>{mark}'
        bars.append(f'<span>{escape(row.server)}</span><span class="bar">{bar}</span><span class="much">{row.share:.1%}</span>')
    return f'<div class="shares">{"".join(bars)}</div><p class="sub">Share of the connections; the mark is the share of the weight.</p>'


# --- connections --------------------------------------------------------------------------------------------------------
def _lives(lives: Sequence[Life]) -> str:
    """The table that is searched; its rows are found by number."""
    rows = "".join(
        f'<tr data-life="{number}"{" class=lost" if life.lost else ""}><td class="t"><button type="button" class="plain">{_client(life)}</button></td>'
        f"{_cells('td', (life.service, life.server, _state(life), f'{life.began:.3f} s', _lasted(life), life.packets, life.lost), text_columns=3)}</tr>"
        for number, life in enumerate(lives)
    )
    return f'<div class="box tall" tabindex="0"><table id="table"><thead><tr>{_heads(LIFE_HEADS, 4)}</tr></thead><tbody>{rows}</tbody></table></div>'


def _client(life: Life) -> str:
    return escape(format_endpoint(life.key.af, life.key.client)) + (" (template)" if life.is_template else "")


def _state(life: Life) -> str:
    state = life.states[-1][1] if life.states else "NONE"
    return state if life.ended is None else f"gone, last {state}"


def _lasted(life: Life) -> str:
    return "still there" if life.ended is None else f"{life.ended - life.began:.3f} s"


# --- packets ------------------------------------------------------------------------------------------------------------
def _fates(outcomes: Sequence[OutcomeRow], lives: Lives) -> str:
    if not outcomes:
        return "<p>No packet was fed.</p>"
    rows = "".join(
        f"<tr{' class=lost' if row.lost else ''}>{_cells('td', (row.what, row.text, row.verdict, WENT[row.went], row.packets), text_columns=4)}"
        f"<td>{_example(row.first_record, lives)}</td></tr>"
        for row in outcomes
    )
    return f'<div class="box"><table id="fates"><thead><tr>{_heads("Packet,Why,Verdict,Went,Packets,First record", 4)}</tr></thead><tbody>{rows}</tbody></table></div>'


def _example(record: int, lives: Lives) -> str:
    """The record, explained at a click."""
    if record not in lives.examples:
        return str(record)
    return f'<button type="button" class="plain" data-example="{record}">{record}: explain</button>'


def _left_out(result: Result) -> str:
    rows: list[Sequence[object]] = [(row.why, row.packets, row.first_record) for row in result.left_out]
    rows += [(f"frames without IP: {what}", count, "") for what, count in result.passed_over.items()]
    return f"<h3>Not fed to IPVS</h3>{_table('Why,Packets,First record', rows, text_columns=1)}" if rows else ""


# --- HTML ---------------------------------------------------------------------------------------------------------------
def _list(items: Iterable[str], kind: str) -> str:
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f'<ul class="{kind}">{entries}</ul>' if entries else ""


def _table(heads: str, rows: Iterable[Sequence[object]], *, text_columns: int) -> str:
    body = "".join(f"<tr>{_cells('td', row, text_columns=text_columns)}</tr>" for row in rows)
    return f'<div class="box"><table><thead><tr>{_heads(heads, text_columns)}</tr></thead><tbody>{body}</tbody></table></div>'


def _heads(heads: str, text_columns: int) -> str:
    return _cells("th", heads.split(","), text_columns=text_columns)


def _cells(tag: str, values: Iterable[object], *, text_columns: int) -> str:
    return "".join(f"<{tag}{' class=t' if number < text_columns else ''}>{_number(value)}</{tag}>" for number, value in enumerate(values))
