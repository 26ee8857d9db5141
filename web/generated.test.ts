// What `prefsync.typescript` makes of a host's models; compiled, never run. See tests/web/test_client.py.

import { connect, type Preferences } from "../src/prefsync/web/client.js";
import type { Plugins, UserPreferences } from "./generated/everything";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const yes = <_T extends true>(): void => {};

export async function typed(prefs: Preferences<UserPreferences>): Promise<void> {
  yes<Same<typeof prefs, Awaited<ReturnType<typeof connect<UserPreferences>>>>>();
  const { theme, size, mixed, maybe, pair, numbers, volumes, tree, fontSize } = prefs.get("everything");
  yes<Same<typeof theme, "system" | "light" | "dark">>();
  yes<Same<typeof size, 1 | 2>>();
  yes<Same<typeof mixed, "a" | 1 | true | null>>();
  yes<Same<typeof maybe, number | null>>();
  yes<Same<typeof pair, readonly [number, string]>>();
  yes<Same<typeof numbers, readonly number[]>>();
  yes<Same<typeof volumes.left, number | undefined>>();
  yes<Same<typeof fontSize, number>>();
  yes<Same<keyof Plugins, string | number>>();
  void tree.branches?.[0]?.branches?.[0]?.name;

  await prefs.set("everything", { theme: "dark", size: 2, mixed: null, either: ["a", 1], pair: [2, "two"] });
  await prefs.set("everything", { levels: { low: 1 }, flags: { on: true }, span: [1], tree: { branches: null } });
  await prefs.set("everything", { shapes: [{ kind: "line", through: [[0, 1]] }, {}], loose: { more: [1] } });
  await prefs.set("everything", { anything: { at: ["all", null] }, price: "1.5", fontSize: null });
  await prefs.set("plugins", { spelling: { language: "en" }, gone: null });
  await prefs.reset("everything", "theme", "fontSize");

  // @ts-expect-error no such value
  await prefs.set("everything", { theme: "pink" });
  // @ts-expect-error no such value of an enumeration
  await prefs.set("everything", { level: "medium" });
  // @ts-expect-error no such number
  await prefs.set("everything", { size: 3 });
  // @ts-expect-error no such type
  await prefs.set("everything", { fontSize: "14" });
  // @ts-expect-error on the wire, it has another name
  await prefs.set("everything", { size_of_font: 14 });
  // @ts-expect-error too few
  await prefs.set("everything", { pair: [1] });
  // @ts-expect-error no such name
  await prefs.set("everything", { volumes: { middle: 1 } });
  // @ts-expect-error a line goes through points
  await prefs.set("everything", { shapes: [{ kind: "line" }] });
  // @ts-expect-error no JSON
  await prefs.set("plugins", { when: () => 1 });
  // @ts-expect-error no such namespace
  prefs.get("plugin");
}
