import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// While `npm run dev` serves the page, the app behind it is on a port of its own.
const app = { target: "http://127.0.0.1:8000", ws: true };

export default defineConfig({
  plugins: [react()],
  server: { proxy: { "/preferences": app, "/token": app } },
});
