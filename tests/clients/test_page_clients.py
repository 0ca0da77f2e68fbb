"""What of the page needs Node's packages: its examples in JavaScript, and axe-core's judgement of it."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from browser import visit  # noqa: E402
from conftest import MODEL, ROOT, gateway  # noqa: E402

EXPECTED = {"models": MODEL, "chat": "Hello", "stream": "Hello", "tool": '{"city":"Paris"}',
            "named": "get_weather",
            "responses": "Hello", "kilo": "attempt_completion", "messages": "Hello"}
AXE = HERE / "node_modules/axe-core/axe.min.js"


MARKDOWN = """# One

Two **three** [four](https://example.com/)

> five

1. six

| a | b |
|---|---|
| 1 | 2 |

```sh
ls
```"""


def send(page, text):
    page.fill("#message", text)
    page.press("#message", "Enter")
    page.locator(".turn.assistant[aria-busy=false]").last.wait_for()
    page.wait_for_selector("#send:visible")


def nothing_done(page, gate):
    pass


def several_turns(page, gate):
    gate.simulator.script({"replies": [{"text": MARKDOWN, "thinking": "hm"}]})
    send(page, "Hello")
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    page.check("#tool")
    page.set_input_files("#file", HERE.parent.parent / "docs/page-light.png")
    page.wait_for_selector("#pictures canvas")
    gate.simulator.forget()
    send(page, "What is the weather in Paris? Use get_weather.")
    page.wait_for_selector(".call")


def a_model(page, gate):
    page.locator(".pill").first.click()
    page.wait_for_selector("dialog[open] .examples")


def an_error(page, gate):
    gate.simulator.script({"replies": [{"text": "one two three", "status": "ERROR"}]})
    send(page, "Hello")
    page.click(".failed summary")
    page.fill("#key", "wrong")
    page.press("#key", "Enter")
    page.wait_for_selector("#key-wrong:visible")


@pytest.fixture(scope="module")
def strict():
    with gateway(environ={"KILO_TOOL_STRICT": "true"}, development=True) as one:
        yield one


@pytest.mark.parametrize("task", EXPECTED)
def test_an_example_in_javascript_does_what_it_says(strict, task):
    text = (ROOT / f"static/examples/{task}.mjs").read_text().replace("http://127.0.0.1:8002", strict.url)
    run = subprocess.run(["node", "--input-type=module"], input=text, cwd=HERE, text=True, capture_output=True,
                         timeout=60)
    assert run.returncode == 0 and EXPECTED[task] in run.stdout, run.stderr


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale, width", [("en-US", 1440), ("en-US", 768), ("zh-CN", 390)])
@pytest.mark.parametrize("do", [nothing_done, several_turns, a_model, an_error])
def test_axe_finds_nothing(browser, strict, do, scheme, locale, width):
    with visit(browser, strict.url, failing=["401"], color_scheme=scheme, locale=locale,
               viewport={"width": width, "height": 844}, reduced_motion="reduce") as page:
        strict.simulator.forget()
        do(page, strict)
        judge(page)


AS_WITHOUT_SCRIPTS = """() => {
    const [sheet] = document.styleSheets;
    for (const {media} of sheet.cssRules) {
        if (media?.mediaText === "(scripting: enabled)") media.mediaText = "not all";
        if (media?.mediaText === "(scripting: none)") media.mediaText = "all";
    }
    for (const one of document.querySelectorAll("noscript")) one.replaceWith(...one.children);
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale, width", [("en-US", 1440), ("en-US", 768), ("zh-CN", 390)])
def test_axe_finds_nothing_without_javascript(browser, strict, scheme, locale, width):
    """Chromium reads the page with scripts forbidden. Axe runs only where they are allowed, so they are then; the
    page's own never ran, and its style goes on as if they could not."""
    with browser.new_context(color_scheme=scheme, locale=locale, reduced_motion="reduce",
                             viewport={"width": width, "height": 844}) as context:
        page = context.new_page()
        inside = context.new_cdp_session(page)
        inside.send("Emulation.setScriptExecutionDisabled", {"value": True})
        page.goto(strict.url)
        inside.send("Emulation.setScriptExecutionDisabled", {"value": False})
        page.evaluate(AS_WITHOUT_SCRIPTS)
        assert page.locator("#state > .hint").is_visible()
        assert page.locator(".example:visible").count() == 24
        assert not page.locator("button:visible, input:visible").count()
        judge(page)


def judge(page):
    page.evaluate("scrollTo(0, 0)")  # what the bar covers cannot be judged
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")
    assert not [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]
    # It cannot judge the colours of what is partly scrolled out of sight.
    assert {each["id"] for each in found["incomplete"]} <= {"color-contrast"}
    assert len(found["passes"]) > 20
