// The login form in the browser: a link to the broker's page, a field for what is pasted, and what became of it.
//
// Neither the address nor what is pasted is part of the widget's state, which notebooks are saved with: both travel as
// messages, and the field is emptied before anything is sent.

function add(parent, tag, text) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

// Where people are about to type their password: the broker's name, or that it is practice.
function placeOf(address) {
  const { hostname, host } = new URL(address);
  return hostname === "127.0.0.1" || hostname === "localhost" || hostname === "[::1]" ? `the sandbox, ${host}` : host;
}

function render({ model, el }) {
  el.classList.add("ap-login");
  el.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take Enter in the field for "edit the cell"
  const link = add(el, "a", "Log in at the broker");
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  const form = add(el, "form");
  const label = add(form, "label", "Then this form is done by itself. If not, paste the address you were sent to:");
  const row = add(form, "div");
  const field = add(row, "input");
  field.id = "ap-login-" + Math.random().toString(36).slice(2);
  label.htmlFor = field.id;
  field.type = "password";
  field.autocomplete = "off";
  field.spellcheck = false;
  const button = add(row, "button", "Log in");
  const result = add(el, "div");
  result.setAttribute("role", "status");

  form.onsubmit = (event) => {
    event.preventDefault();
    const text = field.value;
    field.value = "";
    if (text.trim()) model.send({ do: "paste", text });
  };
  const heard = (message) => {
    if (typeof message.address !== "string" || !/^https?:\/\//.test(message.address)) return;
    link.href = message.address;
    link.textContent = `Log in at ${placeOf(message.address)}`;
  };
  const show = () => {
    result.textContent = model.get("said");
    el.dataset.state = model.get("state");
    const over = model.get("state") === "done";
    button.disabled = field.disabled = over || model.get("state") === "busy";
    link.hidden = form.hidden = over;
  };
  model.on("msg:custom", heard);
  model.on("change:said", show);
  model.on("change:state", show);
  show();
  model.send({ do: "show" });
  return () => {
    model.off("msg:custom", heard);
    model.off("change:said", show);
    model.off("change:state", show);
  };
}

export default { render };
