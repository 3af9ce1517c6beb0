"""chameleon: renders a large HTML table with the Chameleon template engine.

Arguments: `rows` (default 1000), `columns` (default 20), `seed`. The template is compiled in each call, as the original
does. Answers with the sum of all cells and the page's length and SHA-256.
"""

from __future__ import annotations

import hashlib
import random
import time

from chameleon import PageTemplate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_CELLS = 500_000  # some 200 MB
TEMPLATE = """\
<table xmlns="http://www.w3.org/1999/xhtml" xmlns:tal="http://xml.zope.org/namespaces/tal">
<tr tal:repeat="row table">
<td tal:repeat="column row">
<span tal:define="value row[column]" tal:attributes="class column" tal:content="value"/>
</td>
</tr>
</table>"""


def whole(args: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    """The argument `name`. Raises ValueError for anything but a whole number of low..high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; give a whole number of {low} to {high}")
    return value


def table_of(rows: int, columns: int, seed: int) -> list[dict[str, int]]:
    rng = random.Random(seed)
    return [{f"c{column}": rng.randrange(1_000_000) for column in range(columns)} for _ in range(rows)]


def render(table: list[dict[str, int]]) -> str:
    """The page: one row for each dictionary, one cell for each of its keys."""
    return str(PageTemplate(TEMPLATE).render(table=table))


def main(args: dict[str, Any]) -> dict[str, Any]:
    try:
        rows = whole(args, "rows", 1_000, 1, 50_000)
        columns = whole(args, "columns", 20, 1, 1_000)
        seed = whole(args, "seed", 1, 0, 2**32 - 1)
        if rows * columns > MOST_CELLS:
            raise ValueError(f"rows x columns is {rows * columns}; at most {MOST_CELLS} cells are rendered")
    except ValueError as error:
        return {"error": f"chameleon: {error}"}
    table = table_of(rows, columns, seed)
    began_s = time.perf_counter()
    page = render(table)
    render_s = time.perf_counter() - began_s
    return {
        "rows": rows,
        "columns": columns,
        "cell_sum": sum(sum(row.values()) for row in table),
        "characters": len(page),
        "page_sha256": hashlib.sha256(page.encode()).hexdigest(),
        "render_ms": render_s * 1e3,
    }
