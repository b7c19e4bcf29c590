// How much of each limit is used.

export function render({ model, el }) {
  const box = titled(el, model);
  const list = box.appendChild(make("div", "gauges"));
  connect(model, (limits) => {
    list.replaceChildren(...limits.map((one) => {
      const share = one.limit ? Math.min(1, Math.max(0, one.used / one.limit)) : 0;
      const line = make("div", "meter" + (share >= 0.9 ? " loss" : share >= 0.7 ? " warn" : ""));
      const text = `${shown(one.kind, one.used)} of ${shown(one.kind, one.limit)}`;
      line.append(make("span", "", one.label), make("span", "n", text));
      const bar = line.appendChild(make("div", "bar"));
      bar.setAttribute("role", "meter");
      bar.setAttribute("aria-label", one.label);
      bar.setAttribute("aria-valuemin", "0");
      bar.setAttribute("aria-valuemax", String(one.limit));
      bar.setAttribute("aria-valuenow", String(one.used));
      bar.appendChild(make("i")).style.width = `${(share * 100).toFixed(1)}%`;
      return line;
    }));
  });
}
