"""The page in a real browser, with the real service behind it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from serving import Running, modular_model, png

from moda_core.data.images import decode
from moda_core.modularity.composition import compose
from moda_core.modularity.networks import network, predict

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        program = next(filter(None, map(shutil.which, _NAMES)), playwright.chromium.executable_path)
        if not Path(program).exists():
            pytest.skip("no Chromium: the page is not tested (install the package chromium, or `playwright install`)")
        browser = playwright.chromium.launch(executable_path=program, args=_QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, service: Running) -> Iterator[Page]:
    """A window on a telephone's screen; whatever fails or comes from elsewhere fails the test."""
    context = browser.new_context(base_url=str(service.http.base_url), viewport={"width": 400, "height": 800})
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    own = (str(service.http.base_url), "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(own) else wrong.append(request.url))
    yield page
    assert wrong == []
    context.close()


def test_two_classes_are_composed_and_an_image_is_predicted(page: Page, service: Running, tmp_path: Path):
    (tmp_path / "image.png").write_bytes(png(7))
    model = compose(modular_model(), ["cat", "ship"])
    [expected] = predict(network(model), [decode(png(7))]).tolist()
    best = max(zip(expected, model.labels, strict=True))

    service.http.post("/decompose", json={"model": "animals", "threshold": "0.8"})

    page.goto("/")
    expect(page.locator("#jobs tbody")).to_contain_text("worker")  # why the job waits
    page.get_by_role("button", name="animals@1").click()
    for label in ("ship", "cat"):
        page.get_by_label(label).check()
    page.get_by_role("button", name="Compose", exact=True).click()
    expect(page.locator("#compose-answer")).to_contain_text("of the parameters")
    page.locator("#image").set_input_files(tmp_path / "image.png")

    rows = page.locator("#probabilities li")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text(best[1])
    expect(rows.first).to_contain_text(f"{100 * best[0]:.1f}")
    [made] = [one for one in service.http.get("/compositions").json()["compositions"] if len(one["classes"]) == 2]
    with page.expect_download() as download:
        page.get_by_role("link", name="safetensors").click()
    kept = service.http.get(made["links"]["weights"]).content
    assert download.value.path().read_bytes() == kept
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen"


def test_what_goes_wrong_is_said(page: Page):
    page.goto("/")
    page.get_by_role("button", name="plain@1").click()
    expect(page.locator("#compose-hint")).to_contain_text("decompose it first")
    expect(page.locator("#compose-form")).to_be_hidden()


def test_the_interface_is_described_without_the_internet(page: Page):
    page.goto("/docs")
    expect(page.get_by_text("/compose", exact=True).first).to_be_visible()
