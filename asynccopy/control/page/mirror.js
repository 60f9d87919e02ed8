// One mirror in the list: made once, then only changed, so that focus and selection survive every poll.

import { spark } from "/chart.js";
import { Detail } from "/detail.js";
import { h, mark, say } from "/element.js";
import { count, percent, plural, rate, size, span } from "/words.js";

const REMEMBERED = 60;

export class MirrorCard {
  // actions: toggle(name), act(name, verb) -> Promise
  constructor(name, actions) {
    this.name = name;
    this.actions = actions;
    this.rates = [];
    const id = `detail-${name}`;
    this.title = h("button", { type: "button", class: "title", "aria-expanded": "false", "aria-controls": id, onclick: () => actions.toggle(name) });
    this.title.append(h("span", { class: "chevron", "aria-hidden": "true" }), h("span", { class: "name" }, name));
    this.state = h("span", { class: "state" });
    this.route = h("p", { class: "route" });
    this.reason = h("p", { class: "reason", hidden: true });
    this.done = h("span", { class: "done" });
    this.lost = h("span", { class: "lost" });
    this.track = h("div", { class: "track", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": `${name}: copied` }, this.done, this.lost);
    this.share = h("span", { class: "share" });
    this.volume = h("span", { class: "amount" });
    this.amount = h("p", { class: "amount" });
    this.rate = figure("Throughput");
    this.spark = h("span", { class: "spark-place" });
    this.rate.element.classList.add("with-spark");
    this.rate.element.append(this.spark);
    this.lag = figure("Lag");
    this.eta = figure("Left");
    this.failed = figure("Failed");
    this.buttons = {
      pause: this.button("pause", "Pause"),
      resume: this.button("resume", "Resume"),
      scan: this.button("scan", "Scan"),
      retry: this.button("retry", "Retry"),
    };
    this.place = h("div", { id, class: "place", hidden: true });
    this.element = h(
      "article",
      { class: "mirror", "aria-label": `Mirror ${name}` },
      h(
        "div",
        { class: "head" },
        h("div", { class: "who" }, h("div", { class: "line-up" }, h("h3", {}, this.title), this.state), this.route),
        h("div", { class: "progress" }, h("div", { class: "caption" }, this.share, this.volume), this.track, this.amount),
        h("div", { class: "figures" }, this.rate.element, this.lag.element, this.eta.element, this.failed.element),
        h("div", { class: "actions", role: "group", "aria-label": `Steer ${name}` }, Object.values(this.buttons)),
      ),
      this.reason,
      this.place,
    );
    this.detail = null;
  }

  button(verb, word) {
    const run = async (event) => {
      const button = event.currentTarget;
      button.disabled = true;
      button.setAttribute("aria-busy", "true");
      try {
        await this.actions.act(this.name, verb);
      } finally {
        button.removeAttribute("aria-busy");
        button.disabled = false;
        // The button that was pressed may be gone now: the focus stays on what took its place.
        if (button.hidden && (document.activeElement === document.body || document.activeElement === button)) {
          (verb === "pause" ? this.buttons.resume : verb === "resume" ? this.buttons.pause : this.title).focus();
        }
      }
    };
    return h("button", { type: "button", "data-verb": verb, "aria-label": `${word} ${this.name}`, onclick: run }, word);
  }

  show(mirror) {
    mark(this.element, "data-state", mirror.state);
    mark(this.state, "data-state", mirror.state);
    say(this.state, mirror.state);
    say(this.route, `${mirror.source} → ${mirror.destination}`);
    mark(this.route, "title", `${mirror.source} → ${mirror.destination}`);
    mark(this.reason, "hidden", mirror.reason ? null : "");
    say(this.reason, mirror.reason);
    this.showProgress(mirror);
    this.rates.push(mirror.bytes_per_second);
    this.rates.splice(0, this.rates.length - REMEMBERED);
    this.spark.replaceChildren(spark(this.rates));
    this.rate.show(mirror.bytes_per_second ? rate(mirror.bytes_per_second) : "–");
    this.lag.show(span(mirror.lag_seconds));
    this.eta.show(mirror.eta_seconds === null ? "–" : span(mirror.eta_seconds));
    this.failed.show(count(mirror.failed), mirror.failed > 0);
    const paused = mirror.state === "paused";
    this.buttons.pause.hidden = paused;
    this.buttons.resume.hidden = !paused;
    this.buttons.retry.hidden = mirror.failed === 0;
  }

  showProgress(mirror) {
    const { files, bytes } = mirror;
    // A tree of empty files has no bytes to go by.
    const by = bytes.total ? bytes : files;
    const complete = by.done >= by.total && !mirror.listing;
    const width = (part) => `${by.total ? Math.min(100, (100 * part) / by.total) : complete ? 100 : 0}%`;
    this.done.style.width = by.total ? width(by.done) : width(0);
    this.lost.style.width = by.total ? width(by.failed) : "0%";
    mark(this.track, "data-complete", complete ? "" : null);
    mark(this.track, "aria-valuenow", by.total ? Math.floor((100 * by.done) / by.total) : complete ? 100 : 0);
    say(this.share, by.total ? percent(by.done, by.total) : complete ? "100 %" : "0 %");
    const more = mirror.listing ? "+" : "";
    const volume = complete ? size(bytes.total) : `${size(bytes.done)} of ${size(bytes.total)}${more}`;
    const number = complete ? plural(files.total, "file") : `${count(files.done)} of ${count(files.total)}${more} files`;
    say(this.volume, volume);
    say(this.amount, mirror.listing ? `${number}, still listing` : number);
    mark(this.track, "aria-valuetext", `${number}, ${volume}`);
  }

  open(is) {
    mark(this.title, "aria-expanded", is);
    mark(this.element, "data-open", is ? "" : null);
    this.place.hidden = !is;
    if (is && !this.detail) {
      this.detail = new Detail();
      this.place.append(this.detail.element);
    } else if (!is && this.detail) {
      this.detail = null;
      this.place.replaceChildren();
    }
  }
}

function figure(name) {
  const value = h("span", { class: "value" });
  const element = h("div", { class: "figure" }, h("span", { class: "label" }, name), value);
  return {
    element,
    show(text, bad = false) {
      say(value, text);
      mark(value, "data-bad", bad ? "" : null);
    },
  };
}
