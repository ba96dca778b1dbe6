"""Text of strangers as text that shows: names and errors may hold what moves a cursor or turns a line around."""

LINES = "\n\t"  # what lays out text; `ONE_LINE` keeps neither
ONE_LINE = ""


def printable(text: str, keep: str = LINES) -> str:
    """The text with every character that is not printed written out: C0 and C1 controls, bidirectional marks, and
    what no text holds. keep: those to leave as they are, `LINES` or `ONE_LINE`."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep else ascii(each)[1:-1] for each in text)
