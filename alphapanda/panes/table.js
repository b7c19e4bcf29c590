// A dense table: fixed columns, sorted and filtered here, and only what changed is touched.

const CALM = 1500; // ms that a cell stands still before its next change is shown

export function render({ model, el }) {
  const { columns, sort, empty, height, pick } = model.options;
  const rows = new Map(); // key: {cells, line, boxes}
  const kept = `alphapanda.sort.${model.options.title}`;
  const box = titled(el, model);
  const head = box.querySelector("header") || box.appendChild(make("header"));
  const count = head.appendChild(make("span", "count"));
  const filter = head.appendChild(make("input"));
  filter.type = "search";
  filter.placeholder = "filter";
  filter.setAttribute("aria-label", `filter ${model.options.title}`);
  const scroll = box.appendChild(make("div", "scroll"));
  scroll.style.maxHeight = `${height}px`;
  const table = scroll.appendChild(make("table"));
  const none = box.appendChild(make("p", "none", "Loading."));

  let [by, down] = [columns.findIndex((c) => c.name === sort.replace("-", "")), sort.startsWith("-")];
  try {
    const [name, was] = (localStorage.getItem(kept) || "").split(" ");
    const found = columns.findIndex((c) => c.name === name);
    if (found >= 0) [by, down] = [found, was === "down"];
  } catch {} // a browser that keeps nothing

  const right = (kind) => ["int", "money", "cost", "price", "rupees", "percent", "share", "ago"].includes(kind);
  const group = table.appendChild(make("colgroup"));
  const top = table.appendChild(make("thead")).appendChild(make("tr"));
  const body = table.appendChild(make("tbody"));
  const buttons = columns.map((column, at) => {
    const col = group.appendChild(make("col", column.narrow ? "" : "wide-only"));
    if (column.width) col.style.width = `${column.width + 1.6}ch`;
    const cell = top.appendChild(make("th", (right(column.kind) ? "n" : "") + (column.narrow ? "" : " wide-only")));
    cell.scope = "col";
    const button = cell.appendChild(make("button", "", column.name.replaceAll("_", " ")));
    button.onclick = () => {
      [by, down] = [at, by === at ? !down : right(column.kind) || column.kind === "time"];
      try { localStorage.setItem(kept, `${column.name} ${down ? "down" : "up"}`); } catch {}
      arrange();
    };
    return cell;
  });
  const least = (some) => some.reduce((sum, column) => sum + (column.width || 10) + 1.6, 0);
  table.style.setProperty("--wide", `${least(columns)}ch`);
  table.style.setProperty("--narrow", `${least(columns.filter((c) => c.narrow))}ch`);

  const compare = (a, b) => {
    const [x, y] = [a.cells[by], b.cells[by]];
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x ?? "").localeCompare(String(y ?? ""));
    return (down ? -order : order) || (a.key < b.key ? -1 : 1);
  };
  const words = (row) => columns.map((c, i) => (c.kind === "acts" ? "" : shown(c.kind, row.cells[i]))).join(" ").toLowerCase();

  // Lines are moved only where they stand wrong, so that focus and selection stay.
  const arrange = () => {
    const wanted = filter.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const found = [...rows.values()];
    const seen = wanted.length ? found.filter((row) => { const t = words(row); return wanted.every((w) => t.includes(w)); }) : found;
    if (by >= 0) seen.sort(compare);
    const there = new Set(seen.map((row) => row.line));
    for (const line of [...body.children]) if (!there.has(line)) line.remove();
    seen.forEach((row, at) => {
      if (body.children[at] !== row.line) body.insertBefore(row.line, body.children[at] || null);
    });
    buttons.forEach((cell, at) => {
      if (at === by) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    const lines = [...body.children];
    if (lines.length && !lines.some((line) => line.tabIndex === 0)) lines[0].tabIndex = 0;
    count.textContent = seen.length === found.length ? `${found.length || ""}` : `${seen.length} of ${found.length}`;
    table.hidden = !found.length;
    none.hidden = seen.length > 0;
    none.textContent = found.length ? "No row has these words." : empty;
    filter.hidden = found.length < 6 && !filter.value;
  };

  // A button that acts is pressed twice: the first press asks.
  const acts = (cell, names, key) => {
    const held = [...cell.children].map((one) => one.dataset.act).join();
    if (held === (names || []).join()) return;
    cell.replaceChildren(...(names || []).map((name) => {
      const button = make("button", "act", name);
      button.dataset.act = name;
      let armed = 0;
      const calm = () => { clearTimeout(armed); armed = 0; button.classList.remove("armed"); button.textContent = name; };
      button.onclick = (event) => {
        event.stopPropagation();
        if (armed || ["show", "drift"].includes(name)) { calm(); model.send_msg({ do: name, key }); return; }
        button.classList.add("armed");
        button.textContent = `${name}?`;
        armed = setTimeout(calm, 4000);
      };
      button.onblur = calm;
      return button;
    }));
  };
  const fill = (row, at, flash) => {
    const [column, cell, value] = [columns[at], row.boxes[at], row.cells[at]];
    if (column.kind === "acts") return acts(cell, value, row.key);
    if (column.kind === "link") {
      const link = value ? make("a", "", value[0]) : null;
      if (link) Object.assign(link, { href: value[1], target: "_blank", rel: "noopener" });
      return cell.replaceChildren(...(link ? [link] : []));
    }
    const text = shown(column.kind, value);
    const first = cell.firstChild;
    if (first) first.data = text;
    else cell.append(text);
    if (["text", "code", "state", "lane"].includes(column.kind)) cell.title = text;
    const tone = toneOf(column.kind, value);
    let name = (right(column.kind) ? "n " : "") + (column.narrow ? "" : "wide-only ") + column.kind + (tone ? ` ${tone}` : "");
    // What changes all the time draws no eye. Two animations that are the same take turns: to begin one anew would lay
    // the page out once a cell.
    const now = performance.now();
    const rare = !(now - row.at[at] < CALM);
    if (flash) row.at[at] = now;
    if (flash && rare) name += cell.classList.contains("flash") ? " again" : " flash";
    if (cell.className !== name) cell.className = name;
  };
  const add = (key, cells) => {
    const line = make("tr");
    const row = { key, cells, line, boxes: columns.map(() => line.appendChild(make("td"))), at: [] };
    line.dataset.key = key;
    line.tabIndex = -1;
    columns.forEach((_, at) => fill(row, at, false));
    rows.set(key, row);
  };

  const chosen = (line) => {
    for (const one of body.children) one.removeAttribute("aria-selected");
    line.setAttribute("aria-selected", "true");
    model.send_msg({ do: "pick", key: line.dataset.key });
  };
  body.onclick = (event) => {
    const line = event.target.closest("tr");
    if (pick && line && !event.target.closest("button")) chosen(line);
  };
  body.onkeydown = (event) => {
    const line = event.target.closest("tr");
    if (!line || event.target !== line) return;
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const next = step ? line[step] : event.key === "Home" ? body.firstElementChild : event.key === "End" ? body.lastElementChild : null;
    if (next) {
      line.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    } else if (pick && event.key === "Enter") chosen(line);
    else if (!step) return;
    event.preventDefault();
  };
  filter.oninput = arrange;

  connect(model, ({ put, set, gone }) => {
    let moved = false;
    for (const [key, cells] of Object.entries(put || {})) {
      const known = rows.get(key);
      if (known) { known.cells = cells; columns.forEach((_, at) => fill(known, at, false)); } else add(key, cells);
      moved = true;
    }
    for (const [key, changes] of Object.entries(set || {})) {
      const row = rows.get(key);
      if (!row) continue;
      for (const [at, value] of Object.entries(changes)) {
        row.cells[at] = value;
        fill(row, Number(at), columns[at].kind !== "ago" && columns[at].kind !== "time");
        moved = moved || Number(at) === by || filter.value !== "";
      }
    }
    for (const key of gone || []) {
      const row = rows.get(key);
      if (row) { row.line.remove(); rows.delete(key); moved = true; }
    }
    if (moved || !rows.size) arrange();
  });
  const ages = columns.map((c, at) => (c.kind === "ago" ? at : -1)).filter((at) => at >= 0);
  const timer = ages.length ? setInterval(() => { for (const row of rows.values()) for (const at of ages) fill(row, at, false); }, 1000) : 0;
  return () => clearInterval(timer);
}
