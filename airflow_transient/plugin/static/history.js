// What queues looked like while this browser looked: bounded, and gone with the tab. The server keeps none.

const KEY = "transient.depths";
const POINTS = 360; // of one queue: an hour, at one every ten seconds
const QUEUES = 40;

export class History {
  constructor(storage = sessionStorage) {
    this.storage = storage;
    this.known = read(storage);
  }

  /** @returns the points of one queue, oldest first: [milliseconds, visible, in flight, delayed] */
  of(key) {
    return this.known[key] ?? [];
  }

  /** Keep a reading; the same one, seen again, is kept once. */
  add(key, at, { visible, in_flight: inFlight, delayed }) {
    const points = this.of(key);
    if (points.length && points.at(-1)[0] >= at) return;
    this.known[key] = [...points, [at, visible, inFlight, delayed]].slice(-POINTS);
    const names = Object.keys(this.known);
    if (names.length > QUEUES) delete this.known[oldest(this.known, names)];
  }

  keep() {
    try {
      this.storage.setItem(KEY, JSON.stringify(this.known));
    } catch {
      // Full, or refused by the browser's settings: the chart then begins anew after a reload.
    }
  }
}

const oldest = (known, names) => names.reduce((a, b) => (known[a].at(-1)[0] <= known[b].at(-1)[0] ? a : b));

function read(storage) {
  try {
    const known = JSON.parse(storage.getItem(KEY) ?? "{}");
    const sound = Object.entries(known).filter(
      ([, points]) => Array.isArray(points) && points.length && points.every(Array.isArray),
    );
    return Object.fromEntries(sound);
  } catch {
    return {};
  }
}
