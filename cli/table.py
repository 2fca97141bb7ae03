"""A table as text. Devices have no table library."""

from typing import List


def print_table(rows: List[List[str]]) -> None:
    """Columns as wide as their widest cell, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = [all(row[column].replace(".", "").isdigit() for row in rows[1:]) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(row, widths, right)]
        print("  ".join(cells).rstrip())
