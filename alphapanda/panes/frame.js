// The head of every page: whose money, how old the data is, what is wrong, and the kill switch.

const SILENT = 4000; // ms without a word of the server: it is gone
const LEVELS = [
  [2, "Stop new orders", "nothing new is sent; working orders stay"],
  [3, "Stop and cancel entries", "and entries that still work are withdrawn; protective exits stay"],
  [4, "Stop, cancel and close positions", "and every position of ours is closed at the market"],
];

export function render({ model, el }) {
  const root = document.documentElement;
  const keep = (name, value) => { try { localStorage.setItem(`alphapanda.${name}`, value); } catch {} };
  const kept = (name) => { try { return localStorage.getItem(`alphapanda.${name}`); } catch { return null; } };
  let told = null;
  let beat = performance.now();
  let lost = false;
  const title = document.title;
  document.getElementById("ap-wait")?.remove();

  const bar = make("div", "bar");
  const name = bar.appendChild(make("span", "brand", "Alpha Panda"));
  name.setAttribute("aria-hidden", "true");
  const nav = bar.appendChild(make("nav"));
  nav.setAttribute("aria-label", "pages");
  const lanes = bar.appendChild(make("div", "lanes"));
  lanes.setAttribute("role", "radiogroup");
  lanes.setAttribute("aria-label", "namespace");
  const age = bar.appendChild(make("span", "age"));
  age.setAttribute("role", "status");
  const theme = bar.appendChild(make("button", "plain", "\u25D0"));
  theme.setAttribute("aria-label", "light or dark");
  const out = bar.appendChild(make("form", "out"));
  out.method = "post";
  out.action = "/logout";
  const who = out.appendChild(make("button", "plain"));
  const lift = bar.appendChild(make("button", "lift", "Lift the halt"));
  lift.hidden = true;
  const kill = bar.appendChild(make("button", "kill", "Kill switch"));
  const news = make("div", "news");
  news.setAttribute("role", "alert");
  const said = make("div", "said");
  said.setAttribute("role", "status");
  const dialog = make("dialog");
  el.replaceChildren(bar, news, said, dialog);

  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : !matchMedia("(prefers-color-scheme: light)").matches);
  theme.onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; keep("theme", root.dataset.theme); };

  const lane = () => told?.lanes.find((one) => one.name === told.at);

  // ── what is wrong, worst first
  const tell = () => {
    const lines = [];
    if (lost) lines.push(["loss", "This page has lost its server. What it shows is old; it opens again by itself. Orders: alphapanda kill."]);
    else if (told) {
      const here = lane();
      if (here?.halt) lines.push(["loss", `${here.name} is halted (level ${here.halt.level}) by ${here.halt.by}: ${here.halt.reason}`]);
      for (const one of told.lanes) if (one.halt && one !== here) lines.push(["warn", `${one.name} is halted: ${one.halt.reason}`]);
      if (told.lost) lines.push(["loss", `The server has not answered for ${ago(told.lost)}. Runs go on; what stands here is old. It is started again by itself.`]);
      if (told.known && !told.hub) lines.push(["loss", "No hub answers: nothing trades, and nothing here is new. Start it: alphapanda up"]);
      for (const one of told.troubles) lines.push(["warn", one]);
    }
    const now = JSON.stringify(lines);
    if (news.dataset.now === now) return;
    news.dataset.now = now;
    news.replaceChildren(...lines.map(([tone, text]) => make("p", tone, text)));
  };

  const clock = () => {
    const silent = performance.now() - beat > SILENT && !document.hidden;
    if (silent !== lost) {
      lost = silent;
      root.toggleAttribute("data-lost", lost);
    }
    const old = told && told.heard ? (Date.now() - told.heard) / 1000 : Infinity;
    const stale = lost || !told || (told.known && (old > told.stale || told.lost > 0 || !told.hub));
    root.toggleAttribute("data-stale", Boolean(stale));
    root.style.setProperty("--fade", stale ? "0.5" : "1");
    root.style.setProperty("--grey", stale ? "1" : "0");
    age.className = `age ${lost ? "loss" : stale ? "loss" : "gain"}`;
    age.textContent = lost ? "disconnected"
      : !told || !told.known ? "loading"
      : !told.heard ? "no ticks yet"
      : stale ? `data ${ago(told.heard)} old`
      : `live data \u00B7 ${clockOf.format(told.tape)}`;
    if (told?.ended && !lost) age.textContent = `tape ended \u00B7 ${clockOf.format(told.tape)}`;
    tell();
  };

  // ── coming back: as soon as the server answers the page is loaded anew
  const back = async () => {
    if (!lost) return;
    try {
      const answer = await fetch("/health", { cache: "no-store" });
      if (answer.ok) location.reload();
    } catch {} // not yet
  };

  const show = (content) => {
    const before = told;
    told = content;
    const here = lane();
    root.dataset.lane = here?.live ? "live" : "paper";
    root.style.setProperty("--lane", here?.live ? "var(--live)" : "var(--paper)");
    el.dataset.lane = root.dataset.lane;
    document.title = `${here?.live ? "LIVE \u00B7 " : ""}${title}`;
    if (!before || before.page !== told.page) {
      nav.replaceChildren(...told.pages.map(([page, label]) => {
        const link = make("a", "", label);
        link.href = `/${page}`;
        if (page === told.page) link.setAttribute("aria-current", "page");
        return link;
      }));
    }
    const names = JSON.stringify(told.lanes.map((one) => [one.name, one.live, Boolean(one.halt), one.name === told.at]));
    if (lanes.dataset.now !== names) {
      lanes.dataset.now = names;
      lanes.replaceChildren(...told.lanes.map((one) => {
        const button = make("button", one.live ? "live" : "paper", one.live ? `live \u00B7 ${one.name}` : one.name);
        button.setAttribute("role", "radio");
        button.setAttribute("aria-checked", String(one.name === told.at));
        if (one.halt) button.classList.add("halted");
        button.onclick = () => { keep("namespace", one.name); model.send_msg({ do: "namespace", name: one.name }); };
        return button;
      }));
    }
    who.textContent = `${told.person} (${told.role})`;
    who.title = "log out";
    lift.hidden = !here?.halt;
    if (!before) {
      const wanted = kept("namespace");
      if (wanted && wanted !== told.at && told.lanes.some((one) => one.name === wanted)) model.send_msg({ do: "namespace", name: wanted });
    }
    clock();
  };

  // ── the kill switch asks; where money is it wants a word typed
  const ask = (lifting) => {
    const here = lane();
    if (!here) return;
    const form = make("form");
    form.method = "dialog";
    form.append(make("h2", "", lifting ? `Let orders of ${here.name} pass again` : `Stop ${here.name} now`));
    form.dataset.lane = here.live ? "live" : "paper";
    if (here.halt) form.append(make("p", "", `It was halted by ${here.halt.by}: ${here.halt.reason}`));
    if (!lifting) {
      for (const [level, label, note] of LEVELS) {
        const line = form.appendChild(make("label", "level"));
        const radio = line.appendChild(make("input"));
        Object.assign(radio, { type: "radio", name: "level", value: String(level), checked: level === 3 });
        const text = line.appendChild(make("span", "", label));
        text.append(make("small", "", note));
      }
    }
    const field = (label, id, needed) => {
      form.append(Object.assign(make("label", "", label), { htmlFor: id }));
      const input = form.appendChild(make("input"));
      Object.assign(input, { id, autocomplete: "off", required: needed });
      return input;
    };
    const reason = field("Why", "reason", lifting);
    const typed = here.live ? field(told.account ? `Type ${here.name}, or the account's id` : `Type ${here.name}`, "typed", true) : null;
    const row = form.appendChild(make("div", "row"));
    const no = row.appendChild(make("button", "plain", "Cancel"));
    no.type = "button";
    no.onclick = () => dialog.close();
    const yes = row.appendChild(make("button", lifting ? "yes" : "kill yes", lifting ? "Lift" : `Stop ${here.name}`));
    form.onsubmit = () => {
      const level = Number(form.querySelector("input[name=level]:checked")?.value || 0);
      const word = { namespace: here.name, reason: reason.value, typed: typed ? typed.value : "" };
      model.send_msg(lifting ? { do: "lift", ...word } : { do: "halt", level, ...word });
    };
    dialog.replaceChildren(form);
    dialog.showModal();
    (typed || (lifting ? reason : yes)).focus();
  };
  kill.onclick = () => ask(false);
  lift.onclick = () => ask(true);

  let quiet = 0;
  const answer = (lines) => {
    clearTimeout(quiet);
    said.replaceChildren(...lines.map((one) => make("p", one.bad ? "loss" : "", one.text)));
    const close = make("button", "plain", "\u00D7");
    close.setAttribute("aria-label", "close");
    close.onclick = () => said.replaceChildren();
    said.append(close);
    if (!lines.some((one) => one.bad)) quiet = setTimeout(() => said.replaceChildren(), 12000);
  };

  connect(model, (message) => {
    beat = performance.now();
    if (message.leave) location.assign("/login");
    else if (message.said) answer(message.said);
    else if (message.beat === undefined) show(message);
    if (lost) clock();
  });
  const looked = () => {
    beat = performance.now();
    model.send_msg({ do: "look", visible: !document.hidden });
  };
  document.addEventListener("visibilitychange", looked);
  const timers = [setInterval(clock, 500), setInterval(back, 1500)];
  clock();
  return () => {
    document.removeEventListener("visibilitychange", looked);
    timers.forEach(clearInterval);
  };
}
