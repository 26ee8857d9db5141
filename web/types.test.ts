// What TypeScript users see; compiled, never run.

import { connect, PreferencesError, type ChangeEvent, type Frozen, type Preferences } from "../src/prefsync/web/client.js";
import * as declared from "../src/prefsync/web/client.js";
import * as sources from "../src/prefsync/web/client/index.js";

// The declarations are of what is there.
export const same: typeof declared = sources;

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const yes = <_T extends true>(): void => {};

interface Mine {
  appearance: { theme: "system" | "light" | "dark"; font_size: number };
  editor: { rulers: number[]; options: { wrap: boolean } };
}

export async function typed(storage: Storage): Promise<void> {
  const prefs = await connect<Mine>({
    token: async () => "token",
    url: new URL("https://app.example/preferences"),
    storage,
    fetch,
    WebSocket,
    BroadcastChannel,
    locks: navigator.locks,
    transports: ["sse", "poll"],
  });
  yes<Same<typeof prefs, Preferences<Mine>>>();
  const all: Frozen<Mine> = prefs.get();
  yes<Same<typeof all.editor.rulers, readonly number[]>>();
  const theme: "system" | "light" | "dark" = prefs.get("appearance").theme;
  const rulers: readonly number[] = prefs.get().editor.rulers;
  const revision: number = await prefs.set("appearance", { theme: "dark" });
  await prefs.set("appearance", { font_size: null });
  await prefs.set("editor", { rulers: [80], options: { wrap: null } });
  await prefs.reset("appearance", "theme", "font_size");
  await prefs.reset("appearance");
  await prefs.reset();
  const off: () => void = prefs.on("change", (event: ChangeEvent<Mine>) => {
    const changed: "system" | "light" | "dark" | undefined = event.changed.appearance?.theme;
    return [changed, event.namespaces.includes("editor"), event.source == "rollback"];
  });
  prefs.on("status", ({ status, transport, pending, latency, error }) => [status == "online", transport, pending, latency, error?.code]);
  prefs.on("error", (error) => (error instanceof PreferencesError ? error.errors.map(({ pointer }) => pointer) : []));
  off();
  prefs.close();
  void [theme, rulers, revision];

  // @ts-expect-error no such namespace
  prefs.get("apearance");
  // @ts-expect-error no such field
  await prefs.set("appearance", { them: "dark" });
  // @ts-expect-error no such value
  await prefs.set("appearance", { theme: "pink" });
  // @ts-expect-error what is given out is frozen
  prefs.get("appearance").theme = "dark";
  // @ts-expect-error all the way down
  prefs.get("editor").rulers.push(1);
  // @ts-expect-error no such event
  prefs.on("changed", () => {});
  // @ts-expect-error a status is only read
  prefs.status = "online";
}

export async function untyped(): Promise<void> {
  const prefs = await connect();
  const anything: unknown = prefs.get("plugins").anything;
  await prefs.set("plugins", { anything: { at: ["all", null] } });
  void anything;
}
