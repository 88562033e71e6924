// The output of one execution: line by line, both streams, live or as it was.
import { Ansi, element } from "./ansi.js";

const LINES = 5000, LONG = 20000, TAIL = 262144;

class Terminal {
  constructor(box) {
    this.box = box;
    this.streams = {};
    this.dropped = 0;
  }

  feed(piece) {
    const stream = (this.streams[piece.stream] ??= { ansi: new Ansi(), line: null, length: 0, back: false });
    const atEnd = this.box.scrollTop + this.box.clientHeight >= this.box.scrollHeight - 12;
    for (const [text, look] of stream.ansi.cut(piece.text)) {
      for (const part of text.split(/(\r?\n|\r)/)) {
        if (part === "") continue;
        if (part === "\r") stream.back = true;
        else if (part.endsWith("\n")) {
          this.line(stream, piece.stream);
          stream.line = null;
          stream.back = false;
        } else this.write(stream, piece.stream, part, look);
      }
    }
    while (this.box.childElementCount > LINES) {
      this.box.firstElementChild.remove();
      this.dropped += 1;
    }
    return atEnd;
  }

  // What comes after a lone carriage return takes the place of the line.
  write(stream, name, text, look) {
    const line = this.line(stream, name);
    if (stream.back) {
      line.textContent = "";
      stream.length = 0;
      stream.back = false;
    }
    const room = LONG - stream.length;
    if (room <= 0) return;
    stream.length += text.length;
    text = text.replace(/[\x00-\x08\x0b-\x1f\x7f]/g, "");
    line.append(element(text.length > room ? `${text.slice(0, room)} … (the line goes on)` : text, look));
  }

  line(stream, name) {
    if (!stream.line?.isConnected) {
      stream.line = document.createElement("div");
      if (name === "stderr") stream.line.className = "stderr";
      stream.length = 0;
      this.box.append(stream.line);
    }
    return stream.line;
  }
}

// Show the output; gives the function that lets go of it.
export function show(box, { past, stale, fresh, progress, over }) {
  let terminal = new Terminal(box);
  const follow = document.getElementById("follow");
  const until = { stdout: Number(box.dataset.stdout), stderr: Number(box.dataset.stderr) };
  const begin = { stdout: Math.max(0, until.stdout - TAIL), stderr: Math.max(0, until.stderr - TAIL) };
  const skipped = begin.stdout + begin.stderr, before = document.getElementById("before");
  let source = null;
  before.hidden = !skipped;
  before.textContent = `${skipped.toLocaleString("en")} bytes came before this; the download has them.`;
  const take = (piece) => {
    const atEnd = terminal.feed(piece);
    if (follow.checked && (atEnd || !past)) box.scrollTop = box.scrollHeight;
    if (terminal.dropped) {
      before.hidden = false;
      before.textContent = "Earlier lines are not shown; the download has them.";
    }
  };
  follow.addEventListener("change", () => { if (follow.checked) box.scrollTop = box.scrollHeight; });
  // Whoever scrolls up reads; whoever comes back to the end follows again.
  const wheel = () => { follow.checked = box.scrollTop + box.clientHeight >= box.scrollHeight - 12; };
  box.addEventListener("wheel", wheel, { passive: true });
  box.addEventListener("touchmove", wheel, { passive: true });
  search(box);
  if (past) {
    const range = `from=o${begin.stdout}.e${begin.stderr}&until=o${until.stdout}.e${until.stderr}`;
    fetch(`${box.dataset.pieces}?${range}`).then((reply) => reply.json()).then(({ pieces }) => pieces.forEach(take)).catch(stale);
    return () => {};
  }
  document.getElementById("play").addEventListener("click", () => {
    source.close();
    box.replaceChildren();
    terminal = new Terminal(box);
    before.hidden = follow.checked = true;
    source = new EventSource(`${box.dataset.play}?speed=${document.getElementById("speed").value}`);
    source.onmessage = (message) => take(JSON.parse(message.data));
    source.onerror = () => source.close();
    source.addEventListener("end", () => { source.close(); box.dataset.played = ""; });
  });
  source = new EventSource(`${box.dataset.stream}?after=o${begin.stdout}.e${begin.stderr}`);
  source.onmessage = (message) => take(JSON.parse(message.data));
  source.onopen = fresh;
  source.onerror = (event) => { if (!event.data) stale(); };
  source.addEventListener("progress", (message) => progress(JSON.parse(message.data)));
  source.addEventListener("end", () => {
    source.close();
    box.dataset.over = "";
    over();
  });
  return () => source.close();
}

function search(box) {
  const needle = document.getElementById("needle"), hits = document.getElementById("hits");
  let found = [], at = -1;
  const mark = (to) => {
    found[at]?.classList.remove("current");
    at = found.length ? (to + found.length) % found.length : -1;
    found[at]?.classList.add("current");
    found[at]?.scrollIntoView({ block: "center" });
    hits.textContent = !needle.value ? "" : found.length ? `${at + 1} of ${found.length}` : "nothing";
  };
  const look = () => {
    const word = needle.value.toLowerCase();
    for (const line of found) line.classList.remove("hit", "current");
    found = word ? [...box.children].filter((line) => line.textContent.toLowerCase().includes(word)) : [];
    for (const line of found) line.classList.add("hit");
    mark(found.length - 1);
  };
  needle.addEventListener("input", look);
  document.getElementById("within").addEventListener("submit", (event) => {
    event.preventDefault();
    if (found.length) document.getElementById("follow").checked = false;
    mark(at - 1);
  });
}
