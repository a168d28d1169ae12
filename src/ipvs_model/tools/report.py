"""A replay as one HTML page: tables and pictures, nothing to load from elsewhere."""

import io
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import Final

from ipvs_model.flags import KERNEL_VERSION
from ipvs_model.tools.result import Result, ServerRow
from ipvs_model.tools.timeline import Sample

STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #d8dee4}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid #eaeef2}
th{background:#f6f8fa}.t{text-align:left}pre{background:#f6f8fa;padding:.8rem;overflow:auto;font-size:13px}.lost td{background:#fff1f0}
figure{margin:1rem 0}svg{max-width:100%;height:auto}.sub{color:#57606a}
"""
WENT: Final = {"on": "on", "director": "to the director itself", "nowhere": "nowhere"}
COLOURS: Final = ("#1f6fb2", "#d9822b", "#3c8d5a", "#a83e6c", "#6b5bb5", "#8a6d3b", "#2b9aa0", "#7f7f7f", "#b8b12f", "#d0605e")


def html_report(result: Result) -> str:
    """The page, as text. Needs matplotlib (extra: cli)."""
    parts = [
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>",
        f"<title>IPVS replay of {escape(result.capture)}</title><style>{STYLE}</style></head><body>",
        f"<h1>What IPVS did with {escape(result.capture)}</h1>",
        f"<p class='sub'>{escape(summary(result))} Modelled after Linux {KERNEL_VERSION}.</p>",
        _list(result.notes),
        "<h2>Servers</h2>",
        _table(
            "Service,Server,Method,Weight,Connections,Share,Packets in,Packets out,Bytes in,Bytes out,Lost,Active,Inactive",
            [
                (
                    *(row.service, row.server, row.method, row.weight, row.connections, f"{row.share:.1%}"),
                    *(row.inpkts, row.outpkts, row.inbytes, row.outbytes, row.lost, row.active, row.inactive),
                )
                for row in result.servers
            ],
            text_columns=3,
        ),
        *(f"<h2>{escape(title)}</h2><figure>{picture}</figure>" for title, picture in pictures(result)),
        "<h2>What became of the packets</h2>",
        _table(
            "Packet,Why,Verdict,Went,Packets,First record",
            [(row.what, row.text, row.verdict, WENT[row.went], row.packets, row.first_record) for row in result.outcomes],
            text_columns=4,
            marked=[row.lost for row in result.outcomes],
        ),
    ]
    if result.left_out or result.passed_over:
        rows: list[Sequence[object]] = [(row.why, row.packets, row.first_record) for row in result.left_out]
        rows += [(f"frames without IP: {what}", count, "") for what, count in result.passed_over.items()]
        parts += ["<h2>Not fed to IPVS</h2>", _table("Why,Packets,First record", rows, text_columns=1)]
    if result.problems:
        parts += ["<h2>Not readable</h2>", _list(result.problems)]
    parts += ["<h2>ipvsadm -Ln at the end</h2>", f"<pre>{escape(result.listing)}</pre>"]
    parts += ["<h2>Rules</h2>", f"<pre>{escape(result.rules)}</pre>", "</body></html>\n"]
    return "\n".join(parts)


def summary(result: Result) -> str:
    """The replay in a sentence or two."""
    fed = result.client_packets + result.answers
    return (
        f"{result.records} records over {result.duration:.3f} s: {result.client_packets} client packets and {result.answers} answers were fed, "
        f"{result.emitted} packets left the director, {result.lost} of {fed} did not get through."
    )


def _list(items: Iterable[str]) -> str:
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{entries}</ul>" if entries else ""


def _table(heads: str, rows: Sequence[Sequence[object]], *, text_columns: int, marked: Sequence[bool] = ()) -> str:
    def cells(tag: str, values: Iterable[object]) -> str:
        return "".join(f"<{tag}{' class=t' if n < text_columns else ''}>{escape(str(value))}</{tag}>" for n, value in enumerate(values))

    lost = dict(enumerate(marked))
    body = "".join(f"<tr{' class=lost' if lost.get(n) else ''}>{cells('td', row)}</tr>" for n, row in enumerate(rows))
    return f"<table><thead><tr>{cells('th', heads.split(','))}</tr></thead><tbody>{body}</tbody></table>"


def pictures(result: Result) -> list[tuple[str, str]]:
    """(title, SVG) for each service with connections: what its servers were given over time, and what they held."""
    drawn = []
    for service in dict.fromkeys(row.service for row in result.servers):
        columns = [n for n, row in enumerate(result.servers) if row.service == service]
        rows = [result.servers[n] for n in columns]
        if any(row.connections for row in rows):
            drawn.append((service, _picture(rows, [[samples[n] for samples in result.timeline] for n in columns], result)))
    return drawn


def _picture(rows: Sequence[ServerRow], samples: Sequence[Sequence[Sample]], result: Result) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    seconds = [n * result.step for n in range(len(samples[0]) - 1)] + [max(result.duration, (len(samples[0]) - 2) * result.step)]
    colours = [COLOURS[n % len(COLOURS)] for n in range(len(rows))]
    names = [f"{row.server} (weight {row.weight})" for row in rows]
    # text stays text, and the same replay gives the same bytes
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ipvs_model", "font.size": 9}):
        figure = Figure(figsize=(11, 6.4), layout="constrained")
        given, share, held, rate = figure.subplots(2, 2).flat
        for row, series, colour, name in zip(rows, samples, colours, names, strict=True):
            given.step(seconds, [sample.conns for sample in series], where="post", color=colour, label=name)
            held.step(seconds, [sample.active for sample in series], where="post", color=colour)
            held.step(seconds, [sample.inactive for sample in series], where="post", color=colour, linestyle=":")
            moved = [(after.bytes - before.bytes) / result.step / 1000 for before, after in pairwise(series)]
            rate.step(seconds, [*moved, moved[-1] if moved else 0.0], where="post", color=colour)
        weights = sum(row.weight for row in rows)
        places = range(len(rows))
        share.barh(places, [row.share * 100 for row in rows], color=colours, height=0.55)
        for place, row in zip(places, rows, strict=True):
            if weights:
                share.plot([row.weight / weights * 100] * 2, [place - 0.4, place + 0.4], color="#1b1f24", linewidth=2)
        share.set_yticks(list(places), [row.server for row in rows])
        share.invert_yaxis()
        for axes, title, unit in (
            (given, "connections given to each server", "connections"),
            (held, "held: active (solid), inactive (dotted)", "connections"),
            (rate, "both directions", "kB/s"),
        ):
            axes.set(title=title, ylabel=unit, xlabel="seconds")
            axes.grid(alpha=0.3)
            axes.set_ylim(bottom=0)
        share.set(title="share of the connections; the mark is the weight's share", xlabel="%")
        given.legend(fontsize=8, frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    return text[text.index("<svg") :]
