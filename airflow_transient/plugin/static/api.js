// The only door to the network: JSON, this origin, and errors that say what to do.

import { learnClock } from "./moments.js";

const BASE = new URL(".", document.baseURI); // …/transient/, whatever prefix Airflow is served under
const PATIENCE = 20_000;

/** No answer, or one that is no success. `status` 0: none at all. `messages`: field -> texts, of a refused document. */
export class ApiError extends Error {
  constructor(sentence, { status = 0, messages = null, body = null, again = null } = {}) {
    super(sentence);
    this.status = status;
    this.messages = messages;
    this.body = body;
    this.again = again; // seconds after which the same call may well succeed
  }

  /** What was asked for is done, and Airflow could not be told of it yet. */
  get saved() {
    return this.body?.item ?? null;
  }
}

const SENTENCES = {
  401: "You are not logged in to Airflow any more: log in again, then come back to this page.",
  403: "Your role in Airflow does not allow this.",
  413: "This document is larger than the API takes.",
};

/** What one call answers: {body, etag}. */
export async function call(method, path, { body, match, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined || method === "POST" || method === "PUT") headers["Content-Type"] = "application/json";
  if (match) headers["If-Match"] = match;
  const response = await knock(new URL(path, BASE), {
    method,
    headers,
    body: body === undefined ? (method === "POST" ? "{}" : undefined) : JSON.stringify(body),
    credentials: "same-origin",
    cache: method === "GET" ? "no-cache" : "no-store", // asks anew, and takes a 304 for an answer
    signal: either(signal, AbortSignal.timeout(PATIENCE)),
  });
  learnClock(response.headers.get("Date"));
  const answer = await json(response);
  if (!response.ok) throw refusal(response.status, answer, response.headers.get("Retry-After"));
  return { body: answer, etag: response.headers.get("ETag") };
}

/** The same, again where the answer says that waiting for a moment helps: a DAG that is not parsed yet. */
export async function patiently(ask, tries = 5) {
  for (let left = tries; ; left -= 1) {
    try {
      return await ask();
    } catch (error) {
      if (!error.again || left <= 1) throw error;
      await new Promise((go) => setTimeout(go, error.again * 1000));
    }
  }
}

export const get = async (path, options) => (await call("GET", path, options)).body;

async function knock(url, request) {
  try {
    return await fetch(url, request);
  } catch (error) {
    if (error.name === "TimeoutError") throw new ApiError(`Airflow did not answer within ${PATIENCE / 1000} s.`);
    if (error.name === "AbortError") throw error;
    throw new ApiError("Airflow does not answer.");
  }
}

function either(signal, limit) {
  return signal ? AbortSignal.any([signal, limit]) : limit;
}

async function json(response) {
  const text = await response.text();
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null; // a proxy's page, or a plain "Internal Server Error"
  }
}

function refusal(status, body, retryAfter) {
  const told = typeof body?.message === "string" ? body.message : typeof body?.detail === "string" ? body.detail : null;
  const messages = body && typeof body.messages === "object" ? body.messages : null;
  const sentence =
    (status === 401 ? null : told) ?? SENTENCES[status] ?? (messages ? "Some fields need a change." : null);
  return new ApiError(sentence ?? `Airflow answered with an error (${status}).`, {
    status,
    messages,
    body,
    again: Number(retryAfter) || null,
  });
}

/** A path with its query, each part escaped. */
export function path(segments, query = {}) {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const tail = pairs.length ? `?${new URLSearchParams(pairs)}` : "";
  return segments.map(encodeURIComponent).join("/") + tail;
}
