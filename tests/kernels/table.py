"""The results of scripts/vmtest, on standard input, as a table in Markdown: what was tested, by kernel; and what failed."""
import sys

rows = [line.rstrip("\n").split("\t") for line in sys.stdin]
guests = list(dict.fromkeys(row[0] for row in rows))
whats = list(dict.fromkeys(row[1] for row in rows))
table = [["", *guests]]
for what in whats:
    cells = [what]
    for guest in guests:
        outcomes = [row[3] for row in rows if row[:2] == [guest, what]]
        passed, failed = outcomes.count("ok"), outcomes.count("FAIL")
        cells.append("**no**" if failed and not passed else f"**{passed} of {passed + failed}**" if failed else
                     "yes" if passed else "left out" if outcomes else "")
    table.append(cells)
widths = [max(len(cells[i]) for cells in table) for i in range(len(table[0]))]
table.insert(1, ["-" * width for width in widths])
for cells in table:
    print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |")
others = [row for row in rows if row[3] != "ok"]
print(f"\n{len(rows) - len(others)} of {len(rows)} passed" + (":" if others else "."))
for guest, what, test, outcome, _, words in others:
    print(f"  {outcome}: {guest}: {what}: {test}: {words or 'see above'}")
