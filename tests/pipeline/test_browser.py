"""The pages in a browser without network: a silent console, all drawn, on a phone, in the dark."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no browser: apt-get install chromium"),
]

_PROBE = """
<script type="module">
while (document.readyState !== "complete" || !(CONDITION)) {
  await new Promise(done => setTimeout(done, 50));
}
const parts = ".scatterlayer path, .heatmaplayer image, .annotation text";
const drawn = node => node.querySelectorAll(parts).length;
const sections = [...document.querySelectorAll("section")].map(s => ({
  id: s.id, height: s.getBoundingClientRect().height, words: s.innerText.length,
  cells: s.querySelectorAll("td").length,
  figures: [...s.querySelectorAll(".figures > div")].map(drawn),
}));
const canvases = [...document.querySelectorAll("canvas")].map(canvas => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(pixels.buffer)).size;
});
const probe = document.createElement("pre");
probe.id = "probe";
probe.textContent = JSON.stringify({
  sections, canvases, title: document.title, width: document.documentElement.scrollWidth,
  page: getComputedStyle(document.body).backgroundColor, text: document.body.innerText,
});
document.body.append(probe);
</script>
"""


DRAWN = "[...document.querySelectorAll('.figures > div')].every(f => f.querySelector('.xtick'))"
SECTIONS = (
    "run headline baselines truth reliability members buckets confusion order training luck test "
    "versions examples clean params"
).split()


def with_script(page: str, script: str) -> str:
    before, _, after = page.rpartition("</body>")
    return f"{before}{script}</body>{after}"


def opened(
    page: Path, tmp_path: Path, *options: str, until: str = "true"
) -> tuple[dict, list[str]]:
    """What a probe inside the page sees once a condition holds, and the lines of the console.

    Args:
        until: JavaScript. The browser's clock jumps over idle time, so on a busy machine its limit
            may come first; it is raised twice.
    """
    probed = tmp_path / "probed.html"
    probe = _PROBE.replace("CONDITION", until)
    probed.write_text(with_script(page.read_text(encoding="utf-8"), probe), encoding="utf-8")
    for milliseconds in (10_000, 60_000, 600_000):
        run = subprocess.run(
            [
                BROWSER,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={tmp_path / 'profile'}",
                "--enable-logging=stderr",
                f"--virtual-time-budget={milliseconds}",
                "--window-size=1200,900",
                *options,
                "--dump-dom",
                probed.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        if found := re.search(r'<pre id="probe">(.*?)</pre>', run.stdout, re.S):
            break
    assert found, run.stderr[-2000:]
    seen = json.loads(html.unescape(found[1]))
    return seen, [line for line in run.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def report(repository) -> Path:
    return repository.path / "report" / "index.html"


def test_every_section_shows_what_it_is_about(report, tmp_path):
    seen, console = opened(report, tmp_path, until=DRAWN)
    assert not console
    by_id = {section["id"]: section for section in seen["sections"]}
    assert list(by_id) == SECTIONS
    assert all(section["height"] > 60 and section["words"] > 20 for section in by_id.values())
    figures = {name: len(s["figures"]) for name, s in by_id.items() if s["figures"]}
    assert figures == {
        "baselines": 1,
        "reliability": 4,
        "buckets": 1,
        "confusion": 1,
        "training": 2,
    }
    assert all(drawn >= 2 for section in by_id.values() for drawn in section["figures"])
    assert all(by_id[name]["cells"] > 5 for name in ("headline", "order", "luck", "clean"))


@pytest.mark.fault(19)
def test_a_script_in_a_prompt_stays_text(report, tmp_path):
    """In place of a prompt: escaped as the page does it, and raw; only the raw one runs."""
    nasty = "<script>document.title = 'taken over'</script>"
    page = report.read_text(encoding="utf-8")
    escaped, raw = tmp_path / "escaped.html", tmp_path / "raw.html"
    for path, text in ((escaped, nasty.replace("<", "&lt;")), (raw, nasty)):
        path.write_text(
            re.sub(r'(<pre dir="auto">)', lambda m, text=text: m[1] + text, page, count=1),
            encoding="utf-8",
        )
    assert opened(escaped, tmp_path)[0]["title"] != "taken over"
    assert opened(raw, tmp_path)[0]["title"] == "taken over"


@pytest.mark.parametrize("width", [390, 820])
def test_nothing_is_wider_than_a_phone(report, tmp_path, width):
    # A headless window is never narrower than 500 px; a frame is.
    inside, frame = tmp_path / "inside.html", tmp_path / "frame.html"
    root = "document.documentElement"
    tell = f"parent.postMessage(`${{{root}.scrollWidth}} of ${{{root}.clientWidth}}`, '*')"
    script = f"<script>setInterval(() => {{ if ({DRAWN}) {tell}; }}, 50)</script>"
    inside.write_text(with_script(report.read_text(encoding="utf-8"), script), encoding="utf-8")
    frame.write_text(
        "<body><script>onmessage = event => document.title = event.data</script>"
        f'<iframe src="inside.html" style="width:{width}px;height:900px;border:0"></iframe></body>'
    )
    seen, _ = opened(frame, tmp_path, until="document.title.includes(' of ')")
    inner, outer = map(int, seen["title"].split(" of "))
    assert inner <= outer <= width


def test_it_is_dark_where_the_reader_likes_it_dark(report, tmp_path):
    backgrounds = [
        opened(report, tmp_path, f"--blink-settings=preferredColorScheme={scheme}")[0]["page"]
        for scheme in (0, 1)
    ]
    dark, light = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in backgrounds)
    assert dark < 150 and light > 700


def test_dvc_plots_are_drawn_without_a_network(repository, tmp_path):
    for command in (["show"], ["diff", "HEAD"]):
        repository.dvc("plots", *command)
        page = repository.path / "dvc_plots" / "index.html"
        canvases = "document.querySelectorAll('canvas').length >= 8"
        seen, console = opened(page, tmp_path, until=canvases)
        assert not console
        assert len(seen["canvases"]) == 8 and min(seen["canvases"]) > 20
