"""The page as a browser shows it: all figures are there, nothing is fetched or run, a phone can read it."""

from __future__ import annotations

import html
import io
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cli.night_reports import overview, report_data
from tests.report.pages import DESK, PHONE, browser, in_trouble, look, png, rich, screenshot
from zitcache.tasks.overview.sizes import Totals
from zitcache.ui.page import render_page

EMPTY = report_data(
    overview=overview(models=[], moments=[], snapshots=0, last_good=None, disk=None),
    inventory=[],
    snapshots=[],
    by_dtype=[],
    by_model=[],
    totals=Totals(size_bytes=0, unique_bytes=0, stored_bytes=0),
    runs=[],
)


@pytest.fixture(autouse=True)
def needs_browser() -> None:
    if browser() is None:
        pytest.skip("needs chromium (package chromium)")


# -- the figures -----------------------------------------------------------------------------------------


def test_every_figure_is_on_the_page() -> None:
    seen = look(render_page(rich()))
    assert seen.text("state") == "Protected."
    assert seen.text("figure-protected") == "protected 41.2 GB 3 models"
    assert seen.text("figure-backup") == "backup 10 h ago 120 snapshots in all"
    assert seen.text("figure-stored") == "stored 14.7 GB 44 % of 33.2 GB"
    assert seen.text("figure-free") == "free 310.0 GB full in about 310 days"
    models = seen.text("models")
    assert "Tongyi-MAI/Z-Image-Turbo master modelscope · 16 files · F32 24.8 GB · BF16 8.0 GB" in models
    assert "stabilityai/sdxl-vae main 334.6 MB not in the cache in a snapshot 90 days ago" in models
    assert "Every stored byte read back 29 days ago fine" in seen.text("health")
    sizes = seen.text("size-before-and-after")
    assert "F32 24.6 GB → 8.1 GB 33.0 %" in html.unescape(sizes)
    assert "Qwen/Qwen3-4B 8.0 GB → 210.0 MB 2.6 %" in html.unescape(sizes)
    assert "deduplication 118.7 ×" in html.unescape(sizes).replace("\xa0", " ")
    nights = seen.text("nights")
    assert "57 good 3 failed" in nights and "backup: exit code 5" in nights
    assert seen.text("speed") == "Backups read 916.7 MB/s (the median), 1.6 GB/s at best."
    assert seen.text("next-run").startswith("Next: 2026-05-01")


def test_every_snapshot_is_on_the_time_line() -> None:
    seen = look(render_page(rich(400)))
    for state in ("good", "partial", "suspect"):
        assert f'class="dot {state}' in seen.dom
    assert seen.dom.count('<path class="dot ') == 400
    assert seen.dom.count("pinned") >= 4
    assert seen.dom.count("<code>") <= 60, "the table is not endless"


def test_golden_and_last_proof_lie_side_by_side() -> None:
    data = rich()
    dom = look(render_page(data)).dom
    assert re.search(r'class="pictures"><figure id="golden">.*<figure id="proof">', dom, re.DOTALL)
    assert dom.count('src="data:image/png;base64,') == 2
    assert "passed" in dom and "The raw pixels are equal to the golden's." in html.unescape(dom)
    boxes = layout(render_page(data), DESK)["pictures"]
    (left, top, right, _), (left2, top2, _, _) = boxes
    assert right <= left2 and left < left2 and top == top2


def test_what_is_wrong_comes_first() -> None:
    seen = look(render_page(in_trouble()))
    assert seen.text("state") == "Something here is not protected."
    body = seen.dom[seen.dom.index("<body") :]
    assert body.index("is in the cache but in no good snapshot") < body.index("figures")
    assert "in no snapshot" in seen.text("models") and "no cron daemon" in seen.text("next-run")
    assert "last attempt ended with exit code 5" in seen.text("health")


def test_a_repository_without_anything_has_a_page() -> None:
    seen = look(render_page(EMPTY))
    assert "No model is known" in seen.text("models")
    assert "There is no snapshot yet" in seen.text("snapshots")
    assert "No night is recorded yet" in seen.text("nights")
    assert seen.text("figure-backup").startswith("backup never")


@pytest.mark.parametrize("count", [1, 2])
def test_few_snapshots_have_a_time_line_too(count: int) -> None:
    assert look(render_page(rich(count))).dom.count('<path class="dot ') == count


# -- no network, no script -------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[str, list[str], dict[str, bytes]]]:
    """Its URL, what it was asked for, and what it answers at which path."""
    asked: list[str] = []
    pages: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = pages.get(self.path, b"")
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", asked, pages
    running.shutdown()
    running.server_close()


def hostile(url: str) -> list[str]:
    return [
        f"<script src='{url}/script'></script>",
        f"<img src='{url}/image' onerror='document.title=1'>",
        "'\"><svg onload=\"document.body.innerHTML='pwned'\">",
        f"</style></title></script><iframe src='{url}/frame'></iframe>",
        f"<link rel=stylesheet href='{url}/style'>",
        "<!--",
        "]]>&lt;script&gt;",
        "javascript:alert(1)",
        "\u202egnp.exe",
        "\x1b[2J\udcff\x00",
        "<base href='//evil'><meta http-equiv=refresh content='0;url=//evil'>",
    ]


def poisoned(value: Any, text: str, *, name: str = "") -> Any:
    """The same figures with ``text`` in every name and sentence; times and pictures stay."""
    if isinstance(value, msgspec.Struct):
        return type(value)(
            **{field: poisoned(getattr(value, field), text, name=field) for field in value.__struct_fields__}
        )
    if isinstance(value, (list, tuple)):
        return type(value)(poisoned(item, text, name=name) for item in value)
    if isinstance(value, dict):
        return {poisoned(key, text): item for key, item in value.items()}
    return value + text if isinstance(value, str) and name not in {"time", "started", "what"} else value


