"""The page's scripts: Vega (charts) and DataTables (tables), as their packages ship them, and the few lines that start
them. All stand in the page; its policy names their digests, so that no other script can run and nothing can be loaded.
"""

import base64
import hashlib
import re
from functools import cache
from importlib import resources
from pathlib import Path

TEMPLATES = Path(__file__).parents[1] / "templates"
OWN = ("page.js", "items.js")


@cache
def scripts() -> list[str]:
    """Texts of the page's module scripts, in the order they run."""
    own = [(TEMPLATES / name).read_text(encoding="utf-8") for name in OWN]
    return [_inline(text) for text in (_charts(), _tables(), *own)]


def policy() -> str:
    """The page's Content-Security-Policy: its own scripts and styles, pictures inside the page, and nothing else."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts())
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _charts() -> str:
    """Vega, Vega-Lite and vega-embed; they define window.vegaEmbed."""
    import vl_convert

    return vl_convert.javascript_bundle()


def _tables() -> str:
    """DataTables of itables' offline bundle, an ES module: its default export becomes window.DataTable."""
    import itables

    text = resources.files(itables).joinpath("html/dt_bundle.js").read_text(encoding="utf-8")
    exported = re.search(r"export\s*\{[^}]*?([\w$]+) as default[^}]*\};?", text)
    return text[: exported.start()] + f"window.DataTable={exported[1]};" + text[exported.end() :]


def _inline(text: str) -> str:
    """A script as it may stand in HTML: what would end or nest a script element is written otherwise."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("<!--", "\\x3C!--")
    return re.sub(r"<(/?script)", r"\\x3C\1", text, flags=re.IGNORECASE)
