"""The page in a real Chromium, watched: it must not complain, and must ask nobody but its own service."""

import os
import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMEOUT_MS = 30_000  # generous: the machine may be busy with other things
expect.set_options(timeout=TIMEOUT_MS)
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


@contextmanager
def chromium():
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, timeout=120_000, args=[
            "--host-resolver-rules=MAP *.test 127.0.0.1",
            *["--no-sandbox"] * (os.geteuid() == 0)])  # Chromium's own does not work for root
        yield one
        one.close()


@contextmanager
def visit(browser, url, *, failing=(), ready=".models", served_by=None, before=None, hash="",
          **options):
    """A page that has loaded. `failing` are parts of what the console may say, as "401" for an error.

    `before` is called with the page before it loads. With `served_by` the browser sees `url`, and what
    it asks there is asked of that service: as behind a router.
    """
    context = browser.new_context(**{"locale": "en-US", "viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(TIMEOUT_MS)
    context.add_init_script(WATCH)
    page = context.new_page()
    if served_by:
        serve(page, url, served_by)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    if before:
        before(page)
    page.goto(url + hash)
    page.wait_for_selector(ready)
    yield page
    unexpected = [text for text in said if not any(part in text for part in failing)]
    assert not unexpected
    assert options.get("java_script_enabled") is False or not page.evaluate("window.violations ?? []")
    assert asked and all(each.startswith((url + "/", url + "#")) for each in asked)
    context.close()


def serve(page, url, service):
    """From now on what a page asks of `url` is asked of `service`, another one."""
    page.unroute_all()
    page.route(url + "/**", lambda route: route.fulfill(response=route.fetch(
        url=route.request.url.replace(url, service, 1))))
