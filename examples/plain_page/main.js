import { connect } from "../preferences/client.js";

const { user } = await (await fetch("me")).json();
document.querySelector(user ? "#preferences" : "#sign-in").hidden = false;
if (user) await bind(document.querySelector("#preferences"));

/** Show preferences in a form, and write what is changed there. */
async function bind(form) {
  const prefs = await connect({ user });
  const fields = [...form.elements].filter((field) => field.name);

  function show() {
    for (const field of fields) {
      const [namespace, name] = field.name.split(".");
      const value = prefs.get(namespace)[name];
      if (field.type == "checkbox") field.checked = value;
      else field.value = value;
    }
    const { theme, accent } = prefs.get("appearance");
    document.documentElement.dataset.theme = theme;
    document.documentElement.style.setProperty("--accent", accent);
  }

  form.addEventListener("change", ({ target: field }) => {
    const [namespace, name] = field.name.split(".");
    const value = field.type == "checkbox" ? field.checked : field.type == "number" ? field.valueAsNumber : field.value;
    problem.textContent = "";
    prefs.set(namespace, { [name]: value }); // shows at once, waits while offline; a refusal is told below
  });

  const [status, problem] = ["#status", "#problem"].map((id) => form.querySelector(id));
  const tell = () => (status.textContent = prefs.pending ? `${prefs.status}, ${prefs.pending} unsent` : prefs.status);
  prefs.on("change", show);
  prefs.on("status", tell);
  prefs.on("error", (error) => (problem.textContent = error.message));
  show();
  tell();
}
