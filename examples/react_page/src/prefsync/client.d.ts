/** Preferences that follow their user: the browser client of prefsync. docs/client.md tells the rest. */

/** Values by field, by namespace: what `connect<...>` takes when it is told nothing more precise. */
export type AnyPreferences = Record<string, Record<string, any>>;

export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };

/** A value as it is given out: frozen all the way down. */
export type Frozen<T> = T extends (...args: any[]) => any
  ? T
  : T extends object
    ? { readonly [K in keyof T]: Frozen<T[K]> }
    : T;

/**
 * What `set` takes: fields with their new values. Objects are merged member by member (RFC 7396); `null` takes a field
 * back to its default, and a member of an object away.
 */
export type Patch<T> = T extends readonly any[]
  ? T
  : T extends object
    ? { [K in keyof T]?: Patch<T[K]> | null }
    : T;

/** Where the client stands: no answer yet; in step; out of reach, with edits kept; ended by `close` or for good. */
export type Status = "connecting" | "online" | "offline" | "closed";

export type Transport = "websocket" | "sse" | "poll";

/** What went wrong with one field; the pointer (RFC 6901) is from the document's root: `/appearance/theme`. */
export interface FieldError {
  readonly pointer: string;
  readonly code: string;
  readonly detail: string;
}

/** Everything that the client reports or rejects with. */
export class PreferencesError extends Error {
  constructor(code: string, message: string, more?: Partial<Omit<PreferencesError, "code" | "message">>);
  readonly name: string;
  /**
   * The protocol's name of the problem (`invalid-preferences`, `insufficient-scope`, `rate-limited`, ...), or one of
   * the client's own: `bad-option`, `network`, `bad-answer`, `token`, `storage`, `another-user`, `closed`.
   */
  readonly code: string;
  /** The HTTP status, where there was one. */
  readonly status?: number;
  /** What is wrong with which field, where fields were at fault; else empty. */
  readonly errors: readonly FieldError[];
  /** Seconds, where the server said when to try again. */
  readonly retryAfter?: number;
  /** The edit that was refused: fields by namespace. */
  readonly patch?: AnyPreferences;
}

export interface ChangeEvent<P extends object = AnyPreferences> {
  /** The namespaces that look different now. */
  readonly namespaces: readonly (keyof P & string)[];
  /** Their fields that look different, with the new values. */
  readonly changed: Frozen<{ [N in keyof P]?: Partial<P[N]> }>;
  /** Their keys that are gone. */
  readonly removed: { readonly [N in keyof P]?: readonly string[] };
  /** An edit made here; news from the server or another tab; an edit made here that was refused and is undone. */
  readonly source: "local" | "remote" | "rollback";
  /** The name of the client that made the change, where the server told one. */
  readonly origin: string | null;
  /** The newest revision that is known. */
  readonly revision: number;
}

export interface StatusEvent {
  readonly status: Status;
  readonly transport: Transport | null;
  readonly pending: number;
  readonly latency: number | null;
  /** Why it is not online. */
  readonly error: PreferencesError | null;
}

export interface Events<P extends object = AnyPreferences> {
  change: ChangeEvent<P>;
  status: StatusEvent;
  error: PreferencesError;
}

/** Where edits and the last state are kept: `localStorage` has this shape, and so may anything else. */
export interface PreferencesStorage {
  getItem(key: string): string | null | Promise<string | null>;
  setItem(key: string, value: string): unknown;
  removeItem(key: string): unknown;
  /** All keys; left out by `localStorage` and the like, whose own properties are their keys. */
  keys?(): Iterable<string> | Promise<Iterable<string>>;
}

/** Time, for tests and for hosts that have their own. The functions are called by themselves, without `this`. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  setTimeout(work: () => void, milliseconds: number): any;
  clearTimeout(timer: any): void;
}

export interface ConnectOptions {
  /** The mount. Left out, it is where this module came from. Relative ones are resolved against the page. */
  url?: string | URL;
  /** The bearer token, or what gets one; called again when it runs out. Left out where cookies say who calls. */
  token?: string | (() => string | Promise<string>);
  /** Who is signed in, where the token is no JWT, or cannot be had while offline: keeps users' stored data apart. */
  user?: string;
  /** The name this client gives itself, 1 to 64 of `A-Z a-z 0-9 . _ -`; by chance where left out. */
  client?: string;
  /** `localStorage` where left out and there is one; `null`: memory only. */
  storage?: PreferencesStorage | null;
  fetch?: (input: string, init?: any) => Promise<any>;
  /** A constructor as browsers have it; `null`: none. */
  WebSocket?: (new (url: string, protocols: string) => any) | null;
  /** `navigator.locks` where left out; `null`: tabs do not share. */
  locks?: { request(name: string, options: any, work: () => Promise<void>): Promise<unknown> } | null;
  /** A constructor as browsers have it; `null`: tabs do not share. */
  BroadcastChannel?: (new (name: string) => any) | null;
  clock?: Clock;
  /** Which transports may be used, best first. All three where left out. */
  transports?: Transport[];
  /** Milliseconds that `connect` waits for a first state; 30,000 where left out. */
  timeout?: number;
}

export interface Preferences<P extends object = AnyPreferences> {
  /** All effective values, edits that are under way laid over; the same frozen object until something changes. */
  get(): Frozen<P>;
  /** Those of one namespace; `undefined` where the server declares none of that name. */
  get<N extends keyof P>(namespace: N): Frozen<P[N]>;
  /**
   * Change fields. It shows at once; the promise settles when the server has acknowledged it (with a revision) or
   * refused it (with a `PreferencesError`; the change is undone). Nobody needs to await it.
   */
  set<N extends keyof P>(namespace: N, fields: Patch<P[N]>): Promise<number>;
  /** Take fields, a namespace, or everything back to the defaults; shows when the server has answered. */
  reset<N extends keyof P>(namespace?: N, ...fields: (keyof P[N])[]): Promise<number>;
  /** Listen; returns what ends it. */
  on<E extends keyof Events<P>>(event: E, listener: (event: Events<P>[E]) => void): () => void;
  readonly status: Status;
  /** By which transport the state comes; `null` while not online. */
  readonly transport: Transport | null;
  /** How many edits the server has not acknowledged yet. */
  readonly pending: number;
  /** The newest revision that is known. */
  readonly revision: number;
  /** Milliseconds that the last acknowledged write or ping took. */
  readonly latency: number | null;
  /** Why it is not online; `null` while it is. */
  readonly error: PreferencesError | null;
  /** End it. Edits that were not acknowledged stay stored; their promises reject with the code `closed`. */
  close(): void;
}

/**
 * Connect. Resolves with the first state: from the server, or from the stored copy while that is out of reach.
 *
 * @throws {PreferencesError} Where there is no stored copy: the URL is wrong, the token is refused, or nothing answers.
 */
export function connect<P extends object = AnyPreferences>(options?: ConnectOptions): Promise<Preferences<P>>;
