#!/usr/bin/env python3
"""Load a report in Chromium and say what is wrong with it; screenshots show what it looks like.

    .venv-viewers/bin/python tools/report/check_browser.py multiqc_report.html --screenshots shots --json seen.json

Checked at 1280 pixels: every section has drawn content, on every tab; nothing is wider than the page; no error on
the console; no dialogue (what a label with a script in it would open); no request that leaves the machine. Findings
go to standard output, one a line; --json keeps what was drawn in each section and how long the page took to load. The
exit status is 1 when there are any and 77 when there is no Chromium.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

WIDTH, HEIGHT = 1280, 900
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NO_BROWSER = 77
"""Exit status of automake's skipped tests."""

LOCAL = ("file:", "data:", "blob:", "about:")

LOADED = "performance.timing.loadEventEnd - performance.timing.navigationStart"

# Per section what was drawn: marks of a plot, rows of a table, or letters of a text. Plotly draws
# many points on a canvas (WebGL) and few as paths.
DRAWN = """section => {
  // a table has a hidden violin plot beside it, and a violin plot a hidden table
  const seen = selector => [...section.querySelectorAll(selector)].find(e => e.offsetParent);
  const plot = seen('.js-plotly-plot');
  if (plot) {
    const box = plot.getBoundingClientRect();
    const marks = plot.querySelectorAll('.points path, .point path, .lines path, path.box, .violinlayer path, ' +
                                        '.barlayer path, .heatmaplayer image, canvas').length;
    return {kind: 'plot', marks: box.height > 100 ? marks : 0};
  }
  const table = seen('table');
  if (table) return {kind: 'table', marks: table.querySelectorAll('tr td').length};
  if (seen('.hc-plot, .mqc-plot')) return {kind: 'plot', marks: 0};
  return {kind: 'text', marks: section.innerText.trim().length};
}"""

# what reaches beyond the page and is in no box of its own that scrolls or cuts
TOO_WIDE = """width => [...document.querySelectorAll('.mainpage *')].filter(e => {
  if (!e.offsetParent || e.closest('svg')) return false;
  if (e.getBoundingClientRect().right <= width + 1) return false;
  for (let p = e.parentElement; p; p = p.parentElement)
    if (getComputedStyle(p).overflowX !== 'visible' && p !== document.body && p !== document.documentElement)
      return false;
  return true;
}).slice(0, 5).map(e => e.tagName + '.' + e.className)"""


def check(report: Path, browser: str, shots: Path | None) -> tuple[list[str], dict]:
    """What is wrong with a report, a sentence each, and what was seen; screenshots of the first screen and of every
    section.

    Seen: bytes, seconds until the browser's load event, and of each section per tab what was drawn and its marks.
    """
    from playwright.sync_api import sync_playwright

    found: list[str] = []
    seen: dict = {"bytes": report.stat().st_size, "sections": {}}
    with sync_playwright() as player:
        # a container's root has no sandbox; the page is our own
        chromium = player.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        # the map is thousands of series, and a busy machine takes its time over them
        page.set_default_timeout(180_000)
        page.on("console", lambda m: found.append(f"console: {m.text[:300]}") if m.type == "error" else None)
        page.on("pageerror", lambda error: found.append(f"error of a script: {str(error)[:300]}"))

        def dialogue(box):
            found.append(f"a dialogue opened: {box.message[:100]}")
            box.dismiss()

        def request(route):
            if route.request.url.startswith(LOCAL):
                route.continue_()
            else:
                found.append(f"request to {route.request.url[:200]}")
                route.abort()

        page.on("dialog", dialogue)
        page.route("**/*", request)
        page.goto(report.resolve().as_uri())
        seen["load_s"] = round(page.evaluate(LOADED) / 1000, 2)
        page.wait_for_timeout(3000)
        if shots:
            shots.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=shots / "00_first_screen.png")
        sections = page.query_selector_all("#general_stats, [id^=mqc-section-wrapper-]")
        if len(sections) < 2:
            found.append(f"only {len(sections)} sections")
        for at, section in enumerate(sections, 1):
            name = (section.get_attribute("id") or "").removeprefix("mqc-section-wrapper-")
            section.scroll_into_view_if_needed()
            tabs = section.query_selector_all("[data-dataset-index], .hc_switch_group button") or [None]
            for number, tab in enumerate(tabs):
                if tab is not None:
                    tab.click()
                for _ in range(40):
                    drawn = section.evaluate(DRAWN)
                    if drawn["marks"]:
                        break
                    page.wait_for_timeout(250)
                else:
                    found.append(f"{name}, tab {number}: nothing was drawn ({drawn['kind']})")
                seen["sections"].setdefault(name, []).append(drawn)
                if shots:
                    section.screenshot(path=shots / f"{at:02d}_{name}{f'_{number}' if tab else ''}.png")
        found += [f"wider than {WIDTH} pixels: {what}" for what in page.evaluate(TOO_WIDE, WIDTH)]
        print(f"{len(sections)} sections, {report.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
        chromium.close()
    return found, seen


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("report", type=Path)
    args.add_argument("--screenshots", type=Path, help="folder for them")
    args.add_argument("--json", type=Path, help="file for what was seen")
    options = args.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"SKIPPED: none of {', '.join(BROWSERS)} is on PATH", file=sys.stderr)
        sys.exit(NO_BROWSER)
    found, seen = check(options.report, browser, options.screenshots)
    if options.json:
        options.json.write_text(json.dumps(seen, indent=1) + "\n", encoding="utf-8")
    print("\n".join(found))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
