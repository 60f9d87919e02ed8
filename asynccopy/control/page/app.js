// Asks the daemon every two seconds, shows what it says, and passes on what a person wants.

import { h, mark, say } from "/element.js";
import { MirrorCard } from "/mirror.js";
import { count, plural, rate, size, span } from "/words.js";

const EVERY = 2000;
const LONGEST = 30000;
const PATIENCE = 10000;
const STATES = ["failed", "waiting", "copying", "watching", "paused"];
const DONE = { pause: "paused", resume: "goes on", scan: "is scanned now", retry: "tries again" };

const place = (id) => document.getElementById(id);
const cards = new Map();
const shown = { states: new Set(), words: "" };
let opened = location.hash.slice(1) || null; // null: nobody has chosen yet, "": nothing is to be open
let seen = 0;
let misses = 0;
let timer = 0;
let asking = null;
let offset = 0; // the daemon's clock minus ours

class Refused extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { ...options, headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  const said = await response.json();
  if (!response.ok) throw new Refused(response.status, said.error, said.hint);
  const date = Date.parse(response.headers.get("Date") ?? "");
  if (!Number.isNaN(date)) offset = date - Date.now();
  return said;
}

const daemonNow = () => Date.now() + offset;

async function poll() {
  clearTimeout(timer);
  // One at a time, so that no older answer is shown after a newer one; and begun anew, so that what a button did is seen.
  if (asking) await asking;
  asking ??= look().finally(() => (asking = null));
  await asking;
  clearTimeout(timer);
  if (document.hidden || place("token").open) return; // nobody looks, or nobody may
  timer = setTimeout(poll, misses ? Math.min(LONGEST, EVERY * 2 ** (misses - 1)) : EVERY);
}

async function look() {
  try {
    const status = await ask("/v1/status");
    misses = 0;
    seen = Date.now();
    show(status);
    link("live", "live");
    place("away").hidden = true;
    if (cards.has(opened)) await lookCloser(opened);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) wantToken(error);
    else away(error);
  }
}

async function lookCloser(name) {
  try {
    const detail = await ask(`/v1/mirrors/${encodeURIComponent(name)}`);
    cards.get(name)?.detail?.show(detail, daemonNow());
  } catch (error) {
    // The daemon is there, but its journal may not be: what was known stays to be seen.
    if (!(error instanceof Refused) || error.status === 401) throw error;
    cards.get(name)?.detail?.fail(`No details now: ${error.message}${error.hint ? ` (${error.hint})` : ""}`);
  }
}

function away(error) {
  misses += 1;
  const wait = Math.min(LONGEST, EVERY * 2 ** (misses - 1)) / 1000;
  link("away", "no answer");
  say(place("away-title"), error instanceof Refused ? "The daemon refused." : "The daemon does not answer.");
  const since = seen ? `What you see is ${span((Date.now() - seen) / 1000)} old. ` : "";
  const said = error instanceof Refused ? `${error.message}. ` : "";
  say(place("away-text"), `${said}${since}Asking again in ${span(wait)}.`);
  place("away").hidden = false;
}

function link(state, text) {
  mark(place("link"), "data-link", state);
  mark(document.body, "data-link", state);
  say(place("link-text"), text);
  if (state === "away") document.title = "(no answer) asynccopy";
}

function wantToken() {
  const dialog = place("token");
  misses = Math.max(misses, 1);
  link("away", "token needed");
  if (dialog.open) return;
  say(place("token-error"), sessionStorage.getItem("token") ? "The daemon did not accept this token." : "");
  sessionStorage.removeItem("token");
  dialog.showModal();
}

place("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", place("token-value").value.trim());
  place("token-value").value = "";
  place("token").close();
});
place("token").addEventListener("close", poll); // also by the Escape key: then it is asked for again

function show(status) {
  const { mirrors } = status;
  showDaemon(status);
  showSummary(mirrors);
  showStates(mirrors);
  const names = new Set(mirrors.map((mirror) => mirror.name));
  for (const [name, card] of cards) {
    if (!names.has(name)) {
      card.element.remove();
      cards.delete(name);
    }
  }
  if (mirrors.length === 1 && opened === null) opened = mirrors[0].name;
  for (const mirror of mirrors) {
    let card = cards.get(mirror.name);
    if (!card) {
      card = new MirrorCard(mirror.name, { toggle, act });
      cards.set(mirror.name, card);
      place("list").append(card.element);
      card.open(mirror.name === opened);
    }
    card.show(mirror);
  }
  place("search").hidden = mirrors.length < 6;
  mark(place("list"), "data-many", mirrors.length > 7 ? "" : null);
  choose(mirrors);
  const troubled = mirrors.filter((mirror) => mirror.state === "failed" || mirror.failed).length;
  document.title = troubled ? `(${troubled}) asynccopy` : "asynccopy";
}

