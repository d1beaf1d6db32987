// The console in a browser: every page at a desk's and a phone's width, light and dark, without a script. Each has to
// lead nowhere dead, to fetch nothing from elsewhere, to fit its width, and to pass axe. Then the script: what is live.
//
// usage: node run.cjs (--binary PATH | --console URL) --browser PATH [--shots FOLDER] [--seconds N]
//
// With --binary it starts `evenkeel demo` and ends it; with --console it looks at a node that runs. --shots writes
// pictures. The exit status is 1 if anything is wrong; each thing is a line.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");
const { chromium } = require("playwright-core");
const axe = require("axe-core");

const WIDTHS = [
  { name: "desk", width: 1366, height: 768 },
  { name: "phone", width: 390, height: 844 },
];
const SCHEMES = ["light", "dark"];
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
// The longest that anything here may take.
const DEADLINE_MS = 30_000;

const problems = [];
const wrong = (what) => {
  problems.push(what);
  console.log(`wrong: ${what}`);
};

function options() {
  const found = { seconds: "8" };
  const words = process.argv.slice(2);
  while (words.length > 0) {
    const name = words.shift();
    if (!["--binary", "--console", "--browser", "--shots", "--seconds"].includes(name) || words.length === 0) {
      throw new Error(`${name} is not known here, or wants a value`);
    }
    found[name.slice(2)] = words.shift();
  }
  if (!found.browser || !(found.binary || found.console)) throw new Error("--browser, and --binary or --console");
  return found;
}

// Asks until `look` gives something, with a deadline.
async function until(what, look) {
  const end = Date.now() + DEADLINE_MS;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
    await new Promise((go) => setTimeout(go, 100));
  }
  throw new Error(`${what} did not come about`);
}

async function demo(binary) {
  const child = spawn(binary, ["demo", "--rate", "50"], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = readline.createInterface({ input: child.stdout });
  const url = await new Promise((found, failed) => {
    lines.on("line", (line) => {
      const match = /^console (http:\/\/\S+)/.exec(line);
      if (match) found(match[1]);
    });
    child.on("exit", (code) => failed(new Error(`the demo ended with ${code}`)));
  });
  return { url, child };
}

async function json(url) {
  const answer = await fetch(url, { headers: { accept: "application/json" } });
  return answer.ok ? answer.json() : null;
}

// Pages that are looked at: one of each kind, and some that say that there is nothing.
async function pages(base) {
  const status = await json(`${base}/v1/status`);
  const list = [["home", "/"], ["journal", "/journal"], ["journal-filtered", "/journal?level=warn&since=1h"], ["why", "/why"]];
  const segment = encodeURIComponent;
  for (const service of status.services.slice(0, 1)) {
    list.push(["service", `/services/${segment(service.name)}`], ["service-week", `/services/${segment(service.name)}?range=7d`]);
  }
  for (const route of status.routes.slice(0, 1)) list.push(["route", `/routes/${segment(route.name)}`]);
  const traces = ((await json(`${base}/v1/traces?limit=200`)) || { traces: [] }).traces;
  const told = traces.find((trace) => trace.tries > 1) || traces[0];
  if (told) list.push(["request", `/why/${segment(told.id)}`]);
  list.push(["request-unknown", "/why/nobody-knows-it"], ["nothing", "/nothing"]);
  return list;
}

// Every link of every page that is reached, from the first page on.
async function crawl(base) {
  const seen = new Set();
  const left = [["/", "here"]];
  while (left.length > 0 && seen.size < 400) {
    const [at, from] = left.pop();
    const url = new URL(at, base);
    url.hash = "";
    if (url.origin !== base) {
      wrong(`${from} leads away, to ${url}`);
      continue;
    }
    if (seen.has(url.href)) continue;
    seen.add(url.href);
    if (url.pathname.endsWith("/follow")) continue;
    const answer = await fetch(url, { headers: { accept: "text/html" } });
    const text = await answer.text();
    // Traces and records make room for newer ones while this goes on.
    const mayBeGone = url.pathname.startsWith("/why/") || url.pathname.startsWith("/v1/why/");
    if (!answer.ok && !(mayBeGone && answer.status === 404)) wrong(`${url.pathname}${url.search} from ${from}: ${answer.status}`);
    if (!(answer.headers.get("content-type") || "").startsWith("text/html")) continue;
    for (const match of text.matchAll(/<(?:a|link)\b[^>]*?\shref="([^"]*)"/g)) {
      left.push([new URL(match[1].replaceAll("&amp;", "&"), url).href, url.pathname]);
    }
  }
  return seen.size;
}

