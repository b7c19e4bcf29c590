// Figures with their labels, the first the largest.

export function render({ model, el }) {
  const box = titled(el, model);
  box.classList.add("figs");
  const cells = [];
  connect(model, (list) => {
    list.forEach((one, at) => {
      let cell = cells[at];
      if (!cell) {
        cell = cells[at] = box.appendChild(make("div", at || !model.options.large ? "figure" : "figure first"));
        cell.append(make("small"), make("b"), make("span"));
      }
      const [label, value, note] = cell.children;
      const text = shown(one.kind, one.value) || "\u2013";
      if (label.textContent !== one.label) label.textContent = one.label;
      if (value.textContent !== text) value.textContent = text;
      if (note.textContent !== (one.note || "")) note.textContent = one.note || "";
      value.className = one.tone === undefined || one.tone === null ? toneOf(one.kind, one.value) : one.tone;
    });
    while (cells.length > list.length) cells.pop().remove();
  });
}