function showDaemon(status) {
  const state = status.state === "draining" ? "draining" : `up ${span((daemonNow() - status.started) / 1000)}`;
  const lag = status.loop_lag < 1 ? `${Math.round(status.loop_lag * 1000)} ms` : span(status.loop_lag);
  say(place("daemon"), [`v${status.version}`, state, `${size(status.rss)} memory`, `loop lag ${lag}`, `pid ${status.pid}`].join("  ·  "));
  mark(place("daemon"), "title", status.config);
}

function showSummary(mirrors) {
  const sum = (value) => mirrors.reduce((all, mirror) => all + value(mirror), 0);
  const last = mirrors.reduce((worst, mirror) => (mirror.lag_seconds > (worst?.lag_seconds ?? -1) ? mirror : worst), null);
  const failed = sum((mirror) => mirror.failed);
  const held = sum((mirror) => (mirror.deletions.held ? mirror.deletions.count : 0));
  const limited = mirrors.filter((mirror) => mirror.bandwidth !== null).length;
  const tiles = [
    ["Throughput", rate(sum((mirror) => mirror.bytes_per_second)), `${sum((mirror) => mirror.files_per_second).toFixed(1)} files/s`, false],
    ["To copy", size(sum((mirror) => mirror.bytes.pending)), plural(sum((mirror) => mirror.files.pending), "file"), false],
    ["Longest lag", last ? span(last.lag_seconds) : "–", last ? last.name : "no mirror", false],
    ["Failed", count(failed), held ? `${plural(held, "deletion")} held` : failed ? "files, see their mirrors" : "files", failed > 0],
    ["In flight", count(sum((mirror) => mirror.in_flight)), limited ? `ranges; ${count(limited)} of ${count(mirrors.length)} limited` : "ranges", false],
  ];
  const summary = place("summary");
  if (!summary.childElementCount) {
    summary.append(...tiles.map(() => h("div", { class: "tile" }, h("span", { class: "label" }), h("span", { class: "value" }), h("span", { class: "note" }))));
  }
  tiles.forEach(([label, value, note, bad], at) => {
    const [labelPlace, valuePlace, notePlace] = summary.children[at].children;
    say(labelPlace, label);
    say(valuePlace, value);
    mark(valuePlace, "data-bad", bad ? "" : null);
    say(notePlace, note);
  });
}

function showStates(mirrors) {
  const bar = place("states");
  if (!bar.childElementCount) {
    bar.append(
      ...STATES.map((state) =>
        h("button", { type: "button", class: "chip", "data-state": state, "aria-pressed": "false", onclick: () => toggleState(state) }),
      ),
    );
  }
  STATES.forEach((state, at) => {
    const number = mirrors.filter((mirror) => mirror.state === state).length;
    const chip = bar.children[at];
    say(chip, `${count(number)} ${state}`);
    chip.hidden = mirrors.length < 2 || (number === 0 && !shown.states.has(state));
  });
}

function toggleState(state) {
  if (!shown.states.delete(state)) shown.states.add(state);
  for (const chip of place("states").children) mark(chip, "aria-pressed", shown.states.has(chip.dataset.state));
  choose();
}

// Which cards are to be seen: those of the pressed states whose name or places contain the words.
let known = [];
function choose(mirrors = known) {
  known = mirrors;
  let number = 0;
  for (const mirror of mirrors) {
    const text = `${mirror.name} ${mirror.source} ${mirror.destination}`.toLowerCase();
    const is = (!shown.states.size || shown.states.has(mirror.state)) && text.includes(shown.words);
    cards.get(mirror.name).element.hidden = !is;
    number += is;
  }
  place("empty").hidden = number > 0;
  say(place("empty"), mirrors.length ? "No mirror fits this choice." : "No mirror is configured.");
}

place("find").addEventListener("input", (event) => {
  shown.words = event.target.value.trim().toLowerCase();
  choose();
});

function toggle(name) {
  cards.get(opened)?.open(false);
  opened = opened === name ? "" : name;
  cards.get(opened)?.open(true);
  history.replaceState(null, "", opened ? `#${encodeURIComponent(opened)}` : location.pathname);
  if (opened) poll();
}

async function act(name, verb) {
  try {
    await ask(`/v1/mirrors/${encodeURIComponent(name)}/${verb}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: "{}",
    });
    toast(`${name} ${DONE[verb]}.`, "good");
  } catch (error) {
    const hint = error instanceof Refused && error.hint ? ` (${error.hint})` : "";
    toast(`${name}: ${error instanceof Refused ? error.message : "the daemon does not answer"}${hint}`, "bad");
  }
  await poll();
}

function toast(text, kind) {
  const element = h("div", { class: "toast", "data-kind": kind }, text);
  place("toasts").append(element);
  setTimeout(() => element.remove(), kind === "bad" ? 10000 : 4000);
}

place("away-now").addEventListener("click", poll);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else poll();
});
poll();
