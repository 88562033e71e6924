// What keeps a page true: it is asked for again when the server says so.  There is no clock in here.
import { show } from "./output.js";

const $ = (id) => document.getElementById(id);
const parser = new DOMParser();
let source = null, release = () => {}, asking = null, dirty = 0, pressed = false;

// ---- the page, asked for again -----------------------------------------------------------------------------

async function read(url) {
  asking?.abort();
  const mine = (asking = new AbortController());
  try {
    const reply = await fetch(url, { headers: { Accept: "text/html" }, signal: mine.signal });
    return parser.parseFromString(await reply.text(), "text/html");
  } finally {
    if (asking === mine) asking = null;
  }
}

// Put what changed in place, and leave what people are at: focus, what is unfolded, where they scrolled to.
function swap(found) {
  for (const section of document.querySelectorAll("[data-live]")) {
    const fresh = found.getElementById(section.id);
    if (!fresh || fresh.outerHTML === section.outerHTML) continue;
    const open = [...section.querySelectorAll("details[open]")].map((each) => each.id);
    const focus = section.contains(document.activeElement) && document.activeElement;
    const href = focus && focus.getAttribute("href"), id = focus && focus.id;
    const scroll = section.querySelector(".scroll")?.scrollLeft;
    for (const each of open) fresh.querySelector(`#${CSS.escape(each)}`)?.setAttribute("open", "");
    section.replaceWith(document.adoptNode(fresh));
    if (scroll) fresh.querySelector(".scroll").scrollLeft = scroll;
    const back = (href && fresh.querySelector(`a[href="${CSS.escape(href)}"]`)) || (id && $(id));
    if (back) back.focus({ preventScroll: true });
  }
  for (const name of ["now", "seq"]) document.body.dataset[name] = found.body.dataset[name];
  for (const name of ["event", "known", "when"]) $(name).replaceChildren(...found.getElementById(name).childNodes);
  const slider = $("seq"), now = found.getElementById("seq");
  if (document.activeElement !== slider) [slider.max, slider.value] = [now.max, now.value];
}

async function refresh(seq) {
  dirty = Math.max(dirty, seq);
  if (document.hidden || asking || pressed) return;
  dirty = 0;
  const url = new URL(location);
  url.searchParams.set("min_seq", seq);
  try {
    const found = await read(url);
    if ("past" in document.body.dataset) return;
    if (pressed) dirty = seq;
    else swap(found);
  } catch (error) {
    if (error.name !== "AbortError") stale();
  }
  if (dirty) refresh(dirty);
}

// Nothing moves away under a finger or a pointer that is down.
document.addEventListener("pointerdown", () => { pressed = true; });
for (const name of ["pointerup", "pointercancel", "dragend"]) {
  document.addEventListener(name, () => {
    pressed = false;
    if (dirty) requestAnimationFrame(() => refresh(dirty));
  });
}

// Browsers keep few connections to one place: a page that nobody sees lets go of its own.
document.addEventListener("visibilitychange", () => {
  if ("still" in document.body.dataset) return;
  if (document.hidden) source?.close();
  else {
    listen();
    refresh(dirty);
  }
});

// ---- another moment ----------------------------------------------------------------------------------------

async function visit(url, remember = true) {
  let found;
  try {
    found = await read(url);
  } catch (error) {
    if (error.name !== "AbortError") location.assign(url);
    return;
  }
  if (remember) history.pushState(null, "", url);
  const focused = document.activeElement?.id, place = window.scrollY;
  leave();
  document.title = found.title;
  for (const name of ["header", "main", "footer"]) {
    document.querySelector(`body > ${name}`).replaceWith(document.adoptNode(found.querySelector(`body > ${name}`)));
  }
  for (const name of Object.keys(document.body.dataset)) delete document.body.dataset[name];
  Object.assign(document.body.dataset, found.body.dataset);
  if (focused) $(focused)?.focus({ preventScroll: true });
  window.scrollTo(0, place);
  begin();
}

