// ARIA tabs: arrow keys, Home and End move and select; the address remembers which.

export function tabs(list, chosen) {
  const all = [...list.querySelectorAll('[role="tab"]')];
  const nameOf = (tab) => tab.getAttribute("aria-controls");
  const panelOf = (tab) => document.getElementById(nameOf(tab));

  function select(tab, { focus = false } = {}) {
    for (const one of all) {
      const here = one === tab;
      one.setAttribute("aria-selected", String(here));
      one.tabIndex = here ? 0 : -1;
      panelOf(one).hidden = !here;
    }
    if (focus) tab.focus();
    history.replaceState(null, "", `#${nameOf(tab)}`);
    chosen(nameOf(tab));
  }

  const STEPS = {
    ArrowRight: (at) => (at + 1) % all.length,
    ArrowLeft: (at) => (at + all.length - 1) % all.length,
    Home: () => 0,
    End: () => all.length - 1,
  };

  list.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    const at = all.indexOf(event.target);
    if (!step || at < 0) return;
    event.preventDefault();
    select(all[step(at)], { focus: true });
  });
  list.addEventListener("click", (event) => {
    const tab = event.target.closest('[role="tab"]');
    if (tab) select(tab);
  });

  const asked = all.find((tab) => nameOf(tab) === location.hash.slice(1));
  select(asked ?? all[0]);
}
