// Made by prefsync from the app's models: do not edit, make it anew.

/** Values by field, by namespace: what `connect` of the browser client takes. */
export interface UserPreferences {
  appearance: Appearance;
  notifications: Notifications;
}

/** How the app looks. */
export interface Appearance {
  /**
   * Light, dark, or as the device is set.
   * @default "system"
   */
  theme: "system" | "light" | "dark";
  /**
   * The colour of what can be clicked, as #rrggbb.
   * Rules: matches ^#[0-9A-Fa-f]{6}$.
   * @default "#3366ff"
   */
  accent: string;
  /**
   * In points.
   * Rules: at least 8, at most 72.
   * @default 14
   */
  font_size: number;
  /**
   * How much fits on a page.
   * @default "comfortable"
   */
  density: "comfortable" | "compact";
}

/** What the app may interrupt for. */
export interface Notifications {
  /**
   * By mail.
   * @default true
   */
  email: boolean;
  /**
   * On the device.
   * @default false
   */
  push: boolean;
  /**
   * How often a summary is sent.
   * @default "weekly"
   */
  digest: "off" | "daily" | "weekly";
  /**
   * Channels that never notify.
   * Rules: at most 100 items.
   * @default []
   */
  muted_channels: string[];
}
