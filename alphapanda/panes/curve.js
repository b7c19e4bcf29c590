// A line over tape time, with what it ended at and how far it went.

export function render({ model, el }) {
  const box = titled(el, model);
  const plot = box.appendChild(make("div", "plot"));
  const field = plot.appendChild(make("div", "field"));
  const none = box.appendChild(make("p", "none", "Loading."));
  const space = "http://www.w3.org/2000/svg";
  const draw = (tag, facts, parent) => {
    const made = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(facts)) made.setAttribute(name, value);
    parent.append(made);
    return made;
  };
  const svg = draw("svg", { preserveAspectRatio: "none", viewBox: "0 0 1000 240", role: "img" }, field);
  const zero = draw("path", { class: "zero" }, svg);
  const area = draw("polygon", {}, svg);
  const line = draw("polyline", {}, svg);
  const labels = ["high", "low", "end", "first", "last"].map((name) => (["first", "last"].includes(name) ? plot : field).appendChild(make("small", name)));
  let points = [];
  const paint = () => {
    const some = points.length > 1;
    plot.hidden = !some;
    none.hidden = some;
    none.textContent = model.options.empty;
    if (!some) return;
    const values = points.map((p) => p[1]);
    const [high, low] = [Math.max(0, ...values), Math.min(0, ...values)];
    const [begin, span] = [points[0][0], points[points.length - 1][0] - points[0][0] || 1];
    const share = (v) => (high - v) / (high - low || 1);
    const y = (v) => (12 + 216 * share(v)).toFixed(1);
    const path = points.map(([t, v]) => `${((1000 * (t - begin)) / span).toFixed(1)},${y(v)}`).join(" ");
    const end = values[values.length - 1];
    svg.setAttribute("class", end > 0 ? "gain" : end < 0 ? "loss" : "");
    svg.setAttribute("aria-label", `${model.options.title}: ${shown("money", end)}`);
    line.setAttribute("points", path);
    area.setAttribute("points", `0,${y(0)} ${path} 1000,${y(0)}`);
    zero.setAttribute("d", `M0,${y(0)}H1000`);
    // Beside the line and never on it; what it ends at stands where it ends, and hides what would touch it.
    for (const [label, value, hidden] of [
      [labels[0], high, share(end) < 0.1], [labels[1], low, share(end) > 0.9], [labels[2], end, false],
    ]) {
      label.textContent = shown("money", value);
      label.style.top = `${5 + 90 * share(value)}%`;
      label.hidden = hidden;
    }
    labels[2].className = `end ${toneOf("money", end)}`;
    labels[3].textContent = clockOf.format(begin).slice(0, 5);
    labels[4].textContent = clockOf.format(begin + span).slice(0, 5);
  };
  connect(model, (told) => {
    points = points.slice(0, told.from).concat(told.points);
    paint();
  });
}
