import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { prefs, usePreferences, useStatus } from "./prefs";
import type { Appearance, Notifications } from "./prefsync/preferences";
import "./style.css";

// Each choice of the model, with its words; the compiler finds one that is missing, and one that is none.
const themes: Record<Appearance["theme"], string> = { system: "As the device", light: "Light", dark: "Dark" };
const digests: Record<Notifications["digest"], string> = { off: "Never", daily: "Each day", weekly: "Each week" };

function Settings() {
  const { theme, accent, font_size } = usePreferences("appearance");
  const { email, digest } = usePreferences("notifications");
  const status = useStatus();
  const [problem, setProblem] = useState("");

  useEffect(() => prefs.on("error", (error) => setProblem(error.message)), []);
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    document.documentElement.style.setProperty("--accent", accent);
  }, [theme, accent]);

  return (
    <main onChange={() => setProblem("")}>
      <h1>Preferences</h1>
      <Choice label="Theme" of={themes} value={theme} onChoose={(theme) => prefs.set("appearance", { theme })} />
      <label>
        Accent
        <input type="color" value={accent} onChange={({ target }) => prefs.set("appearance", { accent: target.value })} />
      </label>
      <label>
        Font size
        {/* Written when it is whole, not at each key: what is typed on the way to 16 is a 1, which is refused. */}
        <input
          key={font_size}
          type="number"
          defaultValue={font_size}
          onBlur={({ target }) => prefs.set("appearance", { font_size: target.valueAsNumber || null })}
        />
      </label>
      <label>
        Notify by mail
        <input
          type="checkbox"
          checked={email}
          onChange={({ target }) => prefs.set("notifications", { email: target.checked })}
        />
      </label>
      <Choice label="Summary" of={digests} value={digest} onChoose={(digest) => prefs.set("notifications", { digest })} />
      <p>
        <output>{status}</output> <button onClick={() => prefs.reset()}>Reset</button>
      </p>
      <p role="alert">{problem}</p>
    </main>
  );
}

function Choice<T extends string>(props: { label: string; of: Record<T, string>; value: T; onChoose: (value: T) => void }) {
  return (
    <label>
      {props.label}
      <select value={props.value} onChange={({ target }) => props.onChoose(target.value as T)}>
        {Object.entries<string>(props.of).map(([value, words]) => (
          <option key={value} value={value}>
            {words}
          </option>
        ))}
      </select>
    </label>
  );
}

createRoot(document.querySelector("#root")!).render(
  <StrictMode>
    <Settings />
  </StrictMode>,
);
