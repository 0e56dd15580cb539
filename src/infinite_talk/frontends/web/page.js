// The part of the page that only a browser can do: language, theme, focus, boxes on the picture, a growing video.
(() => {
  "use strict";
  const KEY = "infinite_talk_language";
  const stored = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const store = (name, value) => { try { localStorage.setItem(name, value); } catch { /* private window */ } };

  // Language: what was chosen, else what the browser asks for. Gradio asks the navigator; it hears the same answer.
  const asked = [...(navigator.languages || []), navigator.language || ""].map((tag) => tag.toLowerCase().split("-")[0]);
  const chosen = stored(KEY);
  const language = ["en", "zh"].includes(chosen) ? chosen : asked.find((tag) => ["en", "zh"].includes(tag)) || "en";
  const locale = language === "zh" ? "zh-CN" : "en";
  Object.defineProperty(navigator, "language", { get: () => locale, configurable: true });
  Object.defineProperty(navigator, "languages", { get: () => [locale], configurable: true });
  document.documentElement.lang = locale;
  const say = (name) => { document.cookie = `${KEY}=${name}; path=/; max-age=31536000; SameSite=Strict`; };
  say(language);

  // Theme: what was chosen, else the system's. Gradio reads it from the address.
  const themes = { dark: "dark", light: "light" };
  const paint = (name) => document.body?.classList.toggle("dark", name === "dark");
  const system = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const theme = () => themes[stored("infinite_talk_theme")] || system();
  const keep = new MutationObserver(() => {
    if (document.body.classList.contains("dark") !== (theme() === "dark")) paint(theme());
  });
  document.addEventListener("DOMContentLoaded", () => {
    paint(theme());
    keep.observe(document.body, { attributes: true, attributeFilter: ["class"] });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => paint(theme()));

  document.addEventListener("click", (event) => {
    const target = event.target.closest?.("[data-language], [data-theme-switch]");
    if (!target) return;
    if (target.dataset.language) {
      store(KEY, target.dataset.language);
      say(target.dataset.language);
      if (target.dataset.language !== language) location.reload();
    } else {
      store("infinite_talk_theme", theme() === "dark" ? "light" : "dark");
      paint(theme());
    }
  });

  // Times as the visitor's own clock has them; the server says them in UTC.
  const clock = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
  const localise = () => document.querySelectorAll("time[datetime]:not([data-own])").forEach((time) => {
    time.dataset.own = "";
    time.textContent = clock.format(new Date(time.dateTime));
  });
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(localise).observe(document.body, { childList: true, subtree: true });
  });

  // Text fields that the page fills in itself.
  const fill = (id, text) => {
    const field = document.querySelector(`#${id} textarea, #${id} input`);
    if (!field) return;
    const proto = field.tagName === "TEXTAREA" ? HTMLTextAreaElement : HTMLInputElement;
    Object.getOwnPropertyDescriptor(proto.prototype, "value").set.call(field, text);
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.dispatchEvent(new Event("change", { bubbles: true }));
  };

  // Boxes on the picture: press, pull, let go. The field beside it holds the numbers and takes the keyboard.
  let pulling = null;
  const who = () => (document.querySelector("#draw_for input:checked")?.value === "second" ? "second" : "first");
  const place = (event, frame) => {
    const area = frame.getBoundingClientRect();
    const share = (at, from, size) => Math.min(1, Math.max(0, (at - from) / size));
    return [share(event.clientX, area.left, area.width), share(event.clientY, area.top, area.height)];
  };
  const draw = (frame, person, [left, top, right, bottom]) => {
    const box = frame.querySelector(`.it-box-${person}`);
    if (!box) return;
    Object.assign(box.style, {
      display: "block", left: `${left * 100}%`, top: `${top * 100}%`,
      width: `${(right - left) * 100}%`, height: `${(bottom - top) * 100}%`,
    });
  };
  const span = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
  document.addEventListener("pointerdown", (event) => {
    const frame = event.target.closest?.(".it-frame.it-drawable");
    if (!frame || event.button !== 0) return;
    event.preventDefault();
    pulling = { frame, start: place(event, frame), person: who() };
  });
  document.addEventListener("pointermove", (event) => {
    if (pulling) draw(pulling.frame, pulling.person, span(pulling.start, place(event, pulling.frame)));
  });
  document.addEventListener("pointerup", (event) => {
    if (!pulling) return;
    const { frame, start, person } = pulling;
    const [left, top, right, bottom] = span(start, place(event, frame));
    pulling = null;
    if ((right - left) * (bottom - top) < 0.0004) return; // a mere click
    const [width, height] = [Number(frame.dataset.width), Number(frame.dataset.height)];
    const numbers = [left * width, top * height, right * width, bottom * height];
    fill(`box_${person}`, numbers.map((number) => Math.round(number)).join(","));
  });
  const outline = (frame, person, open) => {
    const text = document.querySelector(`#box_${person} textarea, #box_${person} input`)?.value || "";
    const numbers = text.split(/[,，、]/).map(Number);
    const [width, height] = [Number(frame.dataset.width), Number(frame.dataset.height)];
    const good = open && numbers.length === 4 && numbers.every(Number.isFinite)
      && numbers[0] < numbers[2] && numbers[1] < numbers[3];
    const box = frame.querySelector(`.it-box-${person}`);
    if (good) draw(frame, person, numbers.map((number, n) => number / (n % 2 ? height : width)));
    else if (box) box.style.display = "none";
  };

  // A growing video: when more parts are finished, load it again and stay where one was looking.
  const refresh = () => {
    const video = document.querySelector("video[data-preview]");
    const told = document.querySelector("[data-finished-windows]");
    if (!video || !told) return;
    const have = Number(video.dataset.windows || 0), now = Number(told.dataset.finishedWindows);
    if (now <= have || !video.dataset.preview) return;
    const watching = !video.paused && !video.ended;
    if (watching && video.duration - video.currentTime > 0.5) return; // let the viewer come to the end first
    const [time, played] = [video.currentTime, video.ended || watching];
    video.dataset.windows = String(now);
    video.src = `${video.dataset.preview}?windows=${now}`;
    video.addEventListener("loadedmetadata", () => {
      video.currentTime = have ? Math.min(time, video.duration) : 0;
      if (played && have) video.play().catch(() => {});
    }, { once: true });
    video.load();
  };
  // The frame may be drawn anew, and the fields hidden: what it shows follows them.
  const follow = () => {
    const frame = document.querySelector(".it-frame");
    if (!frame || pulling) return;
    const open = document.querySelector("#box_first")?.offsetParent != null;
    frame.classList.toggle("it-drawable", open);
    for (const person of ["first", "second"]) outline(frame, person, open);
  };
  setInterval(() => { refresh(); follow(); }, 1000);

  // Does the server answer? Said at once when it does not, and until it does. What was filled in stays.
  const said = (there) => document.querySelectorAll(".it-offline").forEach((note) => { note.hidden = there; });
  const ask = async () => {
    const there = document.hidden || await fetch("/health", { cache: "no-store" }).then(() => true, () => false);
    said(there);
    setTimeout(ask, there ? 4000 : 1000);
  };
  setTimeout(ask, 4000);
})();
