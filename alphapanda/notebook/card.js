// The card in the browser: it shows the parts the kernel renders, says how old they are, and stops the run.
//
// Stop has three ways, each needing less of the kernel than the one before:
//   1. the control channel, which ipykernel serves in a thread of its own while a cell is busy;
//   2. where a front end has no control channel (VS Code), the widget's own message: it waits for the cell;
//   3. if the card's other half has not acknowledged after PATIENCE, a terminal of the Jupyter server runs the stop
//      without any kernel.
// What goes over the control channel is a kernel_info_request with a word for us in it: that is the one request whose
// answer JupyterLab does not take for "the cell has ended".

const PARTS = ["head", "news", "money", "positions", "orders", "foot"];
const PATIENCE = 600; // ms for the kernel to acknowledge
const QUIET = 6000; // ms without a beat: no news from the kernel
const STALE = 5000; // ms: older data is grey
const WAKE = 1000; // ms that a view waits for fresh figures before it calls its own old
const LEASE = 75; // s that the kernel sends to a view it has not heard of again
const RENEW = 30000; // ms

function box(parent, kind, text) {
  const made = document.createElement("div");
  made.className = kind;
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function button(parent, text, kind, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  made.textContent = text;
  made.onclick = act;
  parent.append(made);
  return made;
}

function age(ms) {
  if (ms < 10000) return (Math.max(ms, 0) / 1000).toFixed(1) + " s old";
  if (ms < 120000) return Math.round(ms / 1000) + " s old";
  return Math.round(ms / 60000) + " min old";
}

function kernelOf(model) {
  const kernel = model.widget_manager && model.widget_manager.kernel;
  return kernel && typeof kernel.sendControlMessage === "function" ? kernel : null;
}

function overControl(kernel, word) {
  const message = {
    header: {
      date: new Date().toISOString(),
      msg_id: "ap-" + Date.now().toString(36) + Math.random().toString(36).slice(2),
      msg_type: "kernel_info_request",
      session: kernel.clientId,
      username: kernel.username,
      version: "5.2",
    },
    parent_header: {}, metadata: {}, channel: "control", buffers: [],
    content: { alphapanda: word },
  };
  try {
    kernel.sendControlMessage(message, false).done.catch(() => {});
  } catch {
    // the kernel is gone: nobody acknowledges
  }
}

// A terminal of the Jupyter server asks the hub itself. Resolves to the hub's answer; throws if there is no way.
async function overTerminal(kernel, command) {
  const server = kernel.serverSettings;
  const headers = server.token ? { Authorization: "token " + server.token } : {};
  const cookie = document.cookie.match(/(?:^|;\s*)_xsrf=([^;]*)/);
  if (cookie) headers["X-XSRFToken"] = cookie[1];
  const ask = (path, method) =>
    (0, server.fetch)(server.baseUrl + path, { method, headers, credentials: "same-origin", cache: "no-store" });
  const made = await ask("api/terminals", "POST");
  if (!made.ok) throw new Error("the Jupyter server gives no terminal");
  const name = encodeURIComponent((await made.json()).name);
  const token = server.token ? "?token=" + encodeURIComponent(server.token) : "";
  const line = new server.WebSocket(server.wsUrl + "terminals/websocket/" + name + token);
  try {
    return await new Promise((resolve, reject) => {
      let heard = "";
      setTimeout(() => reject(new Error("the terminal did not answer")), 8000);
      line.onerror = () => reject(new Error("the terminal cannot be reached"));
      line.onmessage = ({ data }) => {
        const [kind, text] = JSON.parse(data);
        if (kind === "setup") line.send(JSON.stringify(["stdin", " exec " + command + "\r"]));
        heard += kind === "stdout" ? text : "";
        const answer = heard.match(/@@stop (\{.*?\}) @@/s);
        if (answer) resolve(JSON.parse(answer[1].replace(/[\r\n]/g, "")));
        else if (kind === "disconnect") reject(new Error("the terminal ended"));
      };
    });
  } finally {
    line.close();
    ask("api/terminals/" + name, "DELETE").catch(() => {});
  }
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const root = box(el, "ap ap-live");
  root.setAttribute("role", "group");
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take Enter on a button for "edit the cell"
  root.setAttribute("aria-label", get("label"));
  const bar = box(root, "ap-bar-row");
  const at = { head: box(bar, "ap-head") };
  const stopper = button(bar, "Stop", "ap-halting", () => ask());
  const asking = box(root, "ap-asking");
  const said = box(root, "ap-said ap-soft");
  said.setAttribute("aria-live", "polite");
  at.news = box(root, "ap-news");
  at.money = box(root, "ap-money");
  const books = box(root, "ap-books");
  at.positions = box(books, "ap-positions");
  at.orders = box(books, "ap-orders");
  at.foot = box(root, "ap-foot");

  const view = Math.random().toString(36).slice(2);
  let visible = false;
  let beaten = performance.now(); // when the kernel was last heard
  let woke = beaten; // when this view was last scrolled into sight
  let lead = Date.now() - get("beat"); // this clock less the kernel's
  let told = ""; // what became of a stop
  let acknowledge = () => {};
  let direct = false; // the hub has stopped it, and the kernel does not know yet
  let renew = 0;

  const tell = (word) => {
    const full = { ...word, card: get("card"), view };
    const kernel = kernelOf(model);
    if (kernel) overControl(kernel, full);
    else model.send(full);
  };

  const ended = () => direct || get("over");

  const refresh = (name) => {
    at[name].innerHTML = get(name); // made and escaped by the kernel
    if (name === "foot") clock();
  };

  // ── how old it is ──
  const clock = () => {
    const quiet = performance.now() - beaten;
    const old = Date.now() - lead - get("data_at");
    const cell = at.foot.querySelector(".ap-age");
    const over = ended();
    const silent = !over && quiet > QUIET;
    const stale = !over && get("data_at") > 0 && old > STALE && performance.now() - woke > WAKE;
    root.toggleAttribute("data-stale", silent || stale);
    if (cell && get("data_at") > 0) {
      cell.dataset.tape = cell.dataset.tape || cell.textContent;
      cell.textContent = over ? cell.dataset.tape : "data " + age(old) + " · " + cell.dataset.tape;
    }
    if (silent) said.textContent = noNews(quiet);
    else if (said.textContent !== told) said.textContent = told;
  };
  const noNews = (quiet) => {
    if (gone || (model.widget_manager && model.widget_manager.kernel === null)) {
      return "The kernel that this card belongs to has ended. Paper runs end with it, unless they are detached.";
    }
    const seconds = Math.round(quiet / 1000);
    return `No news from the kernel for ${seconds} s: it is busy or not connected. The run itself goes on; Stop works.`;
  };
  const beat = () => {
    beaten = performance.now();
    lead = Date.now() - get("beat");
    clock();
  };

  // ── stopping ──
  const dress = () => {
    root.dataset.state = direct ? "stopped" : get("state");
    root.dataset.lane = get("lane");
    stopper.hidden = ended();
    const state = at.head.querySelector(".ap-state");
    if (direct && state) state.lastChild.textContent = " stopped";
    stopper.disabled = get("state") === "stopping" && !get("trouble");
    if (get("over")) {
      told = "";
      asking.replaceChildren();
    }
    if (get("trouble")) told = get("trouble");
    clock();
  };
  const ask = () => {
    if (asking.firstChild) return leave();
    const row = box(asking, "ap-ask");
    const what = document.createElement("span");
    what.textContent = get("held")
      ? "Stop this run? Working orders are cancelled."
      : "Stop this run? It holds no position.";
    row.append(what);
    const first = button(row, get("held") ? "Stop, keep positions" : "Stop", "ap-halting", () => stop(false));
    if (get("held")) button(row, "Stop, close positions", "ap-halting", () => stop(true));
    button(row, "Keep running", "", leave);
    row.onkeydown = (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      leave();
    };
    first.focus();
  };
  const leave = () => {
    asking.replaceChildren();
    stopper.focus();
  };
  const stop = async (flatten) => {
    asking.replaceChildren();
    stopper.disabled = true;
    told = "stopping …";
    clock();
    const heard = new Promise((resolve) => {
      acknowledge = () => resolve(true);
      setTimeout(() => resolve(false), PATIENCE);
    });
    tell({ do: "stop", flatten });
    if (await heard) return;
    const kernel = kernelOf(model);
    try {
      if (!kernel) throw new Error("the kernel is busy");
      told = "The kernel does not answer: asking the hub without it …";
      clock();
      const answer = await overTerminal(kernel, get("command") + (flatten ? " flatten" : ""));
      if (!answer.ok) throw new Error(answer.message);
      direct = true;
      told = "Stopped by the hub. The kernel is busy; the last figures come when it is free.";
      dress();
    } catch (error) {
      if (ended()) return;
      told = `${error.message}. The stop is carried out when the cell ends; at once by: alphapanda stop ${get("run")}`;
      stopper.disabled = false;
    }
    clock();
  };

  // ── only what is looked at is sent ──
  const look = (now) => {
    if (now === visible) return;
    visible = now;
    clearInterval(renew);
    const leased = kernelOf(model) !== null;
    const show = () => tell({ do: "show", seconds: leased ? LEASE : 0 });
    if (!now) return void tell({ do: "hide" });
    woke = beaten = performance.now();
    show();
    if (leased) renew = setInterval(show, RENEW);
  };
  let inside = false;
  const looked = () => look(inside && !document.hidden && !ended());
  let gone = false; // the kernel, and with it this card's other half
  const lost = (_, status) => {
    gone = gone || ["restarting", "autorestarting", "terminating", "dead"].includes(status);
  };
  const kernel = kernelOf(model);
  if (kernel) kernel.statusChanged.connect(lost);
  const watcher = new IntersectionObserver((seen) => {
    inside = seen[seen.length - 1].isIntersecting;
    looked();
  });
  watcher.observe(el);
  document.addEventListener("visibilitychange", looked);

  const follow = PARTS.map((name) => ["change:" + name, () => refresh(name)]);
  follow.push(["change:state", dress], ["change:over", dress], ["change:trouble", dress]);
  follow.push(["change:beat", beat], ["change:data_at", clock], ["change:asked", () => acknowledge()]);
  for (const [name, act] of follow) model.on(name, act);
  PARTS.forEach(refresh);
  dress();
  const timer = setInterval(clock, 500);

  return () => {
    watcher.disconnect();
    document.removeEventListener("visibilitychange", looked);
    clearInterval(timer);
    look(false);
    if (kernel && !kernel.isDisposed) kernel.statusChanged.disconnect(lost);
    for (const [name, act] of follow) model.off(name, act);
  };
}

export default { render };
