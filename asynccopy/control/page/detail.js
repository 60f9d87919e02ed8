// What is shown of the opened mirror.

import { Chart } from "/chart.js";
import { h, mark, say } from "/element.js";
import { ago, ahead, count, plural, rate, size, span, when } from "/words.js";

export class Detail {
  constructor() {
    this.chart = new Chart();
    this.facts = h("dl", { class: "facts" });
    this.held = h("p", { class: "held", hidden: true });
    this.errors = block("Errors", "errors");
    this.flying = block("In flight, the slowest first", "flying");
    this.slowest = block("Slowest files finished lately", "slowest");
    this.scans = block("Scans", "scans wide");
    this.notice = h("p", { class: "none" }, "Asking the daemon …");
    this.body = h(
      "div",
      { class: "detail-body", hidden: true },
      this.held,
      h("div", { class: "lead" }, this.chart.element, this.facts),
      this.errors.element,
      h("div", { class: "twin" }, this.flying.element, this.slowest.element),
      this.scans.element,
    );
    this.element = h("div", { class: "detail" }, this.notice, this.body);
  }

  show(detail, now) {
    const mirror = detail.status;
    this.notice.hidden = true;
    this.body.hidden = false;
    this.chart.show(detail.throughput, mirror.bandwidth);
    this.showFacts(mirror, now);
    this.showHeld(mirror);
    this.errors.element.hidden = detail.errors.length === 0;
    this.errors.fill(detail.errors.length ? h("ul", { class: "error-list" }, detail.errors.map(errorClass)) : null);
    this.flying.fill(files(detail.flying, true) ?? none("Nothing is under way."));
    this.slowest.fill(files(detail.slowest, false) ?? none("None yet."));
    this.scans.fill(scans(detail.scans, now) ?? none("No scan has begun yet."));
  }

  fail(text) {
    mark(this.notice, "class", "held");
    say(this.notice, text);
    this.notice.hidden = false;
  }

  showFacts(mirror, now) {
    const limit = mirror.bandwidth === null ? "no limit" : rate(mirror.bandwidth);
    const facts = [
      ["Source", mirror.source, "path"],
      ["Destination", mirror.destination, "path"],
      ["Watched by", mirror.watch === "scan" ? "scans" : mirror.watch],
      ["Last scan", ago(mirror.last_scan, now)],
      ["Last full scan", ago(mirror.last_full_scan, now)],
      ["Next scan", ahead(mirror.next_scan, now)],
      ["Ranges in flight", `${count(mirror.in_flight)} of ${count(mirror.concurrency)}`],
      ["Bandwidth now", limit],
      ...mirror.windows.map((window, at) => [at ? "" : "Bandwidth windows", window]),
      ["Copied since start", `${plural(mirror.copied_files, "file")}, ${size(mirror.copied_bytes)}`],
      ["Retries", count(mirror.retries)],
      ["Deleted since start", plural(mirror.deleted_files, "file")],
      ["Still being written", plural(mirror.open_files, "file")],
    ];
    const texts = JSON.stringify(facts);
    if (this.texts === texts) return; // a path that somebody selects to copy it stays selected
    this.texts = texts;
    this.facts.replaceChildren(
      ...facts.map(([name, text, kind]) => h("div", {}, h("dt", {}, name), h("dd", { class: kind ?? null }, text))),
    );
  }

  showHeld(mirror) {
    const { held, count: number } = mirror.deletions;
    mark(this.held, "hidden", held ? null : "");
    say(
      this.held,
      held
        ? `${plural(number, "deletion")} held: ${held}. Look at the plan and confirm it with: asynccopy deletions ${mirror.name}`
        : "",
    );
  }
}

function block(title, kind) {
  const inside = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title });
  const element = h("section", { class: `block ${kind}` }, h("h4", {}, title), inside);
  return { element, fill: (content) => inside.replaceChildren(...(content ? [content] : [])) };
}

const none = (text) => h("p", { class: "none" }, text);

function errorClass(failed) {
  return h(
    "li",
    {},
    h("div", { class: "error-head" }, h("code", {}, failed.error), h("span", { class: "badge" }, plural(failed.count, "file"))),
    failed.hint ? h("p", { class: "hint" }, failed.hint) : null,
    h("p", { class: "example" }, h("span", { class: "path" }, failed.path), h("span", {}, failed.message)),
  );
}

const head = (...names) => h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name))));

function files(flying, moving) {
  if (!flying.length) return null;
  const rows = flying.map((file) =>
    h(
      "tr",
      {},
      h("td", { class: "path" }, file.path),
      h("td", { class: "number" }, moving ? share(file) : null, h("span", {}, moving ? `${size(file.moved)} of ${size(file.length)}` : size(file.length))),
      h("td", { class: "number" }, span(file.seconds)),
    ),
  );
  return h("table", {}, head("File", moving ? "Copied" : "Size", "Time"), h("tbody", {}, rows));
}

function share(file) {
  return h("progress", { max: Math.max(1, file.length), value: Math.min(file.moved, file.length), "aria-label": "copied" });
}

function scans(passes, now) {
  if (!passes.length) return null;
  const rows = passes.map((scan) => {
    const runs = !scan.finished;
    const good = runs || scan.outcome === "complete";
    return h(
      "tr",
      {},
      h("td", {}, when(scan.started, now)),
      h("td", {}, scan.kind),
      h("td", {}, h("span", { class: good ? "" : "bad" }, runs ? "under way" : scan.outcome)),
      h("td", { class: "number" }, span(((scan.finished || now) - scan.started) / 1000)),
      ...[scan.directories, scan.files, scan.copied].map((number) => h("td", { class: "number" }, count(number))),
      h("td", { class: "number" }, size(scan.bytes)),
      h("td", { class: "number" }, scan.failed ? h("span", { class: "bad" }, count(scan.failed)) : "0"),
      ...[scan.deleted, scan.requests].map((number) => h("td", { class: "number" }, count(number))),
    );
  });
  const names = ["Began", "Kind", "Outcome", "Took", "Directories", "Files", "Copied", "Bytes", "Failed", "Deleted", "Requests"];
  return h("table", {}, head(...names), h("tbody", {}, rows));
}
