"""The plots as PNG, and one HTML page that needs nothing else. matplotlib (extra ``paper``) enters here alone."""

import base64
import html
from pathlib import Path
from typing import List, Sequence

from benchmarks.paper.assumed import ASSUMED
from benchmarks.paper.compare import POLICIES, Table
from benchmarks.paper.settings import Setting

STYLE = "body{font:16px sans-serif;max-width:70em;margin:2em auto}pre{font-size:11px;overflow:auto}img{max-width:100%}"


def write_page(out: Path, table: Table, settings: Sequence[Setting], lines: List[str]) -> Path:
    """Returns where the page is."""
    out.mkdir(parents=True, exist_ok=True)
    pictures = [plot(out / f"{i}.png", table, setting) for i, setting in enumerate(settings)]
    body = ["<h1>Priority-aware model-distributed inference: the paper's settings, simulated</h1><h2>Assumed</h2><ul>"]
    body += [f"<li>{html.escape(line)}</li>" for line in ASSUMED] + ["</ul>"]
    for path, setting in zip(pictures, settings):
        data = base64.b64encode(path.read_bytes()).decode()
        body.append(f'<h2>{html.escape(setting.name)}</h2><img alt="" src="data:image/png;base64,{data}">')
    body.append(f"<h2>Figures</h2><pre>{html.escape(chr(10).join(lines))}</pre>")
    page = out / "index.html"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>paper</title><style>{STYLE}</style>'
    page.write_text(head + "\n".join(body) + "</html>\n", encoding="utf-8")
    return page


def plot(path: Path, table: Table, setting: Setting) -> Path:
    """Mean latency over load, the urgent source on the left, the others on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), sharey=True)
    for policy in POLICIES:
        cells = [table.cell(setting.name, load, policy) for load in setting.loads]
        axes[0].plot(setting.loads, [cell.urgent_s for cell in cells], marker="o", label=policy)
        axes[1].plot(setting.loads, [cell.others_s for cell in cells], marker="o", label=policy)
    for axis, who in zip(axes, ("urgent source", "other sources")):
        axis.set(title=f"{setting.name}: {who}", xlabel="load", ylabel="mean latency, s", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)
    return path
