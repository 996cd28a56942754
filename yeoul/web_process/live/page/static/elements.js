// Makes elements. Text stays text: nothing here or elsewhere on the page makes markup of a string, and the policy of the
// page forbids it.

// element("p", {class: "note", onclick: f}, "some ", child): attributes by name, listeners by "on" and the event's name,
// properties (value, checked, disabled, hidden) as they are; children are nodes, texts, or nothing.
export function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

const SVG = "http://www.w3.org/2000/svg";

export function drawing(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "selected", "open", "indeterminate"]);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) node[name] = value;
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

// A button that says what it does.
export function button(text, action, attributes = {}) {
  return element("button", { type: "button", onclick: action, ...attributes }, text);
}

let numIds = 0;

export function newId(word) {
  numIds += 1;
  return `${word}-${numIds}`;
}

// A control with its label, and a hint under it where there is one.
export function field(label, control, hint = "") {
  control.id = control.id || newId("field");
  const told = hint ? element("small", { id: newId("hint") }, hint) : null;
  if (told) control.setAttribute("aria-describedby", told.id);
  return element("div", { class: "field" }, element("label", { for: control.id }, label), control, told);
}

export function select(choices, chosen, attributes = {}) {
  const options = choices.map(([value, text]) => element("option", { value, selected: value === chosen }, text));
  return element("select", attributes, options);
}
