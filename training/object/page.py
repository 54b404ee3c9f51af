"""The page about a part: one HTML file with its pictures in it."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2430; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d5dae2; }
table { border-collapse: collapse; } td, th { padding: .25rem 1rem .25rem 0; text-align: left;
  vertical-align: top; } td:first-child { color: #5a6677; }
img { max-width: 100%; } figure { margin: 1rem 0; } figcaption { color: #5a6677; }
pre { background: #f2f4f7; padding: .75rem; overflow-x: auto; }
.verdict { font-size: 1.15rem; } .warning { color: #9a4b00; }
"""


class Picture(NamedTuple):
    """A picture with what it shows.

    Attributes:
        png: the file.
        caption: a sentence.
    """

    png: bytes
    caption: str


class Section(NamedTuple):
    """A part of the page.

    Attributes:
        title: heading.
        texts: paragraphs.
        rows: of a table, titles and values.
        pictures: below.
        warnings: paragraphs that stand out.
        code: lines to copy.
    """

    title: str
    texts: Sequence[str] = ()
    rows: Sequence[tuple[str, str]] = ()
    pictures: Sequence[Picture] = ()
    warnings: Sequence[str] = ()
    code: Sequence[str] = ()


def render(title: str, verdict: str, sections: Iterable[Section]) -> str:
    """Return the page.

    Args:
        title: of the page.
        verdict: the sentence that matters most.
        sections: in order.

    Returns:
        HTML that needs no other file.
    """
    body = "\n".join(_section(section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="verdict">{escape(verdict)}</p>\n{body}\n'
        "</body>\n</html>\n"
    )


def read_picture(path: Path, caption: str) -> list[Picture]:
    """Return a picture of a file, nothing where there is no such file."""
    return [Picture(path.read_bytes(), caption)] if path.is_file() else []


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(text)}</p>" for text in section.texts]
    parts += [f'<p class="warning">{escape(text)}</p>' for text in section.warnings]
    if section.rows:
        rows = (f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in section.rows)
        parts.append("<table>\n" + "\n".join(rows) + "\n</table>")
    if section.code:
        parts.append("<pre>" + escape("\n".join(section.code)) + "</pre>")
    for png, caption in section.pictures:
        data = base64.b64encode(png).decode()
        parts.append(
            f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return "\n".join(parts)
