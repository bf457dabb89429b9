// Elements without markup: whatever comes from outside becomes text, never HTML.

const SVG = "http://www.w3.org/2000/svg";

/** h("button", { class: "small", onclick: stop }, "Stop"); null and false children are left out. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  put(element, ...children); // first: a select takes only a value that it has an option for
  for (const [name, value] of Object.entries(props)) set(element, name, value);
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "value") element.value = value;
  else element.setAttribute(name, value === true ? "" : value);
}

function put(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Replace what an element holds. */
export function hold(element, ...children) {
  element.replaceChildren();
  put(element, ...children);
  return element;
}

let counted = 0;
/** An id that no other element has, for labels and descriptions. */
export function freshId(prefix) {
  counted += 1;
  return `${prefix}-${counted}`;
}

export const byId = (id) => document.getElementById(id);

/** Where the focus was may be gone (its row was deleted): then it goes here, and not to the top of the page. */
export function focusOn(element) {
  if (!element) return;
  if (!element.hasAttribute("tabindex") && !element.matches("a[href], button, input, select, textarea")) {
    element.setAttribute("tabindex", "-1");
  }
  element.focus();
}
