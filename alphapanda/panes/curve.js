// A line over tape time, with what it ended at and how far it went.

export function render({ model, el }) {
  const box = titled(el, model);
  const plot = box.appendChild(make("div", "plot"));
  const none = box.appendChild(make("p", "none", "Loading."));
  const space = "http://www.w3.org/2000/svg";
  const draw = (tag, facts, parent) => {
    const made = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(facts)) made.setAttribute(name, value);
    parent.append(made);
    return made;
  };
  const svg = draw("svg", { preserveAspectRatio: "none", viewBox: "0 0 1000 240", role: "img" }, plot);
  const zero = draw("path", { class: "zero" }, svg);
  const area = draw("polygon", {}, svg);
  const line = draw("polyline", {}, svg);
  const labels = ["high", "low", "first", "last"].map((name) => plot.appendChild(make("small", name)));
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
    const y = (v) => (12 + (216 * (high - v)) / (high - low || 1)).toFixed(1);
    const path = points.map(([t, v]) => `${((1000 * (t - begin)) / span).toFixed(1)},${y(v)}`).join(" ");
    const end = values[values.length - 1];
    svg.setAttribute("class", end > 0 ? "gain" : end < 0 ? "loss" : "");
    svg.setAttribute("aria-label", `${model.options.title}: ${shown("money", end)}`);
    line.setAttribute("points", path);
    area.setAttribute("points", `0,${y(0)} ${path} 1000,${y(0)}`);
    zero.setAttribute("d", `M0,${y(0)}H1000`);
    labels[0].textContent = shown("money", high);
    labels[1].textContent = shown("money", low);
    labels[2].textContent = clockOf.format(begin).slice(0, 5);
    labels[3].textContent = clockOf.format(begin + span).slice(0, 5);
  };
  connect(model, (told) => {
    points = points.slice(0, told.from).concat(told.points);
    paint();
  });
}
