"""What a page needs only when somebody looks at it: compressed, and unpacked by its script.

In the page a library or the records are one block of base64, which no string can leave; in a site
a library is a file beside the pages. Both are the packages' own files, with nothing from outside.
"""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import vl_convert
from markupsafe import Markup


def packed(text: str) -> Markup:
    """gzip, then base64. A lone surrogate is legal in JSON and not in UTF-8."""
    pressed = gzip.compress(text.encode("utf-8", "replace"), mtime=0)
    return Markup(base64.b64encode(pressed).decode())


def _charts() -> str:
    """vega, vega-lite and vega-embed, by vl-convert."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _tables() -> str:
    """DataTables with its buttons, as itables brings it: a module, which a page from disk may not
    import. So what it exports by default becomes a name of the window."""
    found = find_spec("itables")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("No module named 'itables'", name="itables")
    source = (Path(found.origin).parent / "html" / "dt_bundle.js").read_text(encoding="utf-8")
    exports = re.compile(r"export\s*\{[^{}]*?\b([\w$]+) as default\b[^{}]*\};?")
    source, replaced = exports.subn(lambda found: f"window.DataTable={found[1]};", source)
    if replaced != 1:
        raise ImportError("itables has its tables in another form than 2.9 had", name="itables")
    return f'(()=>{{"use strict";{source}\n}})();'


LIBRARIES: dict[str, Callable[[], str]] = {"charts": _charts, "tables": _tables}


@cache
def library(name: str) -> str:
    return LIBRARIES[name]()


@cache
def packed_library(name: str) -> Markup:
    return packed(library(name))


def script_of(sources: Sequence[str]) -> str:
    """Scripts that know each other's names, and nobody else does."""
    return '"use strict";\n(() => {\n' + "\n".join(sources) + "\n})();\n"
