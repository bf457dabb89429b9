// Look again and again: one look at a time, none while nobody sees the page, later and later while looks fail.

import { now } from "./moments.js";

const SLOWEST = 60_000;

/**
 * @param load  (signal) -> promise of what is there now
 * @param every milliseconds between looks that succeed, or a function that says it
 * @param show  called with {data, seenAt, error, failing, nextAt, busy} after each change
 */
export class Poll {
  constructor({ load, every, show }) {
    this.load = load;
    this.every = typeof every === "function" ? every : () => every;
    this.show = show;
    this.state = { data: null, seenAt: null, error: null, failing: 0, nextAt: null, busy: false };
    this.wanted = false;
    this.timer = null;
    this.look = null;
    document.addEventListener("visibilitychange", () => this.turn());
  }

  start() {
    if (this.wanted) return;
    this.wanted = true;
    this.turn();
  }

  stop() {
    this.wanted = false;
    this.turn();
  }

  /** Look now: somebody asked, or something was just changed. What an older look brings is no longer wanted. */
  async again() {
    this.rest();
    const look = (this.look = new AbortController());
    this.change({ busy: true, nextAt: null });
    try {
      const data = await this.load(look.signal);
      if (this.look !== look) return;
      this.change({ data, seenAt: now(), error: null, failing: 0, busy: false });
    } catch (error) {
      if (this.look !== look) return;
      this.change({ error, failing: this.state.failing + 1, busy: false });
    }
    this.look = null;
    this.plan();
  }

  turn() {
    if (!this.wanted || document.hidden) {
      this.rest();
      this.change({ busy: false, nextAt: null });
    } else if (!this.look && !this.timer) {
      this.again();
    }
  }

  rest() {
    clearTimeout(this.timer);
    this.timer = null;
    this.look?.abort();
    this.look = null;
  }

  plan() {
    if (!this.wanted || document.hidden) return;
    const wait = Math.min(SLOWEST, this.every() * 2 ** Math.min(this.state.failing, 6));
    this.timer = setTimeout(() => {
      this.timer = null;
      this.again();
    }, wait);
    this.change({ nextAt: now() + wait });
  }

  change(told) {
    this.state = { ...this.state, ...told };
    this.show(this.state);
  }
}