function moment(seq) {
  const url = new URL(location);
  for (const name of ["seq", "at", "min_seq"]) url.searchParams.delete(name);
  if (seq < Number($("seq").max)) url.searchParams.set("seq", Math.max(Number($("seq").min), seq));
  visit(url);
}

window.addEventListener("popstate", () => visit(new URL(location), false));

// ---- live --------------------------------------------------------------------------------------------------

function age(seconds) {
  const two = (number) => String(number).padStart(2, "0");
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${two(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

function tick(now) {
  document.body.dataset.now = now;
  const moment = Date.parse(now);
  for (const each of document.querySelectorAll("time[data-age]")) {
    each.textContent = age(Math.max(0, Math.floor((moment - Date.parse(each.dateTime)) / 1000)));
  }
}

function stale() {
  const line = $("stale");
  if (line.hidden) line.textContent = `Stale since ${document.body.dataset.now.slice(11, 19)} UTC: the connection was cut. It comes back by itself.`;
  line.hidden = false;
  $("live")?.classList.add("off");
}

function fresh() {
  const was = !$("stale").hidden;
  $("stale").hidden = true;
  $("live")?.classList.remove("off");
  if (was) refresh(0);
}

function listen() {
  source = new EventSource(`/live?after=${document.body.dataset.seq}`);
  source.onopen = fresh;
  source.onerror = stale;
  source.addEventListener("tick", (message) => tick(JSON.parse(message.data).now));
  source.addEventListener("changed", (message) => refresh(JSON.parse(message.data).seq));
}

function progress(step) {
  const text = [step.text, step.message].filter((each, at, all) => each && all.indexOf(each) === at).join(" ");
  const left = step.eta_ms ? ` · about ${age(Math.round(step.eta_ms / 1000))} left` : "";
  if ($("progress") && text !== step.status) $("progress").textContent = text + left;
  const bar = $("bar")?.querySelector("progress");
  if (bar && step.fraction != null) bar.value = step.fraction;
}

function begin() {
  const url = new URL(location);
  if (url.searchParams.has("min_seq")) {
    url.searchParams.delete("min_seq");
    history.replaceState(null, "", url);
  }
  const past = "past" in document.body.dataset, output = $("output");
  if (output) release = show(output, { past, stale, fresh: () => {}, progress, over: () => {} });
  if (!("still" in document.body.dataset)) listen();
  $("seq").addEventListener("input", (event) => { $("event").textContent = Number(event.target.value).toLocaleString("en"); });
  $("seq").addEventListener("change", (event) => moment(Number(event.target.value)));
  $("moment").addEventListener("submit", (event) => { event.preventDefault(); moment(Number($("seq").value)); });
  document.body.dataset.ready = "";
  $("now")?.addEventListener("click", (event) => { event.preventDefault(); moment(Infinity); });
}

function leave() {
  source?.close();
  source = null;
  release();
  release = () => {};
}

// ---- keys --------------------------------------------------------------------------------------------------

function step(by) {
  const links = [...document.querySelectorAll("[data-row] .row-link")];
  const at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + by))];
  next?.focus();
}

const KEYS = {
  "/": () => $("find").focus(),
  "?": () => $("help").showModal(),
  j: () => step(1),
  k: () => step(-1),
  "[": () => moment(Number(document.body.dataset.seq) - 1),
  "]": () => moment(Number(document.body.dataset.seq) + 1),
  n: () => "past" in document.body.dataset && moment(Infinity),
  f: () => $("follow")?.click(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=range], [type=checkbox]), textarea, select");
  if (typing && event.key === "Enter" && (event.ctrlKey || event.metaKey)) typing.form?.requestSubmit();
  if (typing && event.key === "Escape") typing.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || $("help").open || !(event.key in KEYS)) return;
  event.preventDefault();
  KEYS[event.key]();
});

begin();
