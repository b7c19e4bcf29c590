// The facts of what was picked, and what can be done about it.

export function render({ model, el }) {
  const box = titled(el, model);
  const show = (told) => {
    box.replaceChildren();
    const there = Boolean(told && told.title);
    el.getRootNode().host.classList.toggle("ap-none", !there); // leaves no gap
    box.hidden = !there;
    if (!there) return;
    const head = box.appendChild(make("header"));
    head.append(make("h2", "", told.title));
    if (!told.stays) {
      const close = head.appendChild(make("button", "act", "close"));
      close.onclick = () => model.send_msg({ do: "drop" });
    }
    const list = box.appendChild(make("dl"));
    for (const [label, text] of told.facts || []) {
      list.append(make("dt", "", label));
      const value = list.appendChild(make("dd"));
      value.append(String(text).includes("\n") ? make("pre", "", text) : String(text));
    }
    if (!told.acts || !told.acts.length) return;
    const foot = box.appendChild(make("footer"));
    const reason = foot.appendChild(make("input"));
    reason.placeholder = "reason";
    reason.setAttribute("aria-label", "reason");
    reason.hidden = !told.acts.some(([name]) => name === "discard");
    for (const [name, label] of told.acts) {
      const button = foot.appendChild(make("button", "act", label));
      button.onclick = () => {
        if (name === "discard" && !reason.value.trim()) { reason.focus(); return; }
        model.send_msg({ do: name, key: told.key, reason: reason.value });
      };
    }
  };
  show(null);
  connect(model, show);
}
