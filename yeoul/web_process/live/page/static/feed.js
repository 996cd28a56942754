// What the server tells of itself, as it comes: kept here, so that a view that is opened has it at once. Reconnects by itself.

import { ask, eventsOf } from "./server.js";

const NUM_POINTS = 900;
const NUM_REQUESTS = 500; // that have ended and are kept here
const MILLISECONDS_BETWEEN_TRIES = 1500;
const MILLISECONDS_OF_SILENCE = 8000; // after which a connection is taken for lost

export const hasEnded = (request) => !["waiting", "running"].includes(request.state);

// Events: "topology", "numbers", "requests", "incident", "connection"; the newest state is in the fields.
class Feed extends EventTarget {
  topology = null;
  points = [];
  requests = new Map(); // by their ids: those that live, as far as they are followed, and the last ones that ended
  olderThan = null; // the one behind which there are others that are not told of
  isConnected = false;
  problem = "";
  #abort = null;

  start() {
    if (this.#abort !== null) return;
    this.#abort = new AbortController();
    this.#run(this.#abort.signal);
  }

  // What there is of another model.
  restart() {
    this.stop();
    this.topology = null;
    this.points = [];
    this.requests = new Map();
    this.olderThan = null;
    this.start();
  }

  stop() {
    this.#abort?.abort();
    this.#abort = null;
    this.#setConnected(false);
  }

  async #run(signal) {
    while (!signal.aborted) {
      try {
        await this.#read(signal);
        this.problem = "the connection was lost";
      } catch (error) {
        if (signal.aborted || error.status === 401) break;
        this.problem = error.message;
      }
      this.#setConnected(false);
      this.dispatchEvent(new CustomEvent("connection")); // the problem may be another one
      await new Promise((resume) => setTimeout(resume, MILLISECONDS_BETWEEN_TRIES));
    }
    if (this.#abort?.signal === signal) this.#abort = null;
  }

  async #read(signal) {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), MILLISECONDS_OF_SILENCE);
    try {
      const response = await ask("debug/events", { signal: AbortSignal.any([signal, silence.signal]) });
      this.points = [];
      for await (const event of eventsOf(response)) {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), MILLISECONDS_OF_SILENCE);
        this.#take(event.name, JSON.parse(event.data));
      }
    } catch (error) {
      if (!silence.signal.aborted || signal.aborted) throw error;
      throw new Error("the server is silent");
    } finally {
      clearTimeout(timer);
    }
  }

  #take(name, data) {
    if (name === "topology") this.topology = data;
    else if (name === "numbers") this.points = [...this.points, ...data.points].slice(-NUM_POINTS);
    else if (name === "requests") this.#takeRequests(data);
    this.#setConnected(true);
    this.dispatchEvent(new CustomEvent(name, { detail: data }));
  }

  #takeRequests({ is_whole: isWhole, data, gone, older_than: olderThan }) {
    if (isWhole) {
      this.requests = new Map();
      this.olderThan = olderThan;
    }
    for (const one of data) this.requests.set(one.id, one);
    for (const id of gone) this.requests.delete(id);
    if (this.requests.size <= 2 * NUM_REQUESTS) return;
    const ended = [...this.requests.values()].filter(hasEnded).sort((one, other) => other.arrived - one.arrived);
    for (const one of ended.slice(NUM_REQUESTS)) this.requests.delete(one.id);
    this.olderThan = ended[NUM_REQUESTS - 1]?.id ?? this.olderThan;
  }

  #setConnected(isConnected) {
    if (this.isConnected === isConnected) return;
    this.isConnected = isConnected;
    this.dispatchEvent(new CustomEvent("connection"));
  }
}

export const feed = new Feed();

// Listens as long as a view is shown: the function that ends it is the view's close().
export function listen(listeners) {
  for (const [name, listener] of Object.entries(listeners)) feed.addEventListener(name, listener);
  return () => {
    for (const [name, listener] of Object.entries(listeners)) feed.removeEventListener(name, listener);
  };
}
