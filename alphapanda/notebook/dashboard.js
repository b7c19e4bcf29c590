// A page of the dashboards in a frame. The ticket is posted into the frame and forgotten; it is part of no state.

function render({ model, el }) {
  const note = document.createElement("div");
  note.textContent = "Opening the page.";
  const frame = document.createElement("iframe");
  frame.name = "ap-page-" + Math.random().toString(36).slice(2);
  frame.title = `Alpha Panda ${model.get("page")}`;
  frame.style.cssText = "display:block;width:100%;border:1px solid #8886;border-radius:8px";
  frame.style.height = `${model.get("height")}px`;
  frame.hidden = true;
  el.append(note, frame);

  const heard = (message) => {
    if (message.said) { note.textContent = message.said; return; }
    if (!message.ticket) return;
    // The page's cookie is only sent where both go by the same name of this machine.
    const here = ["127.0.0.1", "localhost"].includes(location.hostname) ? location.hostname : null;
    const address = new URL(message.login);
    if (here && ["127.0.0.1", "localhost"].includes(address.hostname)) address.hostname = here;
    const form = document.createElement("form");
    Object.assign(form, { method: "post", action: address.href, target: frame.name, hidden: true });
    for (const [name, value] of [["ticket", message.ticket], ["to", model.get("page")]]) {
      form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
    }
    el.append(form);
    frame.hidden = false;
    form.submit();
    form.remove();
    note.replaceChildren(
      Object.assign(document.createElement("a"), { href: message.address, target: "_blank", rel: "noopener", textContent: message.address }),
    );
    note.style.cssText = "font-size:12px;opacity:.7;margin:0 0 4px";
  };
  model.on("msg:custom", heard);
  model.send({ do: "open" });
  return () => model.off("msg:custom", heard);
}

export default { render };
