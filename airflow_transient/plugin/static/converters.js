// Between a value of the document and the text of a field. `show` gives null for a value it cannot hold: the field then
// shows JSON. `take` gives undefined for "not given", and throws a sentence.

const isText = (value) => typeof value === "string";
const isListOfText = (value) => Array.isArray(value) && value.every((item) => isText(item) && !/[,\n]/.test(item));
const split = (text) =>
  text
    .split(/[,\n]/)
    .map((part) => part.trim())
    .filter(Boolean);

export const json = {
  show: (value) => JSON.stringify(value, null, 2),
  take(text) {
    if (!text.trim()) return undefined;
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new Error(`This is not JSON: ${error.message}.`);
    }
  },
};

const text = {
  show: (value) => (isText(value) ? value : null),
  take: (told) => told.trim() || undefined,
};

/** Whatever is no number goes as it is: the API's own words about it come back beside the field. */
const number = {
  show: (value) => (typeof value === "number" ? String(value) : isText(value) ? value : null),
  take: (told) => (/^-?\d+$/.test(told.trim()) ? Number(told) : told.trim() || undefined),
};

const list = {
  show: (value) => (isText(value) && !/[,\n]/.test(value) ? value : isListOfText(value) ? value.join(", ") : null),
  take: (told) => (split(told).length ? split(told) : undefined),
};

const looksLikeJson = (told) => /^\s*[[{]/.test(told);

/** NAME=value, one a line; a value with a line break in it can only be shown as JSON. */
const pairs = {
  show(value) {
    const all = Object.entries(value ?? {});
    const plain = all.every(
      ([name, told]) => isText(told) && !/[\r\n]/.test(told) && name && !/[=\r\n]|^\s|\s$|^\{/.test(name),
    );
    return plain ? all.map(([name, told]) => `${name}=${told}`).join("\n") : null;
  },
  take(told) {
    if (/^\s*\{/.test(told)) return json.take(told);
    const found = {};
    told.split("\n").forEach((line, at) => {
      if (!line.trim()) return;
      const equals = line.indexOf("=");
      if (equals < 1) throw new Error(`Line ${at + 1} is no NAME=value.`);
      found[line.slice(0, equals).trim()] = line.slice(equals + 1);
    });
    return Object.keys(found).length ? found : undefined;
  },
};

export const CONVERTERS = {
  text,
  number,
  list,
  pairs,
  json,
  long: { show: text.show, take: (told) => (told.trim() ? told : undefined) },
  zone: text,
  moment: text,
  choice: { show: (value) => (isText(value) ? value : null), take: (told) => told || undefined },
  tick: { show: (value) => String(value === true), take: (told) => (told === "true" ? true : undefined) },
  flag: {
    show: (value) => (typeof value === "boolean" ? String(value) : null),
    take: (told) => (told ? told === "true" : undefined),
  },
  /** A number, a share as text. */
  scalar: {
    show: (value) => (typeof value === "number" || isText(value) ? String(value) : null),
    take: (told) => (/^-?\d+(\.\d+)?$/.test(told.trim()) ? Number(told) : told.trim() || undefined),
  },
  /** Text for a shell; a JSON list is a list. `[ -f x ] && …` is no JSON and stays text. */
  command: {
    show: (value) => (isText(value) ? value : Array.isArray(value) ? JSON.stringify(value) : null),
    take(told) {
      if (!told.trim()) return undefined;
      try {
        const read = JSON.parse(told);
        return Array.isArray(read) ? read : told;
      } catch {
        return told;
      }
    },
  },
  textOrJson: { show: text.show, take: (told) => (looksLikeJson(told) ? json.take(told) : text.take(told)) },
  listOrJson: { show: list.show, take: (told) => (looksLikeJson(told) ? json.take(told) : list.take(told)) },
};
