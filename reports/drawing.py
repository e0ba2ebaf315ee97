"""From a spec to what stands in the page: a drawing now, the interactive chart by script later."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import vl_convert
from markupsafe import Markup, escape

from fwpbench.reports.charts import CONFIG


@dataclass(frozen=True)
class Figure:
    """`title` heads the chart; `spec` is drawn twice, as `svg` and, with script, by vega."""

    title: str
    spec: dict[str, Any]

    @property
    def png(self) -> bytes:
        """The chart as a picture on white, at twice the size."""
        spec = json.loads(json.dumps(self.spec).replace('"currentColor"', '"black"'))
        config = json.loads(json.dumps(CONFIG).replace('"currentColor"', '"black"'))
        config |= {"background": "white", "padding": 10}
        drawn: bytes = vl_convert.vegalite_to_png(
            spec, config=config, scale=2, allowed_base_urls=[]
        )
        return drawn

    @property
    def svg(self) -> Markup:
        """The chart without script. vega escapes the text; a test holds it to that."""
        drawn = vl_convert.vegalite_to_svg(self.spec, config=CONFIG, allowed_base_urls=[])
        drawn = re.sub(r'^(<svg[^>]*?) width="[\d.]+" height="[\d.]+"', r"\1", drawn)
        drawn = re.sub(
            r' xmlns:xlink="[^"]*"| font-family="[^"]*"| pointer-events="none"'
            r'| role="graphics-\w+"| aria-roledescription="[^"]*"',
            "",
            drawn,
        )
        drawn = re.sub(r'<path class="(back|fore)ground"[^>]*/>', "", drawn)
        drawn = re.sub(r' (?:d|transform)="[^"]*"', _rounded, drawn)
        # One picture with a name, not hundreds of symbols without; the numbers stand in tables.
        name = escape(self.title or "Chart")
        drawn = f'<svg role="img" aria-label="{name}"{drawn.removeprefix("<svg")}'
        return Markup(drawn)


def _rounded(attribute: re.Match[str]) -> str:
    """A hundredth of a pixel is enough."""
    return re.sub(r"(\d\.\d\d)\d+", r"\1", attribute.group())


def for_script(source: str) -> str:
    r"""`source` so that nothing in it can end or re-open the script element it stands in.

    Only for JavaScript in which the two strings stand inside string or regex literals.
    """
    return source.replace("</script", r"<\/script").replace("<!--", r"\x3c!--")


def fingerprints(scripts: Iterable[str]) -> str:
    """The hashes by which a content security policy knows our scripts from anybody else's."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
