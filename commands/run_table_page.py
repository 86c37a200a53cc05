"""A table of runs as one HTML file: thumbnails inside, a click on a title sorts, nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

from commands.compare import RunTable

_THUMBNAIL = 320  # pixels, the longer side

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff; }
table { border-collapse: collapse; }
th, td { padding: .35em .8em; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th { cursor: pointer; position: sticky; top: 0; background: #fff; white-space: nowrap; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
th.sorted { border-bottom: 2px solid #222; }
img { display: block; max-width: 320px; image-rendering: pixelated; }
"""

_SCRIPT = """
document.querySelectorAll('th').forEach((title, column) => title.addEventListener('click', () => {
  const body = document.querySelector('tbody');
  const down = title.dataset.down = title.dataset.down === '1' ? '0' : '1';
  const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === '' || y === '') return (x === '') - (y === '');
    const [m, n] = [parseFloat(x.replaceAll(',', '')), parseFloat(y.replaceAll(',', ''))];
    const order = isNaN(m) || isNaN(n) ? x.localeCompare(y) : m - n;
    return down === '1' ? order : -order;
  });
  body.append(...rows);
  document.querySelectorAll('th').forEach(other => other.classList.toggle('sorted', other === title));
}));
"""


def page(table: RunTable, title: str) -> str:
    """The HTML of a table.

    Args:
        table: The runs.
        title: Of the page.
    """
    titles = "".join(
        f"<th{' class=sorted' if name == table.sorted_by else ''}>{html.escape(name)}</th>"
        for name in [*table.columns, "samples"]
    )
    rows = []
    for run, cells in zip(table.runs, table.cells, strict=True):
        texts = "".join(
            f"<td{' class=number' if is_number else ''}>{html.escape(text)}</td>"
            for text, is_number in zip(cells, table.numbers, strict=True)
        )
        picture = "" if run.samples is None else _thumbnail(run.samples)
        rows.append(f'<tr>{texts}<td data-value="{run.images_seen}">{picture}</td></tr>')
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
        f"<p>{len(table.runs)} runs, sorted by {html.escape(table.sorted_by)}; a click on a title sorts by it.</p>"
        f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"<script>{_SCRIPT}</script></html>\n"
    )


def _thumbnail(path: Path) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
            small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    except (OSError, UnidentifiedImageError):
        return ""
    data = io.BytesIO()
    small.save(data, "JPEG", quality=85)
    encoded = base64.b64encode(data.getvalue()).decode()
    return f'<img src="data:image/jpeg;base64,{encoded}" alt="{html.escape(path.stem)} images seen">'
