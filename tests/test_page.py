"""The page as a reader meets it: real Chromium, real gunicorn, the simulator."""

import json
import os
import re
import signal
import subprocess
from functools import partial
from pathlib import Path

import conftest
import pytest
import requests
from browser import serve, visit
from conftest import ROOT, until
from playwright.sync_api import expect

gateway = partial(conftest.gateway, development=True)  # whose key the page knows
pytestmark = pytest.mark.upstreams("simulator")
EXAMPLES = sorted((ROOT / "static/examples").iterdir())
LANGUAGES = {".sh": "curl", ".py": "Python", ".mjs": "JavaScript"}
TASKS = {"models": "List models", "chat": "Chat", "stream": "Streamed chat", "tool": "Tool call",
         "responses": "Responses", "kilo": "Kilo Code", "messages": "Anthropic's Messages"}
NO_UPSTREAM = {"UPSTREAM": "auto", "CURSOR_API_KEY": ""}
HTML = '<img src=x onerror="violations.push(1)"><script>violations.push(2)</script><b>bold</b>'


@pytest.fixture(scope="module")
def shared():
    with gateway() as one:
        yield one


@pytest.fixture
def page(browser, gate):
    with visit(browser, gate.url) as one:
        yield one


def send(page, text=None, *, stream=True):
    """Sends a chat and waits for its end; gives what the page shows as the answer."""
    if text is not None:
        page.fill("#message", text)
    page.set_checked("#stream", stream)
    page.click("#send")
    over(page)
    return page.inner_text("#said")


def over(page):
    expect(page.locator("#progress")).to_have_text(re.compile("Done|Stopped|Failed"))


def facts(page, selector):
    return dict(page.locator(f"{selector} > div").evaluate_all(
        "divs => divs.map(div => [div.children[0].textContent, div.children[1].textContent])"))


