// Text with escape sequences as elements: colours and weights of ECMA-48 (SGR); all other sequences are left out.
const ESCAPE = /\x1b(?:\[([0-9;:]*)m|\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])/g;
const OPEN = /\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]{0,4096}\x1b?|[ -/]*)?$/;
const WORDS = { 1: "bold", 2: "dim", 3: "italic", 4: "under", 7: "inverse", 9: "struck" };
const ENDS = { 22: ["bold", "dim"], 23: ["italic"], 24: ["under"], 27: ["inverse"], 29: ["struck"] };

export class Ansi {
  constructor() {
    this.rest = "";
    this.reset();
  }

  reset() {
    this.words = new Set();
    this.front = this.back = null;
  }

  // Cut text into pieces of one look each; the beginning of a sequence at the end waits for what follows.
  cut(text) {
    text = this.rest + text;
    const open = OPEN.exec(text);
    this.rest = open ? open[0] : "";
    if (open) text = text.slice(0, open.index);
    const found = [];
    let at = 0;
    for (const match of text.matchAll(ESCAPE)) {
      if (match.index > at) found.push([text.slice(at, match.index), this.look()]);
      at = match.index + match[0].length;
      if (match[1] !== undefined) this.set(match[1]);
    }
    if (at < text.length) found.push([text.slice(at), this.look()]);
    return found;
  }

  look() {
    return { words: [...this.words], front: this.front, back: this.back };
  }

  set(text) {
    const codes = text.split(/[;:]/).map(Number);
    while (codes.length) {
      const code = codes.shift();
      if (code === 0) this.reset();
      else if (WORDS[code]) this.words.add(WORDS[code]);
      else if (ENDS[code]) ENDS[code].forEach((word) => this.words.delete(word));
      else if (code === 38) this.front = wide(codes);
      else if (code === 48) this.back = wide(codes);
      else if (code === 39) this.front = null;
      else if (code === 49) this.back = null;
      else if (code >= 30 && code < 38) this.front = code - 30;
      else if (code >= 90 && code < 98) this.front = code - 82;
      else if (code >= 40 && code < 48) this.back = code - 40;
      else if (code >= 100 && code < 108) this.back = code - 92;
    }
  }
}

// Read a colour of 256, or of 16 million.
function wide(codes) {
  const kind = codes.shift();
  if (kind === 5) {
    const number = Math.min(255, codes.shift() || 0);
    if (number < 16) return number;
    if (number > 231) return Array(3).fill(8 + 10 * (number - 232));
    const part = (n) => (n ? 55 + 40 * n : 0);
    return [part(Math.floor((number - 16) / 36)), part(Math.floor((number - 16) / 6) % 6), part((number - 16) % 6)];
  }
  if (kind === 2) return [0, 1, 2].map(() => Math.min(255, codes.shift() || 0));
  return null;
}

export function element(text, look) {
  const plain = !look.words.length && look.front === null && look.back === null;
  if (plain) return document.createTextNode(text);
  const span = document.createElement("span");
  span.textContent = text;
  span.classList.add(...look.words);
  if (Array.isArray(look.front)) span.style.color = `rgb(${look.front})`;
  else if (look.front !== null) span.classList.add(`f${look.front}`);
  if (Array.isArray(look.back)) span.style.backgroundColor = `rgb(${look.back})`;
  else if (look.back !== null) span.classList.add(`b${look.back}`);
  return span;
}
