// A table that is shown again and again without losing the reader's place: rows are known by key, and only cells whose
// value changed are drawn anew.

import { focusOn, h, hold } from "./dom.js";

/**
 * @param columns {head, value(row), cell(value, row, latest), class}: `value` is compared, `cell` draws it; `latest()`
 *     is the row as it is at the time of a click.
 */
export class Table {
  constructor({ caption, columns, key }) {
    this.columns = columns;
    this.key = key;
    this.drawn = new Map(); // key -> {tr, row, told: [what each cell shows]}
    // Roles are said outright: as cards, on a small screen, the elements lose theirs.
    this.body = h("tbody", { role: "rowgroup" });
    const heads = columns.map((column) =>
      h("th", { scope: "col", role: "columnheader", class: column.class }, column.head),
    );
    this.head = h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads));
    this.element = h("table", { role: "table" }, h("caption", { class: "unseen" }, caption), this.head, this.body);
  }

  show(rows) {
    const before = document.activeElement;
    const wanted = new Set(rows.map(this.key));
    for (const [key, { tr }] of this.drawn) {
      if (wanted.has(key)) continue;
      if (tr.contains(before)) focusOn(this.element.closest('[role="tabpanel"]'));
      tr.remove();
      this.drawn.delete(key);
    }
    let at = this.body.firstChild;
    for (const row of rows) {
      const tr = this.draw(row);
      if (tr === at) at = at.nextSibling;
      else this.body.insertBefore(tr, at);
    }
    if (before !== document.activeElement && this.body.contains(before)) before.focus({ preventScroll: true });
  }

  /** The row of this key, if it is shown. */
  row(key) {
    return this.drawn.get(key)?.tr ?? null;
  }

  draw(row) {
    const key = this.key(row);
    let known = this.drawn.get(key);
    if (!known) {
      known = { tr: h("tr", { role: "row" }), told: [] };
      known.tr.append(...this.columns.map((column, at) => cellOf(column, at)));
      this.drawn.set(key, known);
    }
    known.row = row;
    this.columns.forEach((column, at) => {
      const value = column.value(row);
      const told = JSON.stringify(value) ?? "";
      if (told === known.told[at]) return;
      known.told[at] = told;
      redraw(known.tr.children[at], () => column.cell(value, row, () => this.drawn.get(key)?.row ?? row));
    });
    return known.tr;
  }
}

function cellOf(column, at) {
  const props = { class: column.class, "data-head": column.head };
  return at === 0 ? h("th", { ...props, scope: "row", role: "rowheader" }) : h("td", { ...props, role: "cell" });
}

/** Whoever stood on a button of this cell stands on the one with the same `data-act` afterwards, else on the first. */
function redraw(td, cell) {
  const act = td.contains(document.activeElement) ? (document.activeElement.dataset.act ?? "none") : null;
  hold(td, cell());
  if (act === null) return;
  (td.querySelector(`[data-act="${act}"]`) ?? td.querySelector("a[href], button"))?.focus({ preventScroll: true });
}