def look(page):
    """Has the page ask how the service is, as it does at times by itself."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def open_all(page):
    page.evaluate("document.querySelectorAll('#tables details').forEach(one => { one.open = true; })")


def test_it_says_what_runs_and_how_to_reach_it(page, gate):
    expect(page.locator("h1")).to_have_text("Cursor2API is running")
    expect(page.locator("#base")).to_have_text(gate.url + "/v1")
    expect(page.locator("#key")).to_have_value("0000")
    shown = facts(page, "#facts")
    about = requests.get(gate.url + "/reference.json", timeout=10).json()
    assert shown["Upstream"] == "Simulator" and shown["Version"] == about["version"]
    assert re.fullmatch(r"\d+ (second|minute)s?", shown["Up for"])
    expect(page.locator("#facts")).to_contain_text("Readyyes")
    banner = page.locator("#banner")
    expect(banner).to_contain_text("Simulator Replies are made-up text")
    colours = {page.evaluate("id => getComputedStyle(document.querySelector(id)).backgroundColor", id)
               for id in ("#banner", ".upstream")}
    assert colours == {"rgb(255, 179, 26)"}


def test_what_is_copied_is_what_is_shown(browser, gate):
    with visit(browser, gate.url, permissions=["clipboard-read", "clipboard-write"]) as page:
        for button, expected in [("[data-copy=base]", gate.url + "/v1"), ("[data-copy=key]", "0000"),
                                 ("#start-examples .block button", page.inner_text("#start-examples pre"))]:
            page.click(button)
            expect(page.locator(button)).to_have_text("Copied")
            assert page.evaluate("navigator.clipboard.readText()") == expected


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_shown_with_the_address_of_the_page(page, gate, example):
    page.get_by_role("tab", name=LANGUAGES[example.suffix]).click()
    page.locator("#start-examples").get_by_role("radio", name=TASKS[example.stem], exact=True).check()
    assert page.inner_text("#start-examples pre") == example.read_text().strip().replace(
        "http://127.0.0.1:8002", gate.url)


def test_behind_a_router_the_address_is_the_routers_and_no_key_is_shown(browser, gate):
    outside = "https://gateway.example"
    with visit(browser, outside, served_by=gate.url, ready=".empty") as page:
        expect(page.locator("#base")).to_have_text(outside + "/v1")
        expect(page.locator("#key-hint")).to_contain_text("programs on its machine")
        expect(page.locator("#key")).to_have_value("")
        example = page.inner_text("#start-examples pre")
        assert outside + "/v1/chat/completions" in example and "YOUR_KEY" in example and "0000" not in example


def test_a_key_opens_the_models_and_stays_in_its_tab(browser):
    with gateway(environ={"API_KEY": "a-long-secret-key"}) as gate:
        with visit(browser, gate.url, ready=".empty") as page:
            expect(page.locator("#key")).to_have_attribute("placeholder", "your key")
            assert "YOUR_KEY" in page.inner_text("#start-examples pre")
            page.get_by_role("button", name="Enter a key").click()
            page.keyboard.type("a-long-secret-key")
            page.get_by_role("button", name="Use it here").click()
            page.wait_for_selector(".cards")
            expect(page.locator("#spoken")).to_have_text(f"Models: {page.locator('.cards li').count()}")
            expect(page.locator("#try-key")).to_have_value("a-long-secret-key")
            assert "simulated model" in send(page)
            assert page.evaluate("[sessionStorage.getItem('key'), localStorage.length, document.cookie]") == [
                "a-long-secret-key", 0, ""]
            assert "a-long-secret-key" not in page.content() and page.url == gate.url + "/"
            page.reload()
            page.wait_for_selector(".cards")
        with visit(browser, gate.url, ready=".empty"):
            pass  # another tab does not know it


def test_a_wrong_key_is_told_and_can_be_mended(browser, gate):
    with visit(browser, gate.url, failing=["401"]) as page:
        page.fill("#try-key", "wrong")
        page.press("#try-key", "Enter")
        expect(page.locator("#key-wrong")).to_have_text("Invalid API key")
        expect(page.locator("#key")).to_have_attribute("aria-invalid", "true")
        assert json.loads(page.inner_text("#models-body pre"))["error"]["code"] == "invalid_api_key"
        over(page)
        assert json.loads(page.inner_text("#said pre"))["error"]["type"] == "authentication_error"
        assert facts(page, "#measures")["Status"] == "401"
        page.fill("#key", "0000")
        page.press("#key", "Enter")
        page.wait_for_selector(".cards")
        expect(page.locator("#key-wrong")).to_be_hidden()


def test_a_key_that_no_header_can_hold_is_refused_like_any_other(browser, gate):
    with visit(browser, gate.url, failing=["401"]) as page:
        page.fill("#key", "密钥")
        page.press("#key", "Enter")
        expect(page.locator("#key-wrong")).to_contain_text("Invalid API key")
        send(page)
        assert facts(page, "#measures")["Status"] == "401"
        page.reload()
        expect(page.locator("#key-wrong")).to_contain_text("Invalid API key")
        expect(page.locator("h1")).to_have_text("Cursor2API is running")


@pytest.mark.parametrize("again", [look, lambda page: page.get_by_role("button", name="Use it here").click()],
                         ids=["a look", "the button"])
def test_models_that_could_not_be_listed_are_asked_for_again(browser, gate, again):
    def refuse(page):
        page.route("**/v1/models", lambda route: route.fulfill(status=500, json={"error": {}}))
    with visit(browser, gate.url, before=refuse, failing=["500"], ready="#models-body pre") as page:
        page.unroute_all()
        again(page)
        page.wait_for_selector(".cards")


def test_where_nothing_may_be_stored_it_works_all_the_same(browser, gate):
    def forbid(page):
        page.add_init_script("""for (const name of ["localStorage", "sessionStorage"])
            Object.defineProperty(window, name, {get() { throw new DOMException("", "SecurityError"); }});""")
    with visit(browser, gate.url, before=forbid, failing=["401"]) as page:
        page.get_by_role("button", name="中文").click()
        expect(page.locator("h1")).to_have_text("Cursor2API 正在运行")
        page.fill("#key", "wrong")
        page.press("#key", "Enter")
        expect(page.locator("#key-wrong")).to_have_text("Invalid API key")


def test_without_the_chinese_words_it_stays_english(browser, gate):
    def lose(page):
        page.route("**/zh.json", lambda route: route.fulfill(status=502, body="nothing"))
    with visit(browser, gate.url, locale="zh-CN", before=lose, failing=["502"]) as page:
        expect(page.locator("h1")).to_have_text("Cursor2API is running")
        assert page.get_attribute("html", "lang") == "en"
        page.unroute_all()
        page.get_by_role("button", name="中文").click()
        expect(page.locator("h1")).to_have_text("Cursor2API 正在运行")


def test_on_plain_http_under_another_name_the_console_stays_empty(browser, gate):
    with visit(browser, gate.url.replace("127.0.0.1", "gateway.test"), ready=".empty") as page:
        expect(page.locator("h1")).to_have_text("Cursor2API is running")
        expect(page.locator("#facts")).to_contain_text("Readyyes")


def test_a_card_opens_the_model_and_its_examples(page, gate):
    known = requests.get(gate.url + "/v1/models", headers={"api-key": "0000"}, timeout=10).json()["data"]
    names = page.locator(".cards .id").all_inner_texts()
    assert sorted([*names, *(f"{name}-thinking" for name in names)]) == sorted(one["id"] for one in known)
    card = page.get_by_role("button", name="gemini-3-flash")
    assert "cursor2api · 200K tokens" in card.inner_text() and "-thinking" in card.inner_text()
    card.click()
    dialog = page.get_by_role("dialog", name="gemini-3-flash")
    expect(dialog).to_contain_text("200,000")
    assert '"model": "gemini-3-flash"' in dialog.locator("pre").inner_text()
    dialog.get_by_role("radio", name="thinking").check()
    expect(page.get_by_role("dialog", name="gemini-3-flash-thinking")).to_be_visible()
    dialog = page.locator("dialog")
    dialog.get_by_role("tab", name="Python").click()
    dialog.get_by_role("radio", name="Tool call").check()
    assert 'model="gemini-3-flash-thinking"' in dialog.locator("pre").inner_text()
    dialog.get_by_role("button", name="Try this model").click()
    expect(page.locator("#model")).to_have_value("gemini-3-flash-thinking")
    assert "simulated model" in send(page)
    card.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    expect(card).to_be_focused()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "body"])
def test_a_chat_is_answered_with_its_measures(page, gate, stream):
    page.fill("#system", "Be brief.")
    assert send(page, "Good morning", stream=stream).startswith("You wrote “Good morning”")
    shown = facts(page, "#measures")
    assert (shown["Status"], shown["Finish reason"]) == ("200", "stop")
    assert ("First token" in shown) == stream and shown["Total"].endswith("s")
    assert int(shown["Tokens in"]) > 0 and int(shown["Tokens out"]) > 0
    page.click("#headers summary")
    shown = facts(page, "#headers dl")
    assert shown["x-cursor2api-upstream"] == "simulator" and shown["x-request-id"].startswith("req_")
    assert shown["x-cursor2api-usage"] == ("in-stream" if stream else "upstream")
    assert "Be brief." in gate.agents()[-1]["runs"][0]["prompt"]


def test_a_streamed_answer_shows_as_it_arrives_and_stop_cancels_it(page, gate):
    gate.simulator.script({"replies": [{"text": "word " * 2000, "delay": 0.1}]})
    page.click("#send")
    expect(page.locator(".text")).to_contain_text("word word")
    assert page.get_attribute("#answer", "aria-busy") == "true"
    seen = len(page.inner_text(".text"))
    assert until(lambda: len(page.inner_text(".text")) > seen)
    expect(page.locator("#stop")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#progress")).to_have_text("Stopped")
    assert until(lambda: gate.agents()[-1]["runs"][0]["status"] == "CANCELLED")
    assert "word" in page.inner_text(".text") and page.is_enabled("#send")


def test_stop_also_cancels_an_answer_that_is_not_streamed(page, gate):
    gate.simulator.script({"replies": [{"text": "word " * 2000, "delay": 0.1}]})
    page.uncheck("#stream")
    page.click("#send")
    assert until(lambda: gate.agents() and gate.agents()[-1]["runs"])
    page.click("#stop")
    assert until(lambda: gate.agents()[-1]["runs"][0]["status"] == "CANCELLED")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "body"])
def test_a_tool_call_shows_as_a_call(page, stream):
    page.check("#tool")
    expect(page.locator("#message")).to_have_value("What is the weather in Paris? Use get_weather.")
    send(page, stream=stream)
    assert page.inner_text(".call > p") == "Tool call get_weather"
    assert json.loads(page.inner_text(".call pre")) == {"city": "Paris"}
    assert facts(page, "#measures")["Finish reason"] == "tool_calls"


def test_thinking_shows_apart_from_the_answer(browser):
    with gateway({"replies": [{"thinking": "hm", "text": "yes"}]}, {"EXPOSE_THINKING": "true"}) as gate:
        with visit(browser, gate.url) as page:
            send(page)
            assert page.inner_text(".text") == "yes"
            assert page.inner_text(".thinking p") == "hm"


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_a_reply_that_holds_html_stays_text(page, gate, chunk):
    gate.simulator.script({"replies": [{"text": HTML, "chunk": chunk}]})
    assert send(page) == HTML
    assert page.locator("#said :is(img, script, b)").count() == 0


def test_a_model_whose_name_is_html_stays_text(browser):
    with gateway(environ={"MODELS": HTML}) as gate, visit(browser, gate.url) as page:
        assert page.inner_text(".cards .id") == page.input_value("#model") == HTML
        page.click(".cards button")
        assert page.inner_text("#details-title") == HTML
        assert page.locator(":is(main, dialog) :is(img, script, b:not(pre b))").count() == 0


def test_an_error_that_is_html_stays_text(browser, gate):
    def refuse(page):
        page.route("**/ready", lambda route: route.fulfill(status=503, json={"reason": HTML}))
        page.route("**/v1/**", lambda route: route.fulfill(status=401, json={"error": {"message": HTML}}))
    with visit(browser, gate.url, before=refuse, failing=["401", "503"], ready="#models-body pre") as page:
        assert page.inner_text("#key-wrong") == HTML and HTML in page.inner_text("#facts")
        shown = [send(page), page.inner_text("#models-body")]
        assert [json.loads(text)["error"]["message"] for text in shown] == [HTML, HTML]
        assert page.locator("main :is(img, script, b:not(pre b))").count() == 0


def test_an_error_in_mid_stream_shows_as_its_json(page, gate):
    gate.simulator.script({"replies": [{"text": "one two three", "status": "ERROR"}]})
    send(page)
    assert page.inner_text(".text") == "one two three"
    assert json.loads(page.inner_text("#said pre"))["error"]["code"] == "run_failed"
    expect(page.locator("#progress")).to_have_text("Failed")


def test_the_request_as_curl_does_the_same(page, gate):
    text = "It's \"quoted\" \\ and $HOME"
    page.fill("#message", text)
    page.fill("#system", "Answer in `one` word")
    page.check("#tool")
    page.click("#as-curl summary")
    run = subprocess.run(["bash", "-c", page.inner_text("#as-curl pre")], text=True, capture_output=True,
                         timeout=60)
    assert run.stdout.endswith("data: [DONE]\n\n")
    prompt = gate.agents()[-1]["runs"][0]["prompt"]
    assert text in prompt and "Answer in `one` word" in prompt and "get_weather" in prompt


def test_a_service_that_goes_away_and_comes_back_is_told_from_one_that_runs(browser):
    with gateway() as gate, visit(browser, gate.url, failing=["ERR_CONNECTION", "ERR_EMPTY"]) as page:
        page.route("**/v1/chat/completions", lambda route: route.abort("connectionrefused"))
        page.route("**/health", lambda route: route.abort("connectionrefused"))
        send(page)
        expect(page.locator("h1")).to_have_text("Cursor2API does not answer")
        page.unroute("**/health")
        look(page)
        expect(page.locator("h1")).to_have_text("Cursor2API is running")


def test_a_service_that_hangs_does_not_count_as_running(browser):
    with gateway() as gate, visit(browser, gate.url, failing=["ERR_"]) as page:
        page.evaluate("""() => {
            const limit = AbortSignal.timeout.bind(AbortSignal);
            AbortSignal.timeout = (ms) => limit(ms / 20);
        }""")
        [worker] = gate.workers()
        os.kill(worker, signal.SIGSTOP)
        try:
            look(page)
            expect(page.locator("h1")).to_have_text("Cursor2API does not answer")
        finally:
            os.kill(worker, signal.SIGCONT)
        look(page)
        expect(page.locator("h1")).to_have_text("Cursor2API is running")


def test_a_restart_with_other_settings_shows_within_a_look(browser):
    home = "http://127.0.0.1:8002"
    with gateway(environ=NO_UPSTREAM) as earlier, gateway() as later:
        with visit(browser, home, served_by=earlier.url, failing=["503"], ready="#models-body pre") as page:
            assert facts(page, "#facts")["Upstream"] == "none"
            serve(page, home, later.url)
            look(page)
            page.wait_for_selector(".cards")
            expect(page.locator("#banner")).to_contain_text("Simulator")
            shown = facts(page, "#facts")
            assert (shown["Upstream"], shown["Ready"]) == ("Simulator", "yes")


def test_a_worker_that_started_at_another_time_shows_nothing_else_anew(page, gate):
    about = requests.get(gate.url + "/reference.json", timeout=10).json()
    page.route("**/reference.json", lambda route: route.fulfill(json=about | {"started": about["started"] - 7200}))
    page.locator(".cards button").first.focus()
    look(page)
    expect(page.locator("#facts")).to_contain_text("2 hours")
    expect(page.locator(".cards button").first).to_be_focused()


def test_a_service_that_went_away(browser):
    with gateway({"replies": [{"text": "word " * 2000, "delay": 0.1}]}, {"GRACE_S": "0"}) as gate:
        context = visit(browser, gate.url, failing=["ERR_", "Failed to load"])
        page = context.__enter__()
        page.click("#send")
        expect(page.locator(".text")).to_contain_text("word")
    expect(page.locator("#progress")).to_have_text("Failed")
    assert json.loads(page.inner_text("#said pre"))["error"]["code"] == "shutting_down"
    page.click("#send")
    expect(page.locator("#said pre")).to_have_text("The service did not answer.")
    expect(page.locator("h1")).to_have_text("Cursor2API does not answer")
    assert facts(page, "#facts")["Up for"] == "–"
    context.__exit__(None, None, None)


def test_without_an_upstream_it_says_so_and_what_to_do(browser):
    with gateway(environ=NO_UPSTREAM) as gate:
        with visit(browser, gate.url, failing=["503"], ready="#models-body pre") as page:
            expect(page.locator("#banner")).to_contain_text("Set CURSOR_API_KEY and start again")
            assert facts(page, "#facts")["Upstream"] == "none"
            assert "upstream_not_configured" in page.inner_text("#models-body")


def test_why_it_is_not_ready_is_shown(browser):
    with gateway(environ={"CURSOR_API_KEY": "bad-key"}) as gate:
        with visit(browser, gate.url, failing=["503", "502"], ready="#models-body pre") as page:
            expect(page.locator("#facts")).to_contain_text("no: Cursor refused the gateway's own key")


def test_chinese_is_whole_and_the_choice_is_remembered(browser, gate):
    with visit(browser, gate.url, locale="zh-CN") as page:
        expect(page.locator("h1")).to_have_text("Cursor2API 正在运行")
        assert page.get_attribute("html", "lang") == "zh-CN"
        open_all(page)
        page.click("#send")
        expect(page.locator("#progress")).to_have_text("完成")
        page.get_by_role("button", name="claude-3-5").click()
        english = page.evaluate("""() => {
            const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
            while (walk.nextNode()) {
                const {data, parentElement} = walk.currentNode;
                if (!parentElement.closest("pre, code, option, textarea, noscript, .text"))
                    if (/[a-z]{2,} [a-z]{2,}/i.test(data) && !/\\p{Script=Han}/u.test(data)) found.push(data);
            }
            return found; }""")
        assert set(english) <= {"Kilo Code", "string or array", "string or object", "type content, content"}
        page.keyboard.press("Escape")
        page.get_by_role("button", name="EN", exact=True).click()
        expect(page.locator("h1")).to_have_text("Cursor2API is running")
        page.reload()
        expect(page.locator("h1")).to_have_text("Cursor2API is running")
        assert page.get_attribute("html", "lang") == "en"
        page.get_by_role("button", name="中文").click()
        expect(page.get_by_role("heading", name="快速上手")).to_be_visible()


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_no_width_makes_it_scroll_sideways(browser, gate, locale):
    with visit(browser, gate.url, locale=locale) as page:
        open_all(page)
        page.check("#tool")
        page.click("#send")
        page.wait_for_selector(".call")
        page.click("#as-curl summary")
        page.click("#headers summary")

        def wider(width):
            page.set_viewport_size({"width": width, "height": 844})
            return page.evaluate("document.documentElement.scrollWidth") > width
        assert not [width for width in range(360, 1301, 15) if wider(width)]
        page.set_viewport_size({"width": 390, "height": 844})
        page.locator(".cards button").first.click()
        page.wait_for_selector("dialog[open]")
        box = page.locator("dialog").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
        assert page.evaluate("document.querySelector('dialog').scrollWidth") <= box["width"]


def test_the_keyboard_reaches_everything(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.get_by_role("tab", name="curl").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Python")).to_be_focused()
    assert "from openai" in page.inner_text("#start-examples pre")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    assert "stream=True" in page.inner_text("#start-examples pre")
    page.focus("#message")
    page.keyboard.press("Control+Enter")
    over(page)
    expect(page.locator("#message")).to_be_focused()
    page.locator("#routes summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#routes table")).to_be_visible()


@pytest.mark.parametrize("motion, moving", [("no-preference", True), ("reduce", False)])
def test_nothing_moves_for_who_wants_no_motion(browser, gate, motion, moving):
    with visit(browser, gate.url, reduced_motion=motion) as page:
        assert bool(page.evaluate("document.getAnimations().length")) == moving
        smooth = page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "smooth"
        assert smooth == moving


def test_the_reference_is_what_the_service_says_of_itself(page, gate):
    about = requests.get(gate.url + "/reference.json", timeout=10).json()
    open_all(page)
    for id, rows in [("routes", about["routes"]), ("parameters", about["parameters"]),
                     ("reply-headers", about["headers"]), ("errors", about["errors"]),
                     ("settings", about["settings"])]:
        shown = page.locator(f"#{id} tbody tr").all_inner_texts()
        assert len(shown) == len(rows)
        for text, row in zip(shown, rows):
            keys = {"path", "name", "range", "effect", "default", "status"} & row.keys()
            assert all(str(row[key]) in text for key in keys)
    bodies = page.locator("#errors td pre").all_inner_texts()
    assert [json.loads(text) for text in bodies] == [row["body"] for row in about["errors"]]
    assert page.locator("#replies pre").all_text_contents() == [row["text"] for row in about["replies"]]


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_it_is_light_and_quick(browser, gate, locale):
    """The quickest of a few loads, until the models are shown, in 300 ms of a core: on a busy machine that
    takes longer."""
    limit, times = 300 * max(1, os.getloadavg()[0] / os.cpu_count()), []

    def watch(page):
        page.add_init_script("""sessionStorage.setItem("key", "0000");
            new MutationObserver((changes, observer) => {
                if (!document.querySelector(".cards")) return;
                performance.mark("shown");
                observer.disconnect();
            }).observe(document, {childList: true, subtree: true});""")
    while len(times) < 10 and min(times, default=limit) >= limit:
        with visit(browser, gate.url, locale=locale, before=watch) as page:
            times.append(page.evaluate("performance.getEntriesByName('shown')[0].startTime"))
            sizes = page.evaluate("""["navigation", "resource"].flatMap((kind) =>
                performance.getEntriesByType(kind).map(one => one.transferSize))""")
            assert facts(page, "#facts")["Ready" if locale == "en-US" else "就绪"]
    assert min(times) < limit and sum(sizes) < 100_000


def test_the_pictures_of_the_readme(browser, gate, tmp_path):
    """`make screenshots` puts them into docs/."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    for name, options in [("page-light", {}), ("page-dark", {"color_scheme": "dark"}),
                          ("page-zh", {"locale": "zh-CN"})]:
        with visit(browser, "http://127.0.0.1:8002", served_by=gate.url, reduced_motion="reduce",
                   **options) as page:
            page.screenshot(path=folder / f"{name}.png")
        assert 10_000 < (folder / f"{name}.png").stat().st_size < 150_000
