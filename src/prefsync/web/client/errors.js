/** What the client reports or rejects with. */
export class PreferencesError extends Error {
  name = "PreferencesError";
  /** @type {readonly import("../client.js").FieldError[]} */
  errors = [];
  /** @type {number | undefined} */
  status;
  /** @type {number | undefined} */
  retryAfter;
  /** @type {import("../client.js").AnyPreferences | undefined} */
  patch;

  /**
   * @param {string} code
   * @param {any} message
   * @param {Partial<Omit<import("../client.js").PreferencesError, "code" | "message">>} [more]
   */
  constructor(code, message, more) {
    super(message);
    this.code = code;
    Object.assign(this, more);
  }
}

/**
 * Read the problem details (RFC 9457) of an HTTP answer or a nack.
 *
 * @param {any} problem What the body holds, anything at all; nothing where it is no problem.
 * @param {any} wait `Retry-After` in seconds; a date (RFC 9110, section 10.2.3) counts as none.
 * @param {number} [status]
 */
export const problemError = (problem, wait, status = problem?.status) =>
  new PreferencesError(
    /^urn:prefsync:problem:(.+)/.exec(problem?.type)?.[1] ?? (problem ? `http-${status}` : "bad-answer"),
    problem?.detail ?? `status ${status}; is this the URL of the mount?`,
    { status, errors: [].concat(problem?.errors ?? []), retryAfter: wait > 0 ? +wait : undefined },
  );

/** Make the error for what does not follow the protocol. */
export const badAnswer = () => new PreferencesError("bad-answer", "no answer of prefsync");

/**
 * Tell whether an error says that a write will never be taken, however often it is sent.
 *
 * What no part of prefsync said (a proxy's page, a captive portal's) proves nothing, but for a body that is too large.
 *
 * @param {PreferencesError} error
 */
export const isRefusal = ({ status, code }) =>
  status == 413 || (code != "bad-answer" && /^4(?!01|08|25|29)/.test(/** @type {any} */ (status)));

export const closedError = () => new PreferencesError("closed", "closed");

/**
 * Errors travel between tabs as plain objects.
 *
 * @param {PreferencesError | null | undefined} error
 */
export const plain = (error) => error && { ...error, message: error.message };

/** @param {any} error */
export const revive = (error) => error && new PreferencesError("", "", error);
