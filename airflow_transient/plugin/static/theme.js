// Dark or light as Airflow around us is, before the first paint; on our own, as the system is.
// A classic script on purpose: modules run too late and the page would flash.
(() => {
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  function around() {
    try {
      return window.parent === window ? null : window.parent.document.documentElement;
    } catch {
      return null; // another origin's frame
    }
  }

  function darkAround(html) {
    if (html.classList.contains("dark")) return true;
    if (html.classList.contains("light")) return false;
    return system.matches;
  }

  const html = around();
  function apply() {
    const dark = html ? darkAround(html) : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
  }

  apply();
  system.addEventListener("change", apply);
  if (html) new MutationObserver(apply).observe(html, { attributeFilter: ["class"] });
})();