def test_loading_the_page_asks_for_nothing_else(server: tuple[str, list[str], dict[str, bytes]]) -> None:
    url, asked, pages = server
    for number, text in enumerate(hostile(url)):
        page = render_page(poisoned(rich(30), text))
        pages[f"/{number}.html"] = page.encode("utf-8", "backslashreplace")
    frames = [f"<iframe src='{url}{path}' style='width:900px;height:4000px'></iframe>" for path in pages]
    look("".join(frames), size=(1000, 1000))
    assert sorted(asked) == sorted(pages)


def test_names_never_become_markup() -> None:
    plain = look(render_page(poisoned(rich(30), " x"))).elements()
    assert {"svg", "table", "img"} <= {tag for tag, _ in plain}
    texts = hostile("http://127.0.0.1:9")
    for text in ("".join(texts), "<!--", texts[2]):
        assert look(render_page(poisoned(rich(30), text))).elements() == plain


def test_the_page_names_no_address_at_all() -> None:
    page = render_page(rich())
    assert not re.search(r"(?:https?:)?//|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))
    assert "<script" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None and policy[1].startswith(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    )


# -- looks -----------------------------------------------------------------------------------------------

MEASURE = """<!doctype html><meta charset=utf-8><body style="margin:0">
<iframe style="border:0;width:{width}px;height:{height}px" srcdoc="{page}"></iframe>
<script>
document.querySelector("iframe").onload = (event) => {{
  const inner = event.target.contentDocument, root = inner.documentElement;
  for (const fold of inner.querySelectorAll("details")) fold.open = true;
  const box = (element) => {{ const b = element.getBoundingClientRect();
    return [b.left, b.top, b.right, b.bottom].map(Math.round); }};
  const wide = [...inner.querySelectorAll("body *")].filter((e) =>
    e.getBoundingClientRect().right > {width} + 1 && !e.closest("svg")).map((e) => e.outerHTML.slice(0, 120));
  const small = [...inner.querySelectorAll("body *")].filter((e) => e.children.length === 0 &&
    e.textContent.trim() && parseFloat(inner.defaultView.getComputedStyle(e).fontSize) < 11 &&
    !e.closest("svg")).map((e) => e.outerHTML.slice(0, 120));
  const tables = [...inner.querySelectorAll(".scroll")];
  const scrolls = tables.filter((e) => e.scrollWidth > e.clientWidth + 1).length;
  document.body.textContent = "MEASURED" + JSON.stringify({{width: root.scrollWidth, wide, small, scrolls,
    background: inner.defaultView.getComputedStyle(inner.body).backgroundColor,
    text: inner.defaultView.getComputedStyle(inner.body).color,
    pictures: [...inner.querySelectorAll(".pictures img")].map(box)}}) + "END";
}};
</script>
"""


def layout(page: str, size: tuple[int, int], *, dark: bool = False) -> dict[str, Any]:
    """What the browser measures in a window of that width."""
    outer = MEASURE.format(page=html.escape(page, quote=True), width=size[0], height=size[1])
    dom = look(outer, size=(max(size[0], 1000), size[1]), dark=dark).dom
    found = re.search(r"MEASURED(.*?)END", dom, re.DOTALL)
    assert found is not None, dom[-2000:]
    measured: dict[str, Any] = msgspec.json.decode(html.unescape(found[1]))
    return measured


@pytest.mark.parametrize("data", [rich(400), in_trouble(), EMPTY], ids=["rich", "trouble", "empty"])
@pytest.mark.parametrize("size", [PHONE, (320, 600), DESK], ids=["phone", "small phone", "desk"])
def test_nothing_has_to_be_scrolled_sideways(data: Any, size: tuple[int, int]) -> None:
    measured = layout(render_page(data), size)
    assert measured["width"] <= size[0] and measured["wide"] == []
    assert measured["scrolls"] == 0
    assert measured["small"] == [], "readable without a magnifying glass"


def test_long_names_do_not_widen_the_page() -> None:
    long = poisoned(rich(30), "x" * 300 + " " + "模" * 200)
    measured = layout(render_page(long), PHONE)
    assert measured["width"] <= PHONE[0]


def test_light_and_dark() -> None:
    light, dark = (layout(render_page(rich(30)), DESK, dark=each) for each in (False, True))
    assert brightness(light["background"]) > 200 > 60 > brightness(dark["background"])
    assert brightness(light["text"]) < 60 and brightness(dark["text"]) > 200


def brightness(color: str) -> float:
    red, green, blue = map(int, re.findall(r"\d+", color)[:3])
    return 0.3 * red + 0.59 * green + 0.11 * blue


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_pictures_and_the_charts_are_painted(tmp_path: Path, dark: bool) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="needs pillow")
    page = render_page(rich(120))
    data = screenshot(page, tmp_path / "page.png", size=(1280, 2600), dark=dark)
    shot = image_module.open(io.BytesIO(data)).convert("RGB")
    colors = {color for _, color in shot.getcolors(1 << 24)}
    good, bad = ((92, 201, 143), (255, 138, 128)) if dark else ((26, 127, 75), (179, 38, 30))
    assert good in colors and bad in colors, "good and failed nights"
    reference = image_module.open(io.BytesIO(png(1))).convert("RGB")
    wanted = reference.getpixel((128, 128))
    assert any(all(abs(a - b) < 6 for a, b in zip(color, wanted, strict=True)) for color in colors)
