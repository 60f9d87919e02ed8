// Throughput over time: a small line without words for the list, and one with axes for the opened mirror.

import { h, say, svg } from "/element.js";
import { clock, rate } from "/words.js";

const EDGE = { top: 14, right: 12, bottom: 24, left: 78 };

export function spark(values) {
  const width = 64;
  const height = 30;
  const most = Math.max(...values, 1);
  const step = width / Math.max(1, values.length - 1);
  const points = values.map((value, at) => `${(at * step).toFixed(1)},${(height - 2 - (value / most) * (height - 4)).toFixed(1)}`);
  return svg(
    "svg",
    { class: "spark", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    values.length > 1 && svg("polygon", { class: "area", points: `0,${height} ${points.join(" ")} ${width},${height}` }),
    values.length > 1 && svg("polyline", { class: "line", points: points.join(" ") }),
  );
}

// The steps of an axis are what people call round in units of 1024.
function axis(most) {
  const unit = 1024 ** Math.floor(Math.log2(Math.max(most, 1)) / 10);
  const scaled = most / unit;
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 256, 512].find((each) => scaled / each <= 4) * unit;
  return { step, top: Math.max(step, Math.ceil(most / step) * step) };
}

export class Chart {
  constructor() {
    this.readout = h("span", { class: "readout" });
    this.stage = h("div", { class: "stage" });
    this.element = h("figure", { class: "chart" }, h("figcaption", {}, h("h4", {}, "Throughput"), this.readout), this.stage);
    this.stage.addEventListener("pointermove", (event) => this.point(event.clientX - this.stage.getBoundingClientRect().left));
    this.stage.addEventListener("pointerleave", () => this.point(null));
    new ResizeObserver(() => this.draw()).observe(this.stage);
    this.samples = [];
    this.limit = null;
    this.at = null;
  }

  show(samples, limit) {
    this.samples = samples;
    this.limit = limit;
    this.draw();
  }

  draw() {
    const width = Math.max(260, this.stage.clientWidth);
    const height = Math.max(160, this.stage.clientHeight);
    const { samples } = this;
    if (samples.length < 2) {
      this.stage.replaceChildren(h("p", { class: "none" }, "Nothing measured yet."));
      say(this.readout, "");
      return;
    }
    const first = samples[0].time;
    const last = samples[samples.length - 1].time;
    const peak = Math.max(...samples.map((sample) => sample.bytes));
    const { step, top } = axis(Math.max(peak, this.limit !== null && this.limit < 2 * peak ? this.limit : 0));
    this.x = (time) => EDGE.left + ((time - first) / Math.max(1, last - first)) * (width - EDGE.left - EDGE.right);
    this.y = (value) => height - EDGE.bottom - (value / top) * (height - EDGE.top - EDGE.bottom);
    const points = samples.map((sample) => `${this.x(sample.time).toFixed(1)},${this.y(sample.bytes).toFixed(1)}`);
    const floor = this.y(0);
    this.cross = svg("g", { class: "cross", visibility: "hidden" });
    this.stage.replaceChildren(
      svg(
        "svg",
        { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": this.sentence(peak) },
        this.rows(step, top, width),
        this.columns(first, last, width, height),
        svg("polygon", { class: "area", points: `${this.x(first)},${floor} ${points.join(" ")} ${this.x(last)},${floor}` }),
        svg("polyline", { class: "line", points: points.join(" ") }),
        this.cap(top, width),
        this.cross,
      ),
    );
    this.point(this.at);
  }

  rows(step, top, width) {
    const rows = [];
    for (let value = 0; value <= top + step / 2; value += step) {
      const y = this.y(value);
      rows.push(svg("line", { class: value ? "grid" : "ground", x1: EDGE.left, x2: width - EDGE.right, y1: y, y2: y }));
      rows.push(svg("text", { class: "tick", x: EDGE.left - 8, y: y + 4, "text-anchor": "end" }, value ? rate(value) : "0"));
    }
    return rows;
  }

  columns(first, last, width, height) {
    const places = width < 480 ? 2 : 4;
    return Array.from({ length: places + 1 }, (_, at) => {
      const time = first + ((last - first) * at) / places;
      const anchor = at === 0 ? "start" : at === places ? "end" : "middle";
      return svg("text", { class: "tick", x: this.x(time), y: height - 6, "text-anchor": anchor }, clock(time));
    });
  }

  cap(top, width) {
    if (this.limit === null || this.limit > top) return [];
    const y = this.y(this.limit);
    return [
      svg("line", { class: "cap", x1: EDGE.left, x2: width - EDGE.right, y1: y, y2: y }),
      svg("text", { class: "cap-word", x: width - EDGE.right, y: y - 5, "text-anchor": "end" }, `limit ${rate(this.limit)}`),
    ];
  }

  sentence(peak) {
    const { samples } = this;
    const mean = samples.reduce((sum, sample) => sum + sample.bytes, 0) / samples.length;
    const from = clock(samples[0].time);
    return `Throughput since ${from}: now ${rate(samples[samples.length - 1].bytes)}, mean ${rate(mean)}, peak ${rate(peak)}`;
  }

  point(at) {
    this.at = at;
    const { samples } = this;
    if (samples.length < 2) return;
    let chosen = samples[samples.length - 1];
    if (at !== null) {
      const off = (sample) => Math.abs(this.x(sample.time) - at);
      chosen = samples.reduce((best, sample) => (off(sample) < off(best) ? sample : best));
      const x = this.x(chosen.time);
      this.cross.replaceChildren(
        svg("line", { x1: x, x2: x, y1: EDGE.top, y2: this.y(0) }),
        svg("circle", { cx: x, cy: this.y(chosen.bytes), r: 3.5 }),
      );
    }
    this.cross.setAttribute("visibility", at === null ? "hidden" : "visible");
    const place = at === null ? "now" : clock(chosen.time);
    say(this.readout, `${place}: ${rate(chosen.bytes)}, ${chosen.files.toFixed(1)} files/s`);
  }
}
