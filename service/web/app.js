// The page: it calls the public API like any other client.

const find = (id) => document.getElementById(id);
const percent = (share, places = 1) => `${(100 * share).toFixed(places)}\u00a0%`;
const JOBS_EVERY_MS = 2000;

/** An element with attributes and children; strings become text, never markup. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

function bar(share) {
  const fill = element("i");
  fill.style.width = `${100 * Math.min(share, 1)}%`;
  return element("span", { class: "bar", "aria-hidden": "true" }, fill);
}

/** The JSON of an answer; a problem document becomes an Error that says what to do. */
async function api(path, options) {
  const answer = await fetch(path, options);
  const body = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error(body?.detail ?? `${answer.status} ${answer.statusText}`);
  return body;
}

const asJson = (body) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

/** Run an action of the user's; what goes wrong is shown, and nothing else changes. */
async function attempt(action) {
  find("problem").hidden = true;
  try {
    await action();
  } catch (error) {
    find("problem").textContent = error.message;
    find("problem").hidden = false;
  }
}

// Models

let chosen = null; // the model that is composed
let asked = null; // reference or composition id that predicts
let lastImage = null;

async function showModels() {
  const { models } = await api("/models");
  find("no-models").hidden = models.length > 0;
  find("models").replaceChildren(...models.map((model) => element("li", {}, card(model))));
}

function card(model) {
  const facts = [model.kind, model.architecture, `${model.classes.length} classes`];
  if (model.accuracy != null) facts.push(`accuracy ${percent(model.accuracy)}`);
  return element(
    "button",
    { type: "button", "aria-pressed": String(chosen?.digest === model.digest), onclick: () => attempt(() => choose(model)) },
    element("strong", {}, model.reference),
    element("span", {}, facts.join(" · ")),
  );
}

async function choose(model) {
  chosen = model;
  askWith(model.reference, model.reference);
  await showModels();
  const modular = model.threshold != null;
  find("compose").hidden = false;
  find("compose-form").hidden = !modular;
  find("compose-hint").textContent = modular
    ? `Choose classes of ${model.reference}; each shows the part of the model that it needs alone.`
    : `${model.reference} is ${model.kind} and has no modules: decompose it first, or predict with it as it is.`;
  find("compose-answer").replaceChildren();
  if (!modular) return;
  const { modules } = await api(`/models/${encodeURIComponent(model.reference)}/modules`);
  find("threshold").value = model.threshold;
  find("classes").replaceChildren(
    element("legend", {}, "Classes"),
    ...modules.map((module) =>
      element(
        "label",
        {},
        element("input", { type: "checkbox", name: "class", value: module.class }),
        module.class,
        module.size == null ? null : element("small", {}, percent(module.size, 0)),
      ),
    ),
  );
}

// Compose

async function compose() {
  const classes = [...document.querySelectorAll("#classes input:checked")].map((box) => box.value);
  const made = await api(
    "/compose",
    asJson({ model: chosen.reference, classes, threshold: find("threshold").value.trim() || null }),
  );
  const kept = made.kept_parameters / made.original_parameters;
  find("compose-answer").replaceChildren(
    element("p", {}, bar(kept), element("br"), `Keeps ${percent(kept)} of the parameters (${made.kept_parameters.toLocaleString("en")}) `,
      `and ${percent(made.kept_flops / made.original_flops)} of the operations`,
      made.compose_ms == null ? "." : `, composed in ${made.compose_ms.toFixed(1)} ms.`),
    element("p", {}, "Download the model: ", ...downloads(made.links.weights), element("code", {}, made.id.slice(0, 16))),
  );
  askWith(made.id, `${chosen.reference} for ${made.classes.join(", ")}`);
}

function downloads(weights) {
  const formats = { safetensors: "safetensors", onnx: "ONNX", pt2: "pt2" };
  return Object.entries(formats).flatMap(([format, shown]) => [
    element("a", { href: `${weights}?format=${format}`, download: true }, shown), " · ",
  ]);
}

// Predict

function askWith(reference, words) {
  asked = reference;
  find("predict").hidden = false;
  find("predict-model").textContent = words;
  find("probabilities").replaceChildren();
  if (lastImage) attempt(() => predict(lastImage));
}

async function predict(file) {
  lastImage = file;
  find("preview").src = URL.createObjectURL(file);
  find("preview").onload = (event) => URL.revokeObjectURL(event.target.src);
  find("preview").hidden = false;
  find("drop-text").textContent = file.name;
  find("probabilities").replaceChildren();
  const body = new FormData();
  body.append("model", asked);
  body.append("image", file);
  const { classes, predictions } = await api("/predict", { method: "POST", body });
  const ranked = classes
    .map((label, place) => [label, predictions[0].probabilities[place]])
    .sort((one, other) => other[1] - one[1])
    .slice(0, 10);
  find("probabilities").replaceChildren(
    ...ranked.map(([label, share]) => element("li", {}, element("span", {}, label), bar(share), percent(share))),
  );
}

// Jobs

async function showJobs() {
  const { jobs } = await api("/jobs");
  find("no-jobs").hidden = jobs.length > 0;
  find("jobs").hidden = jobs.length === 0;
  find("jobs").tBodies[0].replaceChildren(...jobs.slice(0, 20).map(row));
  return jobs.some((job) => job.state === "running" || job.state === "queued");
}

function row(job) {
  const unfinished = job.state === "queued" || job.state === "running";
  const cancel = element(
    "button",
    { type: "button", onclick: () => attempt(() => api(`/jobs/${job.id}`, { method: "DELETE" })) },
    "Cancel",
  );
  return element(
    "tr",
    {},
    element("td", {}, element("code", {}, job.id.slice(0, 8))),
    element("td", {}, job.kind),
    element("td", {}, job.cancel_requested && unfinished ? "stopping" : job.state),
    element("td", {}, progress(job)),
    element("td", {}, unfinished && !job.cancel_requested ? cancel : null),
  );
}

function progress(job) {
  if (job.error) return job.error;
  if (job.waiting) return job.waiting;
  if (job.state === "succeeded") return job.result?.models?.join(", ") ?? "";
  const now = job.progress ?? {};
  if (now.epochs) {
    const words = [`epoch ${now.epoch} of ${now.epochs}`];
    if (now.loss != null) words.push(`loss ${now.loss.toFixed(3)}`);
    if (now.remaining_s != null) words.push(`${Math.ceil(now.remaining_s)} s left`);
    return element("span", {}, bar(now.epoch / now.epochs), ` ${words.join(" · ")}`);
  }
  return now.stage ?? "";
}

async function watch() {
  let wasBusy = false;
  for (;;) {
    if (!document.hidden) {
      try {
        const busy = await showJobs();
        if (wasBusy && !busy) await showModels();
        wasBusy = busy;
        find("readiness").textContent = "";
      } catch (error) {
        find("readiness").textContent = error.message;
      }
    }
    await new Promise((resume) => setTimeout(resume, JOBS_EVERY_MS));
  }
}

find("compose-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(compose);
});
find("image").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) attempt(() => predict(file));
});
for (const name of ["dragover", "dragleave", "drop"]) {
  find("drop").addEventListener(name, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("over", name === "dragover");
    const [file] = name === "drop" ? event.dataTransfer.files : [];
    if (file) attempt(() => predict(file));
  });
}

attempt(showModels);
watch();
