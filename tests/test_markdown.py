"""The page's Markdown in a real Chromium: CommonMark's examples, whole and as they grow, and what would harm."""

import json

import pytest
from browser import visit
from conftest import ROOT

pytestmark = pytest.mark.upstreams("simulator")
EXAMPLES = json.loads((ROOT / "tests/commonmark.json").read_text("utf-8"))["examples"]
TABLES = [  # GitHub's
    ("| a | b |\n|:--|--:|\n| 1 | `x\\|y` |", "<table><thead><tr><th>a</th><th>b</th></tr></thead>"
     "<tbody><tr><td>1</td><td><code>x|y</code></td></tr></tbody></table>"),
    ("a | b\n- | -\n1", "<table><thead><tr><th>a</th><th>b</th></tr></thead>"
     "<tbody><tr><td>1</td><td></td></tr></tbody></table>"),
    ("text\n| a |\n| - |\n| 1 | 2 |\n\nmore", "<p>text</p><table><thead><tr><th>a</th></tr></thead>"
     "<tbody><tr><td>1</td></tr></tbody></table><p>more</p>"),
    ("| a | b |\n| - |\n", "<p>| a | b |\n| - |</p>")]
HARMLESS = [
    ("[x](javascript:violations.push(1))", "<p>x</p>"),
    ("[x](JAVA\tSCRIPT:alert(1))", "<p>[x](JAVA\tSCRIPT:alert(1))</p>"),
    ("[x](&#106;avascript:alert(1)) <javascript:alert(1)>", "<p>x javascript:alert(1)</p>"),
    ("[x](data:text/html,hi) [y](vbscript:x) [z](/relative)", "<p>x y z</p>"),
    ("![a](https://example.com/a.png)", '<p><a href="https://example.com/a.png">a</a></p>'),
    ("<script>violations.push(1)</script>", "<p>&lt;script&gt;violations.push(1)&lt;/script&gt;</p>"),
    ("<img src=x onerror=violations.push(1)>", "<p>&lt;img src=x onerror=violations.push(1)&gt;</p>"),
    ("see https://e.example/a_(c). x",
     '<p>see <a href="https://e.example/a_(c)">https://e.example/a_(c)</a>. x</p>')]
SLOW = """
const n = 40000, cases = {
  stars: "*a ".repeat(n), brackets: "[".repeat(n), links: "[a](".repeat(n), pointed: "[a](<b".repeat(n),
  titles: '[a](b "'.repeat(n), quotes: ">".repeat(n) + "a", lists: "- ".repeat(n),
  backquotes: "`a``".repeat(n) + "```",
  runs: Array.from({length: 400}, (_, k) => "`".repeat(k) + "a").join(""),
  lazy: ">a\\nb\\n".repeat(n / 10),
  spaces: "# " + " ".repeat(n) + "#".repeat(n) + "x", rows: "|a|b|\\n|-|-|\\n" + "|x|y|\\n".repeat(n / 10),
  nested: Array.from({length: 1000}, (_, k) => " ".repeat(2 * k) + "- a").join("\\n"),
  emphasis: "*a **b ".repeat(2000) + "c** d*".repeat(2000), fence: "```\\n" + "x\\n".repeat(n)};
"""
# What stands in an element, in the words of HTML: the boxes of tables and code are the page's own.
HTML = """
const escaped = (data) => data.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const whole = (node) => [...node.childNodes].map(html).join("");
function html(node) {
  if (node.nodeType === 3) return escaped(node.data);
  const name = node.localName;
  if (node.className === "scroll") return whole(node);
  if (node.className === "block") {
    const language = node.querySelector(".language").textContent, code = node.querySelector("code").textContent;
    const mark = language && ` class="language-${language}"`;
    return `<pre><code${mark}>${escaped(code)}${code && "\\n"}</code></pre>`;
  }
  const more = name === "a" ? ` href="${node.getAttribute("href")}"` : node.hasAttribute("start") ?
    ` start="${node.getAttribute("start")}"` : "";
  return `<${name}${more}>` + (name === "br" || name === "hr" ? "" : `${whole(node)}</${name}>`);
}
// CommonMark's answer, as this subset has it: a link that leads nowhere allowed is text, and titles are left out.
function wanted(answer) {
  return answer.replace(/<a href="([^"]*)"[^>]*>([^]*?)<\\/a>/g, (found, address, inside) => {
    const href = safe(address.replaceAll("&quot;", '"').replaceAll("&amp;", "&"));
    return href ? `<a href="${href}">${inside}</a>` : inside;
  }).replaceAll("&quot;", '"').replace(/ title="[^"]*"/g, "").replaceAll(" />", ">");
}
const tidy = (answer) => answer
  .replace(/\\s*(<\\/?(?:p|ul|ol|li|pre|blockquote|h\\d|hr|table)\\b[^>]*>)\\s*/g, "$1")
  .replace(/<br>\\n/g, "<br>").trim();
"""


@pytest.fixture(scope="module")
def page(browser, shared):
    with visit(browser, shared.url, ready="#facts .upstream") as one:
        yield one


def run(page, body, argument=None):
    return page.evaluate("""async (argument) => {
        const {drawing} = await import("/static/draw.js"), {blocks, safe} = await import("/static/markdown.js");
        %s %s }""" % (HTML, body), argument)


@pytest.mark.parametrize("step", [10**6, 1, 7], ids=["whole", "by character", "by seven"])
def test_what_is_shown_is_what_commonmark_says(page, step):
    """However the text came in: what is drawn as it grows is in the end what the whole text gives."""
    wrong = run(page, """
        const [examples, step] = argument;
        return examples.flatMap(([number, markdown, answer]) => {
          const box = document.createElement("div"), draw = drawing(box);
          for (let end = step; end < markdown.length; end += step) draw(markdown.slice(0, end));
          draw(markdown);
          const shown = tidy(whole(box)), right = tidy(wanted(answer));
          return shown === right ? [] : [[number, markdown, right, shown]];
        });""", [[*EXAMPLES, *(["ours", *each] for each in TABLES + HARMLESS)], step])
    assert not wrong


def test_no_text_takes_long_to_read(page):
    times = run(page, SLOW + """
        return Object.entries(cases).map(([name, text]) => {
          const start = performance.now();
          blocks(text.split("\\n"));
          return [name, performance.now() - start];
        });""")
    assert not [(name, taken) for name, taken in times if taken > 2000]


def test_a_selection_outlives_the_text_that_follows(page):
    assert run(page, """
        const box = document.createElement("div"), draw = drawing(box);
        const text = "- one *two*\\n- three\\n\\nfour **five** six and more words";
        document.body.append(box);
        draw(text.slice(0, 40));
        getSelection().selectAllChildren(box.querySelector("em"));
        const {anchorNode} = getSelection(), last = box.lastChild;
        for (let end = 40; end <= text.length; end++) draw(text.slice(0, end));
        draw(text + " seven\\n\\n# eight");
        const {anchorNode: now} = getSelection();
        const kept = getSelection().toString() === "two" && now === anchorNode && last.isConnected;
        box.remove();
        return kept;""")