// A page that says what goes wrong in it.
async function open(browser, where, base, more) {
  const context = await browser.newContext(more);
  const page = await context.newPage();
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== base) wrong(`${where}: it asks for ${request.url()}`);
  });
  page.on("pageerror", (error) => wrong(`${where}: ${error}`));
  page.on("console", (message) => {
    // What the policy of the page forbids is told like this. That a page says 404 is meant.
    if (message.type() === "error" && !/status of 404/.test(message.text())) wrong(`${where}: ${message.text()}`);
  });
  return { context, page };
}

async function look(browser, base, [name, at], size, scheme, shots) {
  const where = `${name} (${at}), ${size.width} px, ${scheme}`;
  const shape = { viewport: { width: size.width, height: size.height }, colorScheme: scheme };

  const plain = await open(browser, where, base, { ...shape, javaScriptEnabled: false });
  await plain.page.goto(base + at, { waitUntil: "load" });
  const width = await plain.page.evaluate(() => document.documentElement.scrollWidth);
  if (width > size.width) wrong(`${where}: it is ${width} px wide`);
  const text = await plain.page.evaluate(() => document.body.innerText.length);
  if (text < 100) wrong(`${where}: there is nothing on it without a script`);
  if (shots) await plain.page.screenshot({ path: path.join(shots, `${name}-${size.name}-${scheme}.png`), fullPage: size.name === "phone" });
  await plain.context.close();

  // axe itself needs a script to run.
  const judged = await open(browser, where, base, shape);
  await judged.page.goto(base + at, { waitUntil: "load" });
  await judged.page.evaluate(axe.source);
  const result = await judged.page.evaluate(
    (tags) => globalThis.axe.run(document, { runOnly: tags, resultTypes: ["violations"], rules: { "target-size": { enabled: true } } }),
    TAGS,
  );
  for (const violation of result.violations) {
    const nodes = violation.nodes.slice(0, 3).map((node) => `${node.target.join(" ")}: ${node.failureSummary.replaceAll("\n", " ")}`);
    wrong(`${where}: ${violation.id}: ${violation.help}; ${nodes.join(" | ")}`);
  }
  await judged.context.close();
}

// With its script the first page changes by itself, stands still when told, and goes on.
async function live(browser, base) {
  const { context, page } = await open(browser, "live", base, { viewport: { width: 1366, height: 768 } });
  await page.goto(base, { waitUntil: "load" });
  const note = () => page.locator("#live-note").textContent();
  const figures = () => page.locator("#golden").textContent();
  await until("a live page", async () => (await note()) === "Live");
  const before = await figures();
  await until("a change of the live page", async () => (await figures()) !== before);
  await page.locator("#pause").click();
  if ((await note()) !== "Paused") wrong(`live: after the pause it says ${await note()}`);
  const paused = await figures();
  await new Promise((go) => setTimeout(go, 4_500));
  if ((await figures()) !== paused) wrong("live: it goes on while it is paused");
  await page.locator("#pause").click();
  await until("going on after a pause", async () => (await figures()) !== paused);
  await context.close();
}

async function main() {
  const asked = options();
  const running = asked.binary ? await demo(asked.binary) : { url: asked.console };
  const base = new URL(running.url).origin;
  const browser = await chromium.launch({ executablePath: asked.browser, args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"] });
  try {
    await until("traffic", async () => (await json(`${base}/v1/status`))?.traffic.requests_total > 100);
    // Enough for the counts of some quarter minutes and for something to go wrong in the demo.
    await new Promise((go) => setTimeout(go, Number(asked.seconds) * 1_000));
    if (asked.shots) fs.mkdirSync(asked.shots, { recursive: true });
    const links = await crawl(base);
    const list = await pages(base);
    for (const page of list) {
      for (const size of WIDTHS) {
        for (const scheme of SCHEMES) await look(browser, base, page, size, scheme, asked.shots);
      }
    }
    await live(browser, base);
    console.log(`browser: ${links} links, ${list.length} pages in ${WIDTHS.length * SCHEMES.length} ways each, ${problems.length} wrong`);
  } finally {
    await browser.close();
    if (running.child) running.child.kill("SIGINT");
  }
}

main().then(
  () => process.exit(problems.length > 0 ? 1 : 0),
  (error) => {
    console.error(`error: ${error.stack || error}`);
    process.exit(1);
  },
);
