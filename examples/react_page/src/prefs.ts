// The client, typed by the app's models, and a hook that shows what it has.

import { useSyncExternalStore } from "react";
import type { Frozen, Preferences } from "./prefsync/client";
import type { UserPreferences } from "./prefsync/preferences";

// Loaded from the app, so that client and server are of one version; a bundled copy of client.js does as well.
const mount = new URL("/preferences/client.js", location.href).href;
const { connect } = (await import(/* @vite-ignore */ mount)) as typeof import("./prefsync/client");

const user = new URLSearchParams(location.search).get("user") ?? "alice";

/** Stands for what your app has: whatever gets an access token. The client calls it again before one runs out. */
async function token(): Promise<string> {
  return (await fetch(`/token/${encodeURIComponent(user)}`, { method: "POST" })).json();
}

export const prefs: Preferences<UserPreferences> = await connect<UserPreferences>({ token });

const onChange = (listener: () => void) => prefs.on("change", listener);
const onStatus = (listener: () => void) => prefs.on("status", listener);

/** A namespace's values. They are frozen, and the same object until one of them changes: React renders just then. */
export function usePreferences<N extends keyof UserPreferences>(namespace: N): Frozen<UserPreferences[N]> {
  return useSyncExternalStore(onChange, () => prefs.get(namespace));
}

/** Where the client stands: `online`, `offline` and so on. */
export function useStatus(): Preferences["status"] {
  return useSyncExternalStore(onStatus, () => prefs.status);
}
