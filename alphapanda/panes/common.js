// What all parts have in common. Values are only ever put into the page as text.

const make = (tag, name, text) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
};

// Numbers as people here write them: 1,23,456.78
const whole = new Intl.NumberFormat("en-IN", { maximumFractionDigits: 0 });
const two = new Intl.NumberFormat("en-IN", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const clockOf = new Intl.DateTimeFormat("en-GB", {
  timeZone: "Asia/Kolkata", hour: "2-digit", minute: "2-digit", second: "2-digit",
});
const dayOf = new Intl.DateTimeFormat("en-CA", { timeZone: "Asia/Kolkata" });
const minus = (text) => text.replace("-", "\u2212");

const ago = (ms) => {
  const s = Math.max(0, Math.round((Date.now() - ms) / 1000));
  if (s < 100) return `${s} s`;
  if (s < 6000) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
};

const when = (ms) => {
  if (!ms) return "";
  const day = dayOf.format(ms);
  return day === dayOf.format(Date.now()) ? clockOf.format(ms) : `${day.slice(5)} ${clockOf.format(ms)}`;
};

const FORMATS = {
  money: (v) => minus(two.format(v / 100)),
  cost: (v) => two.format(v / 100),
  rupees: (v) => minus(whole.format(v)),
  price: (v) => (v ? minus(two.format(v)) : ""),
  int: (v) => minus(whole.format(v)),
  percent: (v) => `${minus(two.format(v))} %`,
  share: (v) => `${two.format(v)} %`,
  time: when,
  clock: (v) => (v ? clockOf.format(v) : ""),
  ago: (v) => (v ? ago(v) : ""),
};
const shown = (kind, value) => {
  if (value === null || value === undefined || value === "") return "";
  const format = FORMATS[kind];
  return format && typeof value === "number" ? format(value) : String(value);
};

const TONES = {
  FILLED: "gain", ok: "gain", on: "gain", LIVE: "warn", CERTIFIED: "gain", running: "gain", serving: "gain", ready: "gain", alive: "gain", DENIED: "loss", REJECTED: "loss", FAILED: "loss",
  EXPIRED: "soft", CANCELLED: "soft", stopped: "soft", halted: "loss", failed: "loss", paused: "warn", BUY: "gain", SELL: "loss",
  down: "loss", waiting: "warn", starting: "warn", dead: "loss", ERROR: "loss", CRITICAL: "loss", WARNING: "warn",
};
const toneOf = (kind, value) => {
  if (kind === "money" || kind === "percent") return value > 0 ? "gain" : value < 0 ? "loss" : "";
  if (kind === "lane") return String(value).startsWith("paper") ? "paper" : "live";
  if (kind === "state" || kind === "side") {
    return TONES[value] || TONES[String(value).toUpperCase()] || TONES[String(value).toLowerCase()] || "";
  }
  return "";
};

// Messages of the server, and word to it that this part stands here and has been told nothing.
const connect = (model, heard) => {
  model.on("msg:custom", (event) => {
    const text = typeof event === "string" ? event : event.data;
    heard(typeof text === "string" ? JSON.parse(text) : text);
  });
  model.send_msg({ do: "hello" });
};

const titled = (el, model) => {
  const box = make("section", "box");
  const title = model.options.title;
  if (title) {
    const head = make("header");
    head.append(make("h2", "", title));
    box.append(head);
  }
  el.replaceChildren(box);
  return box;
};
